"""``btrimg mkfs``: make an empty filesystem."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON, source_date_epoch, warn
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.errors import BtrimgError, OptionError
from btrimg.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.ondisk.inodes import Timespec
    from btrimg.write.options import Options

_NS = 10**9


@command(
    Argument("devices", "DEVICE...", str, many=True, is_path=True, optional=True),
    Option("byte_count", ("-b", "--byte-count"), "Bytes of each device; a file is made as large.", parse_size, "SIZE"),
    Option("data", ("-d", "--data"), "Profile of data: single, dup, raid0, raid1, raid1c3, …", str, "PROFILE"),
    Option("metadata", ("-m", "--metadata"), "Profile of metadata.", str, "PROFILE"),
    Option("mixed", ("-M", "--mixed"), "Data and metadata in the same block groups."),
    Option("nodesize", ("-n", "--nodesize"), "Bytes of a tree block, 4K to 64K.  [usual: 16K]", parse_size, "SIZE"),
    Option("sectorsize", ("-s", "--sectorsize"), "Bytes of a sector, 4K to 64K.", parse_size, "SIZE", 4096),
    Option("csum", ("--csum", "--checksum"), "Checksum: crc32c, xxhash, sha256 or blake2.", str, "TYPE", "crc32c"),
    Option(
        "features", ("-O", "--features"), "Features, ^ takes one away; list-all lists them.", str, "LIST", many=True
    ),
    Option("label", ("-L", "--label"), "Label of the filesystem.", str, "LABEL"),
    Option("uuid", ("-U", "--uuid"), "Uuid of the filesystem.", str, "UUID"),
    Option("device_uuid", ("--device-uuid",), "Uuid of the device, where there is one device.", str, "UUID"),
    Option("seed", ("--seed",), "What uuids come from, that they are the same again.", str, "TEXT"),
    Option("force", ("-f", "--force"), "Write over what is there."),
    JSON,
)
def mkfs(devices: tuple[str, ...], seed: str | None, force: bool, as_json: bool, **choices: Any) -> int:
    """Make an empty btrfs on DEVICE..., files or block devices, as mkfs.btrfs does. Needs no root for files.

    \b
      btrimg mkfs disk.img -b 1G
      btrimg mkfs disk.img -b 256M -L boot -O ^block-group-tree
      btrimg mkfs a.img b.img c.img -b 500M -d raid5 -m raid1c3 --csum xxhash
      SOURCE_DATE_EPOCH=0 btrimg mkfs disk.img -b 1G --seed fixture
      btrimg mkfs -O list-all

    Files are sparse, and take their names when they are complete. What is in use is never written to; an existing
    file, or a block device that is not blank, only with --force.

    Defaults are those of mkfs.btrfs 6.19: metadata twice, on two devices where there are several, and a block group
    tree, for Linux 6.1 and later (older ones need -O ^block-group-tree). Uuids are random and times are now; with
    --seed uuids follow from it, and times are SOURCE_DATE_EPOCH or the start of 1970, so the same options give the
    same bytes.

    JSON, one object: "fsid", "label", "nodesize", "sectorsize", "csum", "data", "metadata", "mixed", "features", and
    "devices" with "devid", "device", "size" and "uuid".
    """
    from btrimg.volume.fresh import fresh_devices
    from btrimg.write.mkfs import make_filesystem
    from btrimg.write.options import new_options
    from btrimg.write.uuids import seeded

    words = [word for each in choices.pop("features") for word in each.split(",")]
    if "list-all" in words:
        _list_features()
        return 0
    clean_up_when_stopped()
    if not devices:
        raise BtrimgError("name a file or block device to make the filesystem on")
    byte_count, fsid = choices.pop("byte_count"), _uuid(choices.pop("uuid"))
    device_uuid = _uuid(choices.pop("device_uuid"))
    if device_uuid and len(devices) > 1:
        raise OptionError("--device-uuid is for one device: leave it out")
    label = os.fsencode(choices.pop("label") or "")
    uuids = seeded(os.urandom(32) if seed is None else os.fsencode(seed))
    sizes = [_size(device, byte_count) for device in devices]
    options = new_options(sizes, uuids, features=words, label=label, fsid=fsid, device_uuids=[device_uuid], **choices)
    with (
        fresh_devices(devices, [device.size for device in options.devices], force=force) as fresh,
        make_filesystem(options, fresh.devices, fresh.sink, now=_now(seed), uuids=uuids, warn=warn) as transaction,
    ):
        transaction.commit()
    _show(options, devices, as_json=as_json)
    return 0


def _list_features() -> None:
    from btrimg.render.text import table
    from btrimg.write.features import FEATURES

    rows = [(f.name, f.since, "yes" if f.default else "no", f.text) for f in FEATURES]
    for line in table(("FEATURE", "LINUX", "USUAL", "WHAT IT MEANS"), rows, frozenset({0, 2, 3})):
        print(line)


def _uuid(text: str | None) -> bytes | None:
    from uuid import UUID

    try:
        return UUID(text).bytes if text else None
    except ValueError:
        raise OptionError(f"{text!a} is no uuid: write it as 01234567-89ab-cdef-0123-456789abcdef") from None


def _size(path: str, byte_count: int | None) -> int:
    """Return the bytes of a device: those asked for, else those it has."""
    from btrimg.volume.device import Device

    if byte_count is not None:
        return byte_count
    if not os.path.exists(path):
        raise OptionError(f"{path!a} does not exist: say with -b how large to make it")
    with Device(path) as device:
        return device.size


def _now(seed: str | None) -> Timespec:
    from btrimg.ondisk.inodes import Timespec

    epoch = source_date_epoch()
    if epoch is not None or seed is not None:
        return Timespec(epoch or 0, 0)
    return Timespec(*divmod(time.time_ns(), _NS))


def _show(options: Options, paths: Sequence[str], *, as_json: bool) -> None:
    """Tell what was made."""
    from btrimg.ondisk.csum import algorithm
    from btrimg.render.answers import json_line, name
    from btrimg.units import format_size
    from btrimg.volume.profiles import PROFILES
    from btrimg.volume.superblocks import uuid_text
    from btrimg.write.features import names_of

    fsid, features = uuid_text(options.fsid), names_of(options.incompat, options.compat_ro)
    if as_json:
        answer: dict[str, Any] = {"fsid": fsid, "label": name(options.label), "nodesize": options.nodesize}
        answer |= {"sectorsize": options.sectorsize, "csum": algorithm(options.csum).name}
        answer |= {"data": PROFILES[options.data].name, "metadata": PROFILES[options.metadata].name}
        answer |= {"mixed": options.mixed, "features": features}
        answer["devices"] = [
            {"devid": each.devid, "device": name(os.fsencode(path)), "size": each.size, "uuid": uuid_text(each.uuid)}
            for each, path in zip(options.devices, paths, strict=True)
        ]
        print(json_line(answer))
        return
    for each, path in zip(options.devices, paths, strict=True):
        print(f"{path}: device {each.devid} of {fsid}, {format_size(each.size)}")
    print(f"data {PROFILES[options.data].name}, metadata {PROFILES[options.metadata].name}; {', '.join(features)}")

"""``btrimg inspect dump-super``: the superblocks of devices."""

from __future__ import annotations

import os

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON
from btrimg.cli.terminal import say
from btrimg.errors import DeviceError
from btrimg.ondisk.constants import MAGIC, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.units import parse_size
from btrimg.volume.device import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def mirror_number(text: str) -> int:
    """Return 0, 1 or 2; raises ValueError."""
    if text not in ("0", "1", "2"):
        raise ValueError(f"{text!r} is none of 0, 1, 2")
    return int(text)


@command(
    Argument("devices", "DEVICE...", str, many=True, is_path=True),
    Option("full", ("-f", "--full"), "Show system chunks and backup roots too."),
    Option("every", ("-a", "--all"), "Show all copies that lie within the device."),
    Option("mirror", ("-s", "--super"), "Show this copy.", mirror_number, "0|1|2"),
    Option("force", ("-F", "--force"), "Show what stands there even if it has no btrfs magic."),
    Option("bytenr", ("--bytenr",), "Show what stands at this byte of the device.", parse_size, "OFFSET"),
    JSON,
    name="dump-super",
)
def dump_super(
    devices: tuple[str, ...],
    full: bool,
    every: bool,
    mirror: int | None,
    force: bool,
    bytenr: int | None,
    as_json: bool,
) -> int:
    """Show the superblock of every DEVICE, a file or a block device, whatever else is wrong with it.

    \b
      btrimg inspect dump-super disk.img
      btrimg inspect dump-super -f -s 1 /dev/sdb
      btrimg inspect dump-super -a --json disk.img | jq '[.offset, .generation, .valid.csum]'

    JSON, one object per superblock: "device", "offset", then the fields as they stand on disk (integers raw, uuids as
    uuids, other bytes in hexadecimal, "label" up to its first NUL), "sys_chunk_array" (chunks, each with its "key"),
    "super_roots" (the backup roots), "names" (what "csum_type", "flags", "compat_ro_flags", "incompat_flags" and
    "magic" are called) and "valid" ("csum", null for an unknown type; "magic"; "dev_item_fsid").

    Exit code 1 when a superblock asked for has no btrfs magic or cannot be read.
    """
    shown_all = True
    for path in devices:
        with Device(path) as device:
            for offset in _offsets(device, every, mirror, bytenr):
                shown_all &= _show(device, offset, full=full, force=force, as_json=as_json)
    return 0 if shown_all else 1


def _offsets(device: Device, every: bool, mirror: int | None, bytenr: int | None) -> Sequence[int]:
    if bytenr is not None:
        return [bytenr]
    if every:
        return [offset for offset in SUPERBLOCK_OFFSETS if offset + SUPERBLOCK_SIZE <= device.size]
    return [SUPERBLOCK_OFFSETS[mirror or 0]]


def _show(device: Device, offset: int, *, full: bool, force: bool, as_json: bool) -> bool:
    """Write one superblock, and return whether it could be."""
    from btrimg.ondisk.superblock import Superblock
    from btrimg.render import answers
    from btrimg.render import dump_super as render

    try:
        superblock = Superblock.unpack(device.pread(SUPERBLOCK_SIZE, offset))
    except DeviceError as error:
        say("", "red", str(error))
        return False
    if superblock.magic != MAGIC and not force:
        say("", "red", f"{device.path}: no btrfs magic at {offset} (--force shows what is there)")
        return False
    if as_json:
        head = {"device": answers.name(os.fsencode(device.path)), "offset": offset}
        print(answers.json_line(head | render.as_dict(superblock)))
    else:
        print(*render.heading(offset, device.path), *render.lines(superblock, full=full), "", sep="\n")
    return True

"""Every copy of the superblock on every device, and the system chunks that the one in use holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.ondisk.chunks import sys_chunks
from btrimg.ondisk.constants import U64_MAX
from btrimg.volume.superblocks import metadata_fsid, read_copies, uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.check.makers import Scanned
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.device import Device
    from btrimg.volume.superblocks import SuperCopy

    Columns = dict[str, NDArray[Any]]
    Row = dict[str, Any]

#: Numbers that relation ``superblocks`` has under their own names.
NUMBERS = (*("generation", "flags", "root", "chunk_root", "log_root", "total_bytes", "bytes_used", "num_devices"),)
ITEM_NUMBERS = ("devid", "total_bytes", "bytes_used")  #: likewise, of the device item, as ``item_…``
_ADDRESSES = ("root", "chunk_root", "log_root")
_FEWEST_BLOCKS = 6  # root, extent, chunk, device, checksum and file tree
_FORMER_STRIPE_SIZE = 4096  # that btrfs-progs wrote whatever the sector size
#: What a commit writes differently into each copy, and what a sync of a log writes into the first one only.
_OWN = {"csum", "bytenr", "log_root", "log_root_transid", "log_root_level"}


def superblocks(scanned: Scanned) -> Columns:
    """Return the columns of ``superblocks`` of check/schema.py."""
    image = scanned.image
    ours = metadata_fsid(image.superblock)
    rows = [row for devid, device in sorted(image.volume.devices.items()) for row in _rows_of(devid, device, ours)]
    text = ("state", "fault", "differs", "item_uuid", "item_fsid")
    numbers = ("devid", "mirror", "physical", "device_size", *NUMBERS, *(f"item_{name}" for name in ITEM_NUMBERS))
    columns: Columns = {name: np.array([row.get(name, 0) for row in rows], np.uint64) for name in numbers}
    columns["ours"] = np.array([row.get("ours", False) for row in rows], np.bool_)
    return columns | {name: _texts([row.get(name, "") for row in rows]) for name in text}


def _rows_of(devid: int, device: Device, ours: bytes) -> Iterator[Row]:
    copies = read_copies(device)
    for copy in copies:
        row: Row = {"devid": devid, "mirror": copy.mirror, "physical": copy.offset, "device_size": device.size}
        superblock = copy.superblock
        if superblock is None:
            yield row | {"state": "none", "fault": copy.fault or ""}
        else:
            item = superblock.dev_item
            row |= {name: getattr(superblock, name) for name in NUMBERS}
            row |= {f"item_{name}": getattr(item, name) for name in ITEM_NUMBERS}
            row |= {"item_uuid": uuid_text(item.uuid), "item_fsid": uuid_text(item.fsid)}
            row |= {"state": "bad" if copy.fault else "sound", "fault": copy.fault or ""}
            differs = "" if copy.fault else _differences(superblock, copies[0])
            yield row | {"ours": metadata_fsid(superblock) == ours, "differs": differs}


def _differences(superblock: Superblock, primary: SuperCopy) -> str:
    """Return the names of the fields in which a copy differs from the primary of the same commit, joined by commas."""
    first = primary.superblock
    if first is None or primary.fault or first.generation != superblock.generation:
        return ""
    here = superblock.asdict()
    return ", ".join(name for name, value in first.asdict().items() if name not in _OWN and here[name] != value)


def superblock_fields(scanned: Scanned) -> Columns:
    """Return the columns of ``superblock_fields`` of check/schema.py."""
    image = scanned.image
    ours = metadata_fsid(image.superblock)
    rows: list[tuple[Any, ...]] = []
    for devid, device in sorted(image.volume.devices.items()):
        sound = [copy for copy in read_copies(device) if copy.superblock and not copy.fault]
        for copy in sound[:1]:  # the others are the same, or rule super-differs says so
            if copy.superblock and metadata_fsid(copy.superblock) == ours:
                rows += [(devid, copy.mirror, copy.offset, *fault) for fault in _field_faults(copy.superblock)]
    numbers = {"devid": 0, "mirror": 1, "physical": 2, "found": 4}
    columns: Columns = {name: np.array([row[at] for row in rows], np.uint64) for name, at in numbers.items()}
    columns |= {name: _texts([row[at] for row in rows]) for name, at in (("field", 3), ("expected", 5))}
    return columns | {"refused": np.array([row[6] for row in rows], np.bool_)}


def _field_faults(superblock: Superblock) -> Iterator[tuple[str, int, str, bool]]:
    """Yield (field, number, what should be, whether a kernel refuses it) of each field that cannot be.

    As fs/btrfs/disk-io.c ``btrfs_validate_super``.
    """
    sectorsize, nodesize, generation = superblock.sectorsize, superblock.nodesize, superblock.generation
    for name, wrong, expected in (
        ("leafsize", superblock.leafsize != nodesize, f"the node size is {nodesize}"),
        ("stripesize", superblock.stripesize not in (_FORMER_STRIPE_SIZE, sectorsize), f"sectors have {sectorsize}"),
        ("num_devices", superblock.num_devices == 0, "there is one at least"),
        ("total_bytes", superblock.total_bytes == 0, "there are some"),
        ("bytes_used", superblock.bytes_used < _FEWEST_BLOCKS * nodesize, f"{_FEWEST_BLOCKS} trees take more"),
        *((name, getattr(superblock, name) % sectorsize, "it begins with a sector") for name in _ADDRESSES),
    ):
        if wrong:
            yield name, getattr(superblock, name), expected, True
    for name in ("chunk_root_generation", "cache_generation"):
        found = getattr(superblock, name)
        if generation < found < U64_MAX:
            yield name, found, f"the last generation is {generation}", False


def system_chunks(scanned: Scanned) -> Columns:
    """Return the columns of ``system_chunks`` of check/schema.py."""
    superblock = scanned.image.superblock
    array = superblock.sys_chunk_array[: superblock.sys_chunk_array_size]
    rows = [
        (key.offset, chunk.length, chunk.type, chunk.num_stripes, number, stripe.devid, stripe.offset)
        for key, chunk in sys_chunks(array)
        for number, stripe in enumerate(chunk.stripes)
    ]
    uuids = [uuid_text(stripe.dev_uuid) for _, chunk in sys_chunks(array) for stripe in chunk.stripes]
    names = ("logical", "length", "flags", "num_stripes", "number", "devid", "physical")
    values = np.array(rows, np.uint64).reshape(-1, len(names))
    return dict(zip(names, values.T.copy(), strict=True)) | {"dev_uuid": _texts(uuids)}


def _texts(values: Sequence[str]) -> NDArray[np.object_]:
    return np.array(values, object)

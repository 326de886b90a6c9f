"""Superblocks: find the copies on a device, judge them, choose one, and say what forbids reading."""

from __future__ import annotations

import os

from btrimg.errors import CorruptError, DeviceError, UnsupportedError
from btrimg.named import NamedTuple
from btrimg.ondisk.chunks import sys_chunks
from btrimg.ondisk.constants import MAGIC, MAX_LEVEL, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, Incompat, ItemType, SuperFlag
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.superblock import Superblock
from btrimg.volume.device import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.enums import IntFlag

_CSUM_FIELD = 32  # bytes before what the checksum covers
_MIN_SECTORSIZE, _MAX_NODESIZE = 512, 64 << 10

# In these the logical address of data is not where a chunk says: what is read by chunks alone would be wrong.
_OTHER_ADDRESSES = {
    Incompat.RAID_STRIPE_TREE: "raid-stripe-tree",
    Incompat.REMAP_TREE: "remap-tree",
}
_UNREAD = {
    Incompat.ZONED: "zoned",
    Incompat.EXTENT_TREE_V2: "extent-tree-v2",
}

_USUAL_FLAGS = (
    SuperFlag.WRITTEN
    | SuperFlag.RELOC
    | SuperFlag.ERROR
    | SuperFlag.SEEDING
    | SuperFlag.METADUMP
    | SuperFlag.METADUMP_V2
    | SuperFlag.CHANGING_FSID
    | SuperFlag.CHANGING_FSID_V2
)


class SuperCopy(NamedTuple):
    """What stands at one of the places for a superblock."""

    mirror: int  #: 0 for the primary
    offset: int  #: physical
    superblock: Superblock | None  #: None where there is none or it cannot be read
    fault: str | None  #: why it must not be used; None for a sound copy


def read_copies(device: Device) -> list[SuperCopy]:
    """Return what stands at every place for a superblock that lies within *device*."""
    return [
        _read_copy(device, mirror, offset)
        for mirror, offset in enumerate(SUPERBLOCK_OFFSETS)
        if offset + SUPERBLOCK_SIZE <= device.size
    ]


def _read_copy(device: Device, mirror: int, offset: int) -> SuperCopy:
    try:
        raw = device.pread(SUPERBLOCK_SIZE, offset)
    except DeviceError as error:
        return SuperCopy(mirror, offset, None, str(error))
    superblock = Superblock.unpack(raw)
    if superblock.magic != MAGIC:
        return SuperCopy(mirror, offset, None, f"no btrfs magic at {offset}")
    return SuperCopy(mirror, offset, superblock, next(_faults(superblock, raw, offset), None))


def _faults(superblock: Superblock, raw: bytes, offset: int) -> Iterator[str]:
    """Yield why nothing could be read by *superblock*; less than what btrfs_validate_super of the kernel asks for."""
    try:
        csum = algorithm(superblock.csum_type)
    except UnsupportedError as error:
        yield str(error)
        return
    computed = csum.digest(raw[_CSUM_FIELD:])
    if superblock.csum[: csum.size] != computed:
        yield f"its {csum.name} is {computed.hex()}, it says {superblock.csum[: csum.size].hex()}"
    if superblock.bytenr != offset:
        yield f"it says that it stands at {superblock.bytenr}, not {offset}"
    sectorsize, nodesize = superblock.sectorsize, superblock.nodesize
    if (
        not _MIN_SECTORSIZE <= sectorsize <= nodesize <= _MAX_NODESIZE
        or sectorsize.bit_count() + nodesize.bit_count() > 2
    ):
        yield f"its sector size {sectorsize} and node size {nodesize} cannot be"
    level = max(superblock.root_level, superblock.chunk_root_level, superblock.log_root_level)
    if level >= MAX_LEVEL:
        yield f"it names a root of level {level}, the highest is {MAX_LEVEL - 1}"
    if superblock.sys_chunk_array_size > len(superblock.sys_chunk_array):
        yield f"its system chunks take {superblock.sys_chunk_array_size} bytes of {len(superblock.sys_chunk_array)}"
    else:
        yield from _system_chunk_faults(superblock)


def _system_chunk_faults(superblock: Superblock) -> Iterator[str]:
    try:
        keys = [key for key, _ in sys_chunks(superblock.sys_chunk_array[: superblock.sys_chunk_array_size])]
    except CorruptError as error:
        yield f"its system chunks are cut short: {error}"
        return
    if not keys:
        yield "it has no system chunks"
    for key in keys:
        if key.type != ItemType.CHUNK_ITEM:
            yield f"its system chunks hold an item of type {key.type}"


def choose(device: Device, warn: Callable[[str], None]) -> Superblock:
    """Return the primary superblock of *device* if it is sound, else the sound mirror of the highest generation.

    A mirror, and fields that contradict each other without keeping anybody from reading, are told to *warn*.
    Raises UnsupportedError when the checksum type is not known, CorruptError when there is no sound copy.
    """
    if device.size < SUPERBLOCK_OFFSETS[0] + SUPERBLOCK_SIZE:
        raise CorruptError(f"no btrfs superblock in {device.path}: {device.size} bytes are too few")
    primary = _read_copy(device, 0, SUPERBLOCK_OFFSETS[0])
    chosen = primary
    if primary.fault:
        chosen = _best_mirror(device, primary)
        warn(f"{device.path}: the primary superblock is bad ({primary.fault}); mirror {chosen.mirror} is used")
    superblock = chosen.superblock
    if superblock is None:
        raise CorruptError(f"no btrfs superblock in {device.path}")
    for oddity in _oddities(superblock):
        warn(f"{device.path}: {oddity}")
    return superblock


def _best_mirror(device: Device, primary: SuperCopy) -> SuperCopy:
    copies = read_copies(device)
    generations = {copy.superblock.generation: copy for copy in copies if copy.superblock and not copy.fault}
    if generations:
        return generations[max(generations)]
    found = [copy.superblock for copy in copies if copy.superblock]
    if not found:
        raise CorruptError(f"no btrfs superblock in {device.path} ({primary.fault})")
    algorithm(found[0].csum_type)  # raises UnsupportedError: what is not known is not for that corrupt
    faults = "; ".join(f"at {copy.offset}: {copy.fault}" for copy in copies)
    raise CorruptError(f"no sound btrfs superblock in {device.path} ({faults})")


def _oddities(superblock: Superblock) -> Iterator[str]:
    """Yield what the kernel would refuse to mount, or at least complain of, and a reader needs not."""
    flags = superblock.flags & ~_USUAL_FLAGS
    if flags:
        names = " ".join(_bit_names(flags, SuperFlag))
        yield f"superblock flags {superblock.flags:#x}: {names} may mean that a conversion was interrupted"
    for name in ("root", "chunk_root", "log_root"):
        if getattr(superblock, name) % superblock.sectorsize:
            yield f"{name} {getattr(superblock, name)} of the superblock is not a multiple of {superblock.sectorsize}"
    if superblock.num_devices == 0:
        yield "the superblock counts no devices"
    if superblock.total_bytes < superblock.bytes_used:
        yield f"the superblock says that {superblock.bytes_used} of {superblock.total_bytes} bytes are used"
    if superblock.chunk_root_generation > superblock.generation:
        yield f"the chunk root's generation {superblock.chunk_root_generation} is above {superblock.generation}"
    if superblock.dev_item.fsid != metadata_fsid(superblock):
        yield f"its device item belongs to filesystem {uuid_text(superblock.dev_item.fsid)}"


def check_features(superblock: Superblock, force: bool) -> None:
    """Raise UnsupportedError, naming the features, when the image uses what btrimg does not read.

    *force* lets all pass but those under which addresses would be wrong.
    """
    flags = superblock.incompat_flags
    wrong = [name for bit, name in _OTHER_ADDRESSES.items() if flags & bit]
    if wrong:
        raise UnsupportedError(
            f"the filesystem uses {' and '.join(wrong)}, which btrimg does not read; --force does not help,"
            " because its data does not lie where its chunks say"
        )
    if force:
        return
    unread = [name for bit, name in _UNREAD.items() if flags & bit]
    unknown = list(_bit_names(flags & ~sum(Incompat), Incompat))
    if unread:
        raise UnsupportedError(
            f"the filesystem uses {' and '.join(unread)}, which btrimg does not read (--force tries)"
        )
    if unknown:
        raise UnsupportedError(
            f"the filesystem uses unknown incompatible features: {' '.join(unknown)} (--force tries)"
        )


def metadata_fsid(superblock: Superblock) -> bytes:
    """Return the fsid that the filesystem's tree blocks carry; it stays when the filesystem gets a new fsid."""
    return superblock.metadata_uuid if superblock.incompat_flags & Incompat.METADATA_UUID else superblock.fsid


def uuid_text(uuid: bytes) -> str:
    """Return the usual form of a uuid of 16 bytes."""
    digits = uuid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _bit_names(flags: int, kind: type[IntFlag]) -> Iterator[str]:
    """Yield the name of every bit of *flags*, or its number where *kind* has no name for it."""
    for bit in range(flags.bit_length()):
        if flags >> bit & 1:
            yield kind(1 << bit).name or f"bit {bit}"


def has_superblock(path: str) -> bool:
    """Return whether any copy of a btrfs superblock, sound or not, stands on *path*; a directory has none.

    Raises DeviceError when it cannot be opened.
    """
    if os.path.isdir(path):
        return False
    with Device(path) as device:
        return any(copy.superblock for copy in read_copies(device))

"""What a new filesystem is to be: every choice, the defaults, and what cannot be.

The defaults and names are those of mkfs.btrfs 6.19. What the kernel would not mount, and what would hold no file, is
refused here, before any byte is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import OptionError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import BlockGroup, CompatRo, CsumType, Incompat
from btrimg.units import round_down
from btrimg.volume.devicemap import RESERVED
from btrimg.volume.profiles import PROFILES
from btrimg.write.features import bits_of, refuse_missing, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CSUMS = {
    "crc32c": CsumType.CRC32C,
    "xxhash": CsumType.XXHASH64,
    "xxhash64": CsumType.XXHASH64,
    "sha256": CsumType.SHA256,
    "blake2": CsumType.BLAKE2B,
    "blake2b": CsumType.BLAKE2B,
}
PROFILE_BITS = {profile.name: bits for bits, profile in PROFILES.items()}

_SMALLEST, _LARGEST = 4 << 10, 64 << 10  # of sectors and nodes; BTRFS_MIN_BLOCKSIZE, BTRFS_MAX_METADATA_BLOCKSIZE
_USUAL_NODESIZE = 16 << 10
_LABEL_MAX = 255  # bytes; the last of the field's 256 is a NUL
_UUID_SIZE = 16
_MAX_SIZE = 1 << 63  # loff_t
_SMALL_CHUNK = 4 << 20  # bytes of each stripe that write/chunks.py gives to a chunk of a small filesystem
# With fewer free tree blocks Linux 6.18 mounts it, and makes no file in it (measured with nodes of all sizes).
_FREE_BLOCKS = 768

_RAID56 = BlockGroup.RAID5 | BlockGroup.RAID6
_RAID1C34 = BlockGroup.RAID1C3 | BlockGroup.RAID1C4


class NewDevice(NamedTuple):
    """A blank device of a new filesystem."""

    devid: int
    size: int  #: bytes that the filesystem takes, a multiple of the sector size
    uuid: bytes


class Options(NamedTuple):
    """All that is chosen of a new filesystem; :func:`new_options` makes and judges it."""

    devices: tuple[NewDevice, ...]  #: by rising devid
    fsid: bytes
    chunk_tree_uuid: bytes
    subvolume_uuid: bytes  #: of the top-level subvolume
    data: int  #: BlockGroup bits of the profile, 0 for single
    metadata: int
    system: int
    csum: int  #: CsumType
    nodesize: int
    sectorsize: int
    incompat: int  #: Incompat bits
    compat_ro: int  #: CompatRo bits
    label: bytes

    @property
    def mixed(self) -> bool:
        """Return whether data and metadata share their block groups."""
        return bool(self.incompat & Incompat.MIXED_GROUPS)

    @property
    def free_space_tree(self) -> bool:
        """Return whether free space is kept in a tree."""
        return bool(self.compat_ro & CompatRo.FREE_SPACE_TREE)

    @property
    def block_group_tree(self) -> bool:
        """Return whether block groups have a tree of their own."""
        return bool(self.compat_ro & CompatRo.BLOCK_GROUP_TREE)


def new_options(
    sizes: Sequence[int],
    uuids: Callable[[], bytes],
    *,
    data: str | None = None,
    metadata: str | None = None,
    mixed: bool = False,
    csum: str = "crc32c",
    nodesize: int | None = None,
    sectorsize: int = _SMALLEST,
    features: Iterable[str] = (),
    label: bytes = b"",
    fsid: bytes | None = None,
    device_uuids: Sequence[bytes | None] = (),
) -> Options:
    """Return the options of a filesystem on blank devices of *sizes* bytes, devids 1 and so on.

    *features* are words of ``mkfs.btrfs -O``. By default metadata is dup on one device and raid1 on several, data is
    single; mixed, both are single. *uuids* gives those that are not given: it is asked for the fsid, the chunk
    tree's, the top-level subvolume's and then for the devices', so that each stays what it is when a device is added.
    Raises OptionError with one sentence that says what to change.
    """
    names = wanted([*features, *(["mixed-bg"] if mixed else [])])
    is_mixed = "mixed-bg" in names
    refuse_missing(names)
    if len(device_uuids) > len(sizes):
        raise OptionError(f"there are {len(device_uuids)} uuids for {len(sizes)} devices: leave some out")
    usual = "single" if is_mixed else "dup" if len(sizes) == 1 else "raid1"
    metadata_bits = _profile(metadata or (data if is_mixed and data else usual), "metadata")
    data_bits = _profile(data or (metadata if is_mixed and metadata else "single"), "data")
    if csum not in CSUMS:
        raise OptionError(f"no checksum is called {csum!r}: take {', '.join(CSUMS)}", "csum")
    incompat, compat_ro = bits_of(names)
    if nodesize is None:
        nodesize = sectorsize if is_mixed else max(sectorsize, _USUAL_NODESIZE)
    chosen = [uuids() if uuid is None else uuid for uuid in (fsid, None, None)]
    given = [*device_uuids, *[None] * (len(sizes) - len(device_uuids))]
    devices = tuple(
        NewDevice(number, round_down(size, max(sectorsize, 1)), uuids() if uuid is None else uuid)
        for number, (size, uuid) in enumerate(zip(sizes, given, strict=True), 1)
    )
    options = Options(
        devices,
        chosen[0],
        chosen[1],
        chosen[2],
        data_bits,
        metadata_bits,
        metadata_bits,
        CSUMS[csum],
        nodesize,
        sectorsize,
        incompat | Incompat.MIXED_BACKREF | _implied(data_bits | metadata_bits, nodesize),
        compat_ro,
        label,
    )
    refuse(options)
    return options


def _profile(name: str, option: str) -> int:
    if name.lower() not in PROFILE_BITS:
        raise OptionError(f"no profile is called {name!r}: there are {', '.join(PROFILE_BITS)}", option)
    return PROFILE_BITS[name.lower()]


def _implied(profiles: int, nodesize: int) -> int:
    """Return the Incompat bits that follow from other choices."""
    bits = Incompat.BIG_METADATA if nodesize > _SMALLEST else 0
    bits |= Incompat.RAID56 if profiles & _RAID56 else 0
    return int(bits | (Incompat.RAID1C34 if profiles & _RAID1C34 else 0))


def refuse(options: Options) -> None:
    """Raise OptionError when there can be no such filesystem."""
    _refuse_sizes_of_blocks(options)
    _refuse_devices(options)
    _refuse_profiles(options)
    _refuse_names(options)


def _refuse_sizes_of_blocks(options: Options) -> None:
    for what, size in (("sector size", options.sectorsize), ("node size", options.nodesize)):
        if not _SMALLEST <= size <= _LARGEST or size.bit_count() != 1:
            option = what.replace(" ", "")
            raise OptionError(f"a {what} of {size} cannot be: take 4K, 8K, 16K, 32K or 64K", option)
    if options.nodesize < options.sectorsize:
        raise OptionError(
            f"the node size {options.nodesize} is below the sector size {options.sectorsize}: take at least that",
            "nodesize",
        )
    if options.mixed and options.nodesize != options.sectorsize:
        raise OptionError(
            f"mixed block groups need a node size equal to the sector size, not {options.nodesize} and"
            f" {options.sectorsize}: take {options.sectorsize} for both, or separate block groups",
            "mixed",
        )


def _refuse_devices(options: Options) -> None:
    least = minimum_size(options)
    if not options.devices:
        raise OptionError("a filesystem needs a device: name one")
    for device in options.devices:
        if not 0 < device.devid < 1 << 64:
            raise OptionError(f"a devid of {device.devid} cannot be: number the devices from 1 on")
        if device.size < least:
            raise OptionError(
                f"device {device.devid} of {device.size} bytes is too small for these profiles: take at least {least}",
                "size",
            )
        if device.size >= _MAX_SIZE:
            raise OptionError(f"device {device.devid} of {device.size} bytes is too large: the end is at {_MAX_SIZE}")
        if device.size % options.sectorsize:
            raise OptionError(f"device {device.devid} of {device.size} bytes is no multiple of {options.sectorsize}")
    devids = [device.devid for device in options.devices]
    if devids != sorted(set(devids)):
        raise OptionError(f"the devids {', '.join(map(str, devids))} do not rise: give each device one of its own")


def _refuse_profiles(options: Options) -> None:
    count = len(options.devices)
    for what, bits in (("data", options.data), ("metadata", options.metadata), ("system", options.system)):
        profile = PROFILES.get(bits)
        if profile is None:
            raise OptionError(f"the {what} profile {bits:#x} is not one profile: take {', '.join(PROFILE_BITS)}")
        least = 1 if bits == BlockGroup.DUP else profile.min_stripes
        if count < least:
            raise OptionError(
                f"{profile.name} for {what} needs {least} devices, not {count}: add some, or take another", what
            )
    if options.mixed and options.data != options.metadata:
        names = f"{PROFILES[options.data].name} and {PROFILES[options.metadata].name}"
        raise OptionError(
            f"mixed block groups have one profile for data and metadata, not {names}: take one of them", "mixed"
        )


def _refuse_names(options: Options) -> None:
    if len(options.label) > _LABEL_MAX:
        raise OptionError(f"a label of {len(options.label)} bytes is too long: take at most {_LABEL_MAX}", "label")
    if b"\n" in options.label or b"\0" in options.label:
        raise OptionError(f"the label {options.label!r} holds a newline or a NUL: leave it out", "label")
    devices = [(f"device {device.devid}", device.uuid) for device in options.devices]
    seen: dict[bytes, str] = {}
    for what, uuid in (("the filesystem", options.fsid), *devices):
        if len(uuid) != _UUID_SIZE or not any(uuid):
            raise OptionError(
                f"the uuid of {what} is {uuid.hex() or 'empty'}: it must have 16 bytes, not all of them 0",
                "uuid" if uuid is options.fsid else "devices",
            )
        other = seen.setdefault(uuid, what)
        if other != what:
            raise OptionError(f"{other} and {what} have the uuid {uuid.hex()}: give each one of its own")
    for what, uuid in (("the chunk tree", options.chunk_tree_uuid), ("the subvolume", options.subvolume_uuid)):
        if len(uuid) != _UUID_SIZE:
            raise OptionError(f"the uuid of {what} is {uuid.hex() or 'empty'}: it must have 16 bytes")


def minimum_size(options: Options) -> int:
    """Return the bytes that each device must have at least, so that the kernel can make files in the filesystem."""
    metadata = max(_SMALL_CHUNK, _FREE_BLOCKS * options.nodesize)
    kinds = [(options.system, _SMALL_CHUNK), (options.metadata, metadata)]
    kinds += [] if options.mixed else [(options.data, _SMALL_CHUNK)]
    return RESERVED + sum(size * (2 if bits == BlockGroup.DUP else 1) for bits, size in kinds)

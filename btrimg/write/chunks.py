"""New chunks: which devices they take, how much of each, and the items that say so.

As the kernel does it (fs/btrfs/volumes.c ``btrfs_create_chunk`` and what it calls), but for sizes on small filesystems:
the kernel rounds up to 16 MiB, of which an image of 50 MiB would hold few.
"""

from __future__ import annotations

from bisect import insort

from btrimg.errors import CorruptError, NoSpaceError
from btrimg.filesystem.image import device_items
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import DiskKey, Header, Item, Key
from btrimg.ondisk.chunks import Chunk, DevExtent, DevItem, Stripe
from btrimg.ondisk.constants import (
    DEV_ITEMS_OBJECTID,
    FIRST_CHUNK_TREE_OBJECTID,
    PROFILE_MASK,
    STRIPE_LEN,
    U64_MAX,
    BlockGroup,
    ItemType,
    TreeId,
)
from btrimg.ondisk.items import records_of
from btrimg.units import GIB, MIB, round_down, round_up
from btrimg.volume.devicemap import RESERVED
from btrimg.volume.profiles import PROFILES, data_columns, profile_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.trees.overlay import OverlayTree
    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.volume.volume import Volume

    Range = tuple[int, int]  # start and end, physical

_MIXED = BlockGroup.DATA | BlockGroup.METADATA
_LARGE = 50 * GIB  # a filesystem above gets larger chunks of metadata (calc_chunk_size in fs/btrfs/space-info.c)
_LONGEST_STRIPE = GIB
_LEAST_CHUNK, _LEAST_STRIPE = 4 * MIB, MIB
#: A first chunk takes at most this part of the smallest device, so that two copies for each of three kinds fit it.
#: That of data is made last and may be large: beside one of 256 MiB, the kernel's own of 1 GiB left a full balance no
#: room in one of eight runs (five devices of 2 GiB, raid1c4); beside one of 1 GiB, as of mkfs.btrfs, in none of 64.
_SHARES = {BlockGroup.SYSTEM: 8, BlockGroup.METADATA: 8, BlockGroup.DATA: 2}
_MOST_SYSTEM_DEVICES = 58  # BTRFS_MAX_DEVS_SYS_CHUNK: the superblock must have room for a second chunk
_ENTRY_SIZE = DiskKey.SIZE + Chunk.SIZE  # in the superblock, without its stripes

#: What the kernel chooses where block groups of one kind have several profiles (btrfs_reduce_alloc_profile).
_PREFERENCE = (
    *(BlockGroup.RAID1C4, BlockGroup.RAID6, BlockGroup.RAID1C3, BlockGroup.RAID5),
    *(BlockGroup.RAID10, BlockGroup.RAID1, BlockGroup.DUP, BlockGroup.RAID0),
)


class Policy(NamedTuple):
    """Which profiles new block groups have, as BlockGroup bits; 0 is single."""

    data: int
    metadata: int
    system: int
    mixed: bool = False  #: whether data and metadata share block groups, which have the profile of data

    def type_of(self, kind: int) -> int:
        """Return the type of a new chunk for *kind*, one of DATA, METADATA and SYSTEM."""
        if kind == BlockGroup.SYSTEM:
            return int(kind | self.system)
        if self.mixed:
            return int(_MIXED | self.data)
        return int(kind | (self.data if kind == BlockGroup.DATA else self.metadata))


def policy_of(chunks: Iterable[MappedChunk], devices: int, *, mixed: bool) -> Policy:
    """Return the profiles that the kernel would give to new block groups beside *chunks*, on that many *devices*."""
    present = dict.fromkeys((BlockGroup.DATA, BlockGroup.METADATA, BlockGroup.SYSTEM), 0)
    for chunk in chunks:
        for kind in present:
            if chunk.type & kind:
                present[kind] |= chunk.type & PROFILE_MASK
    for kind, bits in present.items():
        possible = (each for each in _PREFERENCE if bits & each and _least_devices(each) <= devices)
        present[kind] = next(possible, 0)
    data, metadata, system = present.values()
    return Policy(data, metadata, system, mixed)


def _least_devices(bits: int) -> int:
    return PROFILES[bits].min_stripes // _stripes_of_device(bits)


def _stripes_of_device(bits: int) -> int:
    return 2 if bits & BlockGroup.DUP else 1


class Plan(NamedTuple):
    """A chunk that could be made."""

    type: int  #: BlockGroup
    length: int  #: logical bytes
    stripe_length: int  #: bytes that each stripe takes on its device
    places: tuple[Range, ...]  #: (devid, physical) of every stripe


class _Room(NamedTuple):
    """The place for a chunk's stripes on one device; they sort best first (btrfs_cmp_device_info)."""

    minus_length: int
    minus_unallocated: int  #: on the whole device
    devid: int
    physical: int


class DeviceSpace:
    """The devices, and the room for chunks on them. Nothing is written to the trees before :meth:`record`."""

    def __init__(self, volume: Volume, tree: Callable[[int], OverlayTree]) -> None:
        """Read the device items of the chunk tree that *tree* gives; device extents are read when needed.

        Raises CorruptError when they cannot be read.
        """
        self._volume, self._tree = volume, tree
        #: by devid; of seeds and missing devices too
        self.items: dict[int, DevItem] = dict(device_items(tree(TreeId.CHUNK_TREE)))
        superblock = volume.superblock
        self._array = superblock.sys_chunk_array[: superblock.sys_chunk_array_size]
        self._extents: dict[int, list[Range]] = {}
        self._unrecorded: list[tuple[int, Chunk, int]] = []  # logical, chunk, stripe length
        self._changed: set[int] = set()  # devids whose item is to be written

    def writable(self, devid: int) -> bool:
        """Return whether a device is there, and none of a seed."""
        item = self.items.get(devid)
        return item is not None and devid in self._volume.devices and item.fsid == self._volume.metadata_fsid

    def sys_chunk_array(self) -> bytes:
        """Return what is to stand in the superblocks: every system chunk, with its key."""
        return self._array

    def plan(self, chunk_type: int, longest: int = U64_MAX) -> Plan | None:
        """Return the chunk of that type that would be made next, None when there is no room for any.

        No stripe is above *longest* bytes.
        """
        bits = chunk_type & PROFILE_MASK
        profile, doubled = profile_of(bits), _stripes_of_device(bits)
        writable = [devid for devid in self.items if self.writable(devid)]
        total = sum(self.items[devid].total_bytes for devid in writable)
        rooms = sorted(filter(None, (self._room(devid, doubled * _LONGEST_STRIPE) for devid in writable)))
        rooms = [room for room in rooms if -room.minus_length >= doubled * _LEAST_STRIPE]
        most = min(profile.max_stripes // doubled, self._most_devices(chunk_type))
        step = profile.copies // doubled  # devices that a further column needs
        count = round_down(min(len(rooms), most) - profile.parity, step) + profile.parity
        if count < _least_devices(bits):
            return None
        columns = data_columns(count * doubled, profile)
        available = round_down(-rooms[count - 1].minus_length // doubled, STRIPE_LEN)
        length = min(available, _wanted(chunk_type, columns, total), longest)
        places = [(room.devid, room.physical + n * length) for room in rooms[:count] for n in range(doubled)]
        return Plan(chunk_type, length * columns, length, tuple(places))

    def fair_stripe(self, kind: BlockGroup) -> int:
        """Return how long stripes of *kind* may be if the smallest device, too, is to have part in chunks of each."""
        smallest = min((item.total_bytes for devid, item in self.items.items() if self.writable(devid)), default=0)
        return max(round_down(smallest // _SHARES[kind], MIB), _LEAST_CHUNK)

    def _most_devices(self, chunk_type: int) -> int:
        """Return over how many devices the item of a chunk may lead: it must fit a leaf, and the superblock."""
        leaf = self._volume.nodesize - Header.SIZE - Item.SIZE
        most = (leaf - Chunk.SIZE) // Stripe.SIZE
        if chunk_type & BlockGroup.SYSTEM:
            left = len(self._volume.superblock.sys_chunk_array) - len(self._array) - _ENTRY_SIZE
            most = min(most, _MOST_SYSTEM_DEVICES, left // Stripe.SIZE)
        return most

    def _room(self, devid: int, wanted: int) -> _Room | None:
        """Return the first hole of a device of *wanted* bytes, else its longest, None when it has none."""
        best: Range | None = None
        unallocated = 0
        for start, end in self._holes(devid):
            unallocated += end - start
            if best is None or best[1] - best[0] < min(end - start, wanted):
                best = start, end
        return _Room(-min(best[1] - best[0], wanted), -unallocated, devid, best[0]) if best else None

    def _holes(self, devid: int) -> Iterator[Range]:
        at = RESERVED
        for start, end in self._extents_of(devid):
            if at < start:
                yield at, start
            at = max(at, end)
        stop = min(self.items[devid].total_bytes, self._volume.devices[devid].size)
        if at < stop:
            yield at, stop

    def _extents_of(self, devid: int) -> list[Range]:
        if devid not in self._extents:
            first = Key(devid, ItemType.DEV_EXTENT, 0)
            found = []
            for key, payload in self._tree(TreeId.DEV_TREE).items(first, first._replace(offset=U64_MAX)):
                found.append((key.offset, key.offset + records_of(DevExtent, key.type, payload)[0].length))
            self._extents[devid] = found
        return self._extents[devid]

    def make(self, plan: Plan, logical: int) -> Chunk:
        """Return the chunk of a *plan* just made, and take its places on the devices.

        Raises CorruptError when what is allocated on a device is not what its item says.
        """
        stripes = []
        for devid, physical in plan.places:
            item = self.items[devid]
            if item.bytes_used > item.total_bytes - plan.stripe_length:
                allocated = f"{item.bytes_used} of its {item.total_bytes} bytes are allocated"
                raise CorruptError(f"device {devid} has room for a chunk, but says that {allocated}")
            insort(self._extents_of(devid), (physical, physical + plan.stripe_length))
            self.items[devid] = item.replace(bytes_used=item.bytes_used + plan.stripe_length)
            self._changed.add(devid)
            stripes.append(Stripe(devid, physical, item.uuid))
        inner = 2 if plan.type & BlockGroup.RAID10 else 1
        sizes = (STRIPE_LEN, STRIPE_LEN, self._volume.sectorsize, len(stripes), inner)
        chunk = Chunk(plan.length, TreeId.EXTENT_TREE, STRIPE_LEN, plan.type, *sizes, tuple(stripes))
        self._unrecorded.append((logical, chunk, plan.stripe_length))
        if plan.type & BlockGroup.SYSTEM:
            self._array += DiskKey(*_chunk_key(logical)).pack() + chunk.pack()
        return chunk

    def record(self) -> None:
        """Write the items of new chunks and of changed devices into the trees; without changes, nothing."""
        chunks, extents = self._tree(TreeId.CHUNK_TREE), self._tree(TreeId.DEV_TREE)
        for logical, chunk, length in self._unrecorded:
            chunks.put(_chunk_key(logical), chunk.pack())
            # The kernel has left the last field, a uuid, at 0 since v4.14.
            payload = DevExtent(TreeId.CHUNK_TREE, FIRST_CHUNK_TREE_OBJECTID, logical, length, bytes(16)).pack()
            for stripe in chunk.stripes:
                extents.put(Key(stripe.devid, ItemType.DEV_EXTENT, stripe.offset), payload)
        for devid in sorted(self._changed):
            chunks.put(Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, devid), self.items[devid].pack())
        self._unrecorded.clear()
        self._changed.clear()

    def end_of(self, devid: int) -> int:
        """Return the physical address behind the last chunk on a device; at least where the first may lie."""
        return max((end for _, end in self._extents_of(devid)), default=RESERVED)

    def resize(self, devid: int, size: int) -> None:
        """Let the filesystem take *size* bytes of a device.

        Raises CorruptError when chunks lie behind them.
        """
        if size < self.end_of(devid):
            raise CorruptError(f"device {devid} has chunks up to {self.end_of(devid)}, and cannot end at {size}")
        self.items[devid] = self.items[devid].replace(total_bytes=size)
        self._changed.add(devid)

    def full(self, chunk_type: int, wanted: int) -> NoSpaceError:
        """Return the error for *wanted* bytes for which there is no room, and none for a chunk of that type."""
        if chunk_type & BlockGroup.SYSTEM and self._most_devices(chunk_type) < 1:
            return NoSpaceError("the superblock has no room for another system chunk")
        kinds = " and ".join(
            kind.name.lower() for kind in BlockGroup if kind & chunk_type & ~PROFILE_MASK and kind.name
        )
        devices = ", ".join(
            f"device {devid} has {-room.minus_unallocated if (room := self._room(devid, 0)) else 0} of"
            f" {self.items[devid].total_bytes} bytes unallocated"
            for devid in self.items
            if self.writable(devid)
        )
        profile = profile_of(chunk_type).name
        numbers = devices or "none can be written to"
        return NoSpaceError(f"the devices are full: no room for {wanted} bytes of {kinds} ({profile}); {numbers}")


def _chunk_key(logical: int) -> Key:
    return Key(FIRST_CHUNK_TREE_OBJECTID, ItemType.CHUNK_ITEM, logical)


def _wanted(chunk_type: int, columns: int, total: int) -> int:
    """Return the length that a stripe of a new chunk is to have, on a filesystem of *total* bytes."""
    if chunk_type & BlockGroup.DATA:
        chunk = min(10 * GIB, total // 10)
    elif chunk_type & BlockGroup.METADATA:
        chunk = min(GIB if total > _LARGE else 256 * MIB, total // 10)
    else:
        chunk = min(32 * MIB, total // 100)
    return min(round_up(max(chunk, _LEAST_CHUNK) // columns, MIB), _LONGEST_STRIPE)

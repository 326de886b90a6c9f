"""Space: where new data and new tree blocks go, and the record of what is free."""

from __future__ import annotations

from bisect import bisect_right

from btrimg.errors import CorruptError, NoSpaceError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN, U64_MAX, BlockGroup, Incompat
from btrimg.units import MIB, round_up
from btrimg.write.blockgroups import Group, Ledger
from btrimg.write.chunks import DeviceSpace, policy_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from btrimg.ondisk.chunks import DevItem
    from btrimg.trees.overlay import OverlayTree
    from btrimg.volume.volume import Volume
    from btrimg.write.chunks import Plan, Policy

_FIRST_CHUNK = MIB  # logical
_FARTHEST = 1 << 40  # from the last chunk, that data is placed: hundreds of chunks lead there
_KINDS = (BlockGroup.DATA, BlockGroup.METADATA, BlockGroup.SYSTEM)


class Run(NamedTuple):
    """Bytes side by side in the logical space, all in one block group."""

    logical: int
    length: int


class _Pool:
    """The block groups of one kind that can be written to, by rising address."""

    def __init__(self, kind: BlockGroup, groups: list[Group]) -> None:
        self.kind, self.groups = kind, groups
        self._sought = self._number = 0

    def candidates(self, length: int) -> range:
        """Return the numbers of the block groups that may have a run of *length* bytes."""
        return range(self._number if length >= self._sought else 0, len(self.groups))

    def passed(self, length: int, number: int) -> None:
        """Note that those before *number* have no run of *length* bytes: until some is put back, it stays so."""
        self._sought, self._number = length, number

    def forget(self) -> None:
        """Take it that any block group may have any run."""
        self._sought = self._number = 0


class Space:
    """The block groups of a filesystem, for one transaction after another.

    Room is found first fit: the lowest run of the first block group that has one. A block group is read when it may
    have room, so that a small commit reads few of them. When none has, a chunk is made. What is released is free in
    the free space tree of the commit, and given out again after it: the last commit must stay whole until then. Where
    superblocks lie nothing is given out.
    """

    def __init__(self, volume: Volume, tree: Callable[[int], OverlayTree], policy: Policy | None = None) -> None:
        """Learn the chunks and devices of *volume*; *tree* gives the transaction's trees.

        A new filesystem has the items of its devices in the chunk tree, no chunks, and a *policy*; without one, new
        block groups are like those that are there. Raises CorruptError when the chunk tree cannot be read.
        """
        self._volume = volume
        self._devices = DeviceSpace(volume, tree)
        self._ledger = Ledger(volume, tree)
        writable = {devid for devid in self._devices.items if self._devices.writable(devid)}
        chunks = list(volume.chunk_map)
        mixed = bool(volume.superblock.incompat_flags & Incompat.MIXED_GROUPS)
        self._policy = policy or policy_of(chunks, len(writable), mixed=mixed)
        self._groups = [Group(chunk) for chunk in chunks]
        self._starts = [chunk.logical for chunk in chunks]
        usable = [group for group in self._groups if writable.issuperset(s.devid for s in group.chunk.stripes)]
        pools = (_Pool(kind, [group for group in usable if group.chunk.type & kind]) for kind in _KINDS)
        self._data, self._metadata, self._system = self._pools = tuple(pools)
        self._dirty: dict[int, Group] = {}  # by logical address: changed since it was recorded
        self._released: dict[int, Group] = {}  # those in which something was released since the last commit
        self._held: list[tuple[Group, int, int]] = []  # with logical address and length
        self.bytes_used: int = volume.superblock.bytes_used  #: logical, for the superblock
        self._size_change = 0
        #: Asked when there is no room for a chunk: whether the devices have been made larger.
        self.lengthen: Callable[[], bool] = lambda: False

    def device_items(self) -> Mapping[int, DevItem]:
        """Return the items of all devices by devid, as the superblocks are to have them."""
        return self._devices.items

    def writable(self, devid: int) -> bool:
        """Return whether a device is there, and none of a seed."""
        return self._devices.writable(devid)

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all devices, for the superblock."""
        return self._volume.superblock.total_bytes + self._size_change

    def sys_chunk_array(self) -> bytes:
        """Return the system chunks with their keys, for the superblock."""
        return self._devices.sys_chunk_array()

    def allocate_data(self, length: int, *, longest: int = 128 * MIB, at: int | None = None) -> list[Run]:
        """Allocate *length* bytes for data, a multiple of the sector size, in as few runs as possible.

        No run is above *longest* bytes. With *at* they lie side by side from that logical address on. Raises
        NoSpaceError, having allocated nothing, when the devices are full or a byte asked for is not free, and
        CorruptError when a block group cannot be read.
        """
        if length % self._volume.sectorsize or longest <= 0 or longest % self._volume.sectorsize:
            raise ValueError(f"{length} bytes in runs of {longest} are no whole sectors")
        if at is not None:
            self._take_at(at, length)
            return [Run(at + done, min(longest, length - done)) for done in range(0, length, longest)]
        runs: list[Run] = []
        left = length
        while left:
            run = self._data_run(min(left, longest))
            if run is None:
                for taken in runs:
                    self.give_back(*taken)
                raise self._devices.full(self._policy.type_of(BlockGroup.DATA), length)
            runs.append(run)
            left -= run.length
        return runs

    def allocate_blocks(self, kind: BlockGroup, count: int) -> list[int]:
        """Allocate *count* tree blocks of *kind* METADATA or SYSTEM; return their logical addresses.

        They are aligned to their size and so cross no stripe; those of one block group rise. Raises NoSpaceError,
        having allocated nothing, and CorruptError as :meth:`allocate_data`.
        """
        pool = self._system if kind == BlockGroup.SYSTEM else self._metadata
        size, blocks = self._volume.nodesize, self._take_blocks(pool, count)
        while len(blocks) < count:
            try:
                self._grow(pool, (count - len(blocks)) * size)
            except NoSpaceError:
                for block in blocks:
                    self.give_back(block, size)
                raise
            blocks += self._take_blocks(pool, count - len(blocks))
        return blocks

    def hold(self, logical: int, length: int) -> None:
        """Give out none of these bytes before :meth:`committed`, though they are free in all that is recorded.

        Raises CorruptError when they lie in no block group, or are not free.
        """
        group = self._group_at(logical, length)
        if not self._ledger.load(group).take(logical, length):
            raise CorruptError(f"the {length} bytes at logical {logical} are used twice")
        self._held.append((group, logical, length))
        self._forget()

    def give_back(self, logical: int, length: int) -> None:
        """Take back what was allocated by this transaction and for which nothing was done yet: it is free at once."""
        group = self._group_at(logical, length)
        self._ledger.load(group).add(logical, length)
        group.gave_back(logical, length)
        self.bytes_used -= length
        self._forget()

    def provide(self, kind: BlockGroup) -> None:
        """Make a chunk for DATA, METADATA or SYSTEM if there is none that can be written to; may raise NoSpaceError.

        It leaves room for those of the other kinds on every device, however small one is beside the others.
        """
        pool = next(pool for pool in self._pools if pool.kind == kind)
        if not pool.groups:
            self._grow(pool, self._volume.nodesize, self._devices.fair_stripe(kind))

    def release(self, logical: int, length: int) -> None:
        """Release bytes that an extent or tree block took; they are not given out again before :meth:`committed`.

        Raises CorruptError when they lie in no block group.
        """
        group = self._group_at(logical, length)
        group.release(logical, length)
        self._released[group.chunk.logical] = self._dirty[group.chunk.logical] = group
        self.bytes_used -= length

    def record(self) -> None:
        """Bring the items of block groups, free space, chunks and devices in the trees to the present state.

        To be repeated as long as recording makes trees allocate; it costs what changed since the last time. Raises
        CorruptError when a block group cannot be read, or bytes were released that were free.
        """
        for _, group in sorted(self._dirty.items()):
            self._ledger.record(group)
        self._dirty.clear()
        self._devices.record()
        if not 0 <= self.bytes_used <= U64_MAX:
            raise CorruptError(f"the superblock tells of so few bytes used that {self.bytes_used} would be left")

    def committed(self) -> None:
        """Give out from now on what was released: the commit of all that was recorded is on the devices."""
        for group in self._released.values():
            group.committed()
        self._released.clear()
        for group, logical, length in self._held:
            self._ledger.load(group).add(logical, length)
        self._held.clear()
        self._forget()

    def end_of(self, devid: int) -> int:
        """Return the physical address behind the last chunk on a device: all that a cut image must keep."""
        return self._devices.end_of(devid)

    def shrink(self, devid: int, slack: int = 0) -> int:
        """Let a device end *slack* bytes behind its last chunk, if it is not smaller already; return its size."""
        old = self._devices.items[devid].total_bytes
        new = min(round_up(self.end_of(devid) + slack, self._volume.sectorsize), old)
        self.resize(devid, new)
        return new

    def resize(self, devid: int, size: int) -> None:
        """Let the filesystem take *size* bytes of a device, whole sectors; CorruptError when chunks lie behind them."""
        old = self._devices.items[devid].total_bytes
        self._devices.resize(devid, size)
        self._size_change += size - old

    def _group_at(self, logical: int, length: int) -> Group:
        at = bisect_right(self._starts, logical) - 1
        if at < 0 or logical + length > self._groups[at].chunk.end:
            raise CorruptError(f"the {length} bytes at logical {logical} lie in no block group")
        return self._groups[at]

    def _data_run(self, length: int) -> Run | None:
        """Take *length* bytes of data; where no block group has so many or can, the longest run; None of no bytes."""
        run = self._take_first(self._data, length)
        if run:
            return run
        plan = self._plan(self._policy.type_of(BlockGroup.DATA))
        if plan and (plan.length >= length or plan.length > self._longest(self._data)):
            self._grow(self._data, length)
            run = self._take_first(self._data, length)
        if run:
            return run
        found = self._longest(self._data)
        return self._take_first(self._data, min(found, length)) if found else None

    def _take_first(self, pool: _Pool, length: int) -> Run | None:
        for number in pool.candidates(length):
            group = pool.groups[number]
            free = group.free
            if free is None:
                if self._ledger.room(group) < length:
                    continue
                free = self._ledger.load(group)
            start = free.take_first(length)
            if start is not None:
                pool.passed(length, number)
                self._took(group, start, length)
                return Run(start, length)
        pool.passed(length, len(pool.groups))
        return None

    def _longest(self, pool: _Pool) -> int:
        """Return the length of the longest run of all block groups of a kind."""
        found = 0
        for group in pool.groups:
            if self._ledger.room(group) > found:
                found = max(found, self._ledger.load(group).longest())
        return found

    def _take_blocks(self, pool: _Pool, count: int) -> list[int]:
        """Take up to *count* blocks from the block groups that are there."""
        blocks: list[int] = []
        size = self._volume.nodesize
        for number in pool.candidates(size):
            group = pool.groups[number]
            if self._ledger.room(group) >= size:
                found = self._ledger.load(group).take_blocks(size, count - len(blocks))
                for start in found:
                    self._took(group, start, size)
                blocks += found
            if len(blocks) == count:
                pool.passed(size, number)
                return blocks
        pool.passed(size, len(pool.groups))
        return blocks

    def _take_at(self, at: int, length: int) -> None:
        """Take exactly these bytes for data; chunks are made until one reaches them."""
        if at % self._volume.sectorsize:
            raise NoSpaceError(f"data cannot lie at logical {at}: take a multiple of {self._volume.sectorsize}")
        if self._groups and at > self._groups[-1].chunk.end + _FARTHEST:
            raise NoSpaceError(f"logical {at} is more than {_FARTHEST} bytes behind all chunks: take less")
        while self._groups and at >= self._groups[-1].chunk.end:
            self._grow(self._data, at + length - self._groups[-1].chunk.end)
        position = bisect_right(self._starts, at) - 1
        group = self._groups[position] if position >= 0 else None
        if group is None or group not in self._data.groups or not self._ledger.load(group).take(at, length):
            raise NoSpaceError(f"the {length} bytes at logical {at} are not all free space of one block group of data")
        self._took(group, at, length)

    def _took(self, group: Group, start: int, length: int) -> None:
        group.took(start, length)
        self._dirty[group.chunk.logical] = group
        self.bytes_used += length

    def _forget(self) -> None:
        for pool in self._pools:
            pool.forget()

    def _plan(self, chunk_type: int, longest: int = U64_MAX) -> Plan | None:
        """Return the chunk that would be made next, on devices that were lengthened if need be and if they can be."""
        plan = self._devices.plan(chunk_type, longest)
        while plan is None and self.lengthen():
            plan = self._devices.plan(chunk_type, longest)
        return plan

    def _grow(self, pool: _Pool, wanted: int, longest: int = U64_MAX) -> None:
        """Make a chunk for a pool; raise NoSpaceError, which tells of the *wanted* bytes, when there is no room.

        No stripe is above *longest* bytes.
        """
        chunk_type = self._policy.type_of(pool.kind)
        plan = self._plan(chunk_type, longest)
        if plan is None:
            raise self._devices.full(chunk_type, wanted)
        behind = self._groups[-1].chunk.end if self._groups else _FIRST_CHUNK
        logical = round_up(behind, STRIPE_LEN)
        group = Group(self._volume.chunk_map.add(logical, self._devices.make(plan, logical)))
        self._ledger.begin(group)
        self._groups.append(group)
        self._starts.append(logical)
        for each in self._pools:
            if chunk_type & each.kind:
                each.groups.append(group)
        self._dirty[logical] = group

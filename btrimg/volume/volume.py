"""The devices of one filesystem as one logical address space, read around whatever is missing."""

from __future__ import annotations

from contextlib import suppress
from itertools import combinations, zip_longest

from btrimg.errors import CorruptError, DeviceError
from btrimg.ondisk.chunks import sys_chunks
from btrimg.ondisk.constants import SuperFlag
from btrimg.ondisk.csum import algorithm
from btrimg.units import KIB
from btrimg.volume.chunkmap import ChunkMap
from btrimg.volume.device import Device
from btrimg.volume.members import assign_devids, drop_doubles, newest_of_each, open_members, top_of
from btrimg.volume.superblocks import check_features, metadata_fsid, uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self

    from btrimg.ondisk.chunks import Chunk, DevItem
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.chunkmap import ChunkSource, Location, MappedChunk
    from btrimg.volume.members import Member

_MAX_WARNINGS = 100
_GAP = 256 * KIB  #: between two blocks that are read in one go: it costs less than a second request


class Volume:
    """An opened device set (context manager); made by :func:`open_volume`.

    It starts with the chunks of the superblock's sys_chunk_array, enough to read the chunk tree; whoever has read that
    hands its items to :meth:`adopt`.
    """

    def __init__(self, members: Sequence[Member], top: Member, warn: Callable[[str], None]) -> None:
        superblock = top.superblock
        self._members, self._newest, self._warn = members, newest_of_each(members), warn
        self._warned: set[str] = set()
        self.superblock = superblock  #: the newest of the filesystem's devices
        self.sectorsize: int = superblock.sectorsize
        self.nodesize: int = superblock.nodesize
        self.csum = algorithm(superblock.csum_type)
        self.metadata_fsid = metadata_fsid(superblock)
        #: every fsid that a tree block may carry; blocks of a seed keep the seed's
        self.fsids = {self.metadata_fsid} | {fsid for each in members for fsid in (each.fsid, each.superblock.fsid)}
        if superblock.flags & SuperFlag.CHANGING_FSID:
            self.fsids = _AnyFsid()
        self.devices: dict[int, Device] = {}  #: by devid, without the missing ones
        self.seeds: set[int] = set()  #: devids of those that are never written to
        self.lag: dict[int, int] = {}  #: by devid, commits that its superblock is behind the newest of its filesystem
        self._system_chunks = _system_chunks(superblock)
        self.chunk_map = ChunkMap(self._system_chunks.items(), self.warn)
        self._assign({})
        self._tell_stale()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the devices."""
        for member in self._members:
            member.device.close()

    def warn(self, message: str) -> None:
        """Pass on each distinct *message* once, and no more than a hundred of them."""
        if message in self._warned or len(self._warned) > _MAX_WARNINGS:
            return
        self._warned.add(message)
        self._warn(message if len(self._warned) <= _MAX_WARNINGS else "there are more warnings, which are not shown")

    def for_thread(self, warn: Callable[[str], None]) -> Volume:
        """Return the same volume for a thread that works beside others: what it warns of goes to *warn*."""
        from copy import copy

        other = copy(self)
        other._warned, other._warn = set(), warn
        return other

    def adopt(self, chunks: ChunkSource, dev_items: Iterable[DevItem]) -> None:
        """Take the chunks and device items of the chunk tree for the truth, beside the superblock's system chunks.

        Tells of missing devices and of files that are none of its devices. Raises DeviceError when such a file
        belongs to another filesystem.
        """
        items = list(dev_items)
        self.chunk_map = ChunkMap(self._system_chunks.items(), self.warn, chunks)
        self.fsids.update(item.fsid for item in items)
        assigned = self._assign({item.devid: item.uuid for item in items})
        for item in items:
            if item.devid not in self.devices:
                self.warn(f"device {item.devid} ({uuid_text(item.uuid)}) is missing; if you have it, give it too (-d)")
        for member in self._members:
            if member not in assigned:
                self._refuse_or_ignore(member)

    def follow(self, superblock: Superblock) -> None:
        """Take *superblock*, which a commit has written to the devices, for the newest; the chunk tree is read anew."""
        self.superblock, self._system_chunks = superblock, _system_chunks(superblock)
        self.chunk_map = ChunkMap(self._system_chunks.items(), self.warn)

    def _assign(self, uuids: dict[int, bytes]) -> Sequence[Member]:
        """Find the devices that *uuids* and the chunks' stripes name, and return their members.

        Without *uuids*, as long as the chunk tree is not read or when it has lost them, the members' claims count.
        """
        claims = {member.devid: member.uuid for member in self._members if member.fsid == self.metadata_fsid}
        chunks = self._system_chunks.values() if uuids else self.chunk_map
        named = {stripe.devid: stripe.dev_uuid for chunk in chunks for stripe in chunk.stripes}
        assigned = assign_devids(self._members, self.metadata_fsid, named | (uuids or claims))
        self.devices = {devid: member.device for devid, member in assigned.items()}
        self.seeds = {devid for devid, member in assigned.items() if member.superblock.flags & SuperFlag.SEEDING}
        self.lag = {devid: self._lag(member) for devid, member in assigned.items()}
        return list(assigned.values())

    def _lag(self, member: Member) -> int:
        return self._newest[member.fsid].generation - member.generation

    def _tell_stale(self) -> None:
        for member in filter(self._lag, self._members):
            self.warn(
                f"{member.device.path} is of generation {member.generation}, its filesystem of"
                f" {self._newest[member.fsid].generation}: the device was away, and is read last"
            )

    def _refuse_or_ignore(self, member: Member) -> None:
        path, fsid = member.device.path, self.superblock.fsid
        if member.fsid != self.metadata_fsid:
            theirs = uuid_text(member.superblock.fsid)
            raise DeviceError(f"{path} belongs to filesystem {theirs}, which is no seed of {uuid_text(fsid)}")
        self.warn(f"{path} claims to be device {member.devid} of {uuid_text(fsid)}, which has no such device: ignored")

    def read(self, logical: int, length: int) -> bytes:
        """Return *length* bytes from *logical*, unverified, from the first copy that can be read or rebuilt.

        The caller bounds *length*. Raises CorruptError where no chunk is, DeviceError where no copy can be read.
        """
        return b"".join(
            self._first(logical, piece, next(self._piece_candidates(chunk, logical, piece), None))
            for chunk, logical, piece in self._pieces(logical, length)
        )

    def expect(self, blocks: Iterable[int]) -> None:
        """Let the kernel begin to read the tree blocks at these logical addresses, from the first copy of each."""
        runs: list[tuple[int, int]] = []  # from first to end
        for logical in sorted(blocks):
            if runs and logical - runs[-1][1] <= _GAP:
                runs[-1] = runs[-1][0], logical + self.nodesize
            else:
                runs.append((logical, logical + self.nodesize))
        for first, end in runs:
            with suppress(CorruptError):  # who asks for it will hear of that
                for chunk, logical, length in self._pieces(first, end - first):
                    for place in chunk.locate(logical).copies:
                        if place.devid in self.devices and not self.lag.get(place.devid):
                            self.devices[place.devid].expect(length, place.physical)
                            break

    def candidates(self, logical: int, length: int) -> Iterator[bytes]:
        """Yield every distinct way to obtain *length* bytes from *logical*, cheapest first; the caller verifies.

        First the copies in the order of mirrors; then, for RAID5 and RAID6, the bytes rebuilt from the rest of the
        row: by P, by Q, and by both with each other column taken to be lost too. What lies on a device that was
        away comes last. Bytes that were already yielded are left out. Of a range that crosses elements the k-th
        candidate joins the k-th of every piece. Raises CorruptError where no chunk is, DeviceError when there is
        no candidate at all.
        """
        chunk = self.chunk_map.find(logical)
        mapping = chunk.locate(logical)
        if mapping.length >= length:
            first = mapping.copies[0]
            if not self.lag.get(first.devid):  # the usual case, quicker than to think of all others
                data = self._pread(first, length)
                if data is not None:
                    yield data
                    yield from self._piece_candidates(chunk, logical, length, first=data)
                    return
            found = self._piece_candidates(chunk, logical, length)
            yield self._first(logical, length, next(found, None))
            yield from found
            return
        pieces = list(self._pieces(logical, length))
        ways = [self._piece_candidates(*piece) for piece in pieces]
        firsts = [
            self._first(start, piece, next(way, None)) for (_, start, piece), way in zip(pieces, ways, strict=True)
        ]
        yield b"".join(firsts)
        for others in zip_longest(*ways):
            yield b"".join(other or known for other, known in zip(others, firsts, strict=True))

    def _pieces(self, logical: int, length: int) -> Iterator[tuple[MappedChunk, int, int]]:
        """Yield (chunk, logical, length) of every part of a range that is contiguous on each device."""
        while length > 0:
            chunk = self.chunk_map.find(logical)
            piece = min(length, chunk.locate(logical).length)
            yield chunk, logical, piece
            logical, length = logical + piece, length - piece

    def _first(self, logical: int, length: int, data: bytes | None) -> bytes:
        if data is None:
            places = self.chunk_map.locate(logical).copies
            missing = sorted({place.devid for place in places} - self.devices.keys())
            why = f": it needs device {' or '.join(map(str, missing))}, which is missing" if missing else ""
            raise DeviceError(f"no copy of the {length} bytes at logical {logical} can be read{why}")
        return data

    def _piece_candidates(
        self, chunk: MappedChunk, logical: int, length: int, first: bytes | None = None
    ) -> Iterator[bytes]:
        """Yield what differs of a piece; *first* is what the first copy holds, where that was read already."""
        seen = [] if first is None else [first]
        for data in self._ways(chunk, logical, length, skipped=len(seen)):
            if data not in seen:
                seen.append(data)
                yield data

    def _ways(self, chunk: MappedChunk, logical: int, length: int, *, skipped: int) -> Iterator[bytes]:
        copies = chunk.locate(logical).copies[skipped:]
        yield from self._readable((place for place in copies if not self.lag.get(place.devid)), length)
        if chunk.profile.parity:
            yield from self._rebuilt(chunk, logical, length)
        yield from self._readable((place for place in copies if self.lag.get(place.devid)), length)

    def _readable(self, places: Iterable[Location], length: int) -> Iterator[bytes]:
        yield from (data for data in (self._pread(place, length) for place in places) if data is not None)

    def _rebuilt(self, chunk: MappedChunk, logical: int, length: int) -> Iterator[bytes]:
        """Yield a piece rebuilt from its row, with every set of columns that parity can spare taken to be lost."""
        from btrimg.volume.parity import rebuild

        row = chunk.row(logical)
        data_columns = len(row.places) - chunk.profile.parity
        stale = {position for position, place in enumerate(row.places) if self.lag.get(place.devid)}
        others = [position for position in reversed(range(len(row.places))) if position != row.column]  # Q, P, data
        columns: dict[int, bytes | None] = {row.column: None}
        for spared in sorted(combinations(others, chunk.profile.parity - 1), key=lambda each: len(stale - {*each})):
            lost = {row.column, *spared}
            for position in set(others) - lost - columns.keys():
                columns[position] = self._pread(row.places[position], length)
            known = [None if position in lost else columns[position] for position in range(len(row.places))]
            if known.count(None) == len(lost):
                p, q, *_ = *known[data_columns:], None
                yield rebuild(known[:data_columns], p, q)[row.column]

    def _pread(self, place: Location, length: int) -> bytes | None:
        device = self.devices.get(place.devid)
        if device is None:
            return None
        try:
            return device.pread(length, place.physical)
        except DeviceError as error:
            self.warn(str(error))
            return None


class _AnyFsid(set[bytes]):
    """What tree blocks may carry while their fsid is being rewritten: no superblock tells the old one any more."""

    def __contains__(self, _: object) -> bool:
        return True


def _system_chunks(superblock: Superblock) -> dict[int, Chunk]:
    """Return the chunks that the chunk tree is read by, by logical address."""
    array = superblock.sys_chunk_array[: superblock.sys_chunk_array_size]
    return {key.offset: chunk for key, chunk in sys_chunks(array)}


def open_volume(
    paths: Sequence[str],
    *,
    force: bool = False,
    warn: Callable[[str], None],
    opener: Callable[[str], Device] = Device,
) -> Volume:
    """Open the devices at *paths*, each by *opener*, in any order and not all of them, as one filesystem.

    A seed may be given with its sprout. *force* opens in spite of unknown incompat bits. *warn* hears one
    sentence for each thing that was bad and could be got by. Raises DeviceError, UnsupportedError or CorruptError.
    """
    members = open_members(paths, warn, opener)
    try:
        members = drop_doubles(members, warn)
        top = top_of(members)
        check_features(top.superblock, force)
        return Volume(members, top, warn)
    except BaseException:
        for member in members:
            member.device.close()
        raise

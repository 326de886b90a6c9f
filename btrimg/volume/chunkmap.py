"""The chunk map: where each logical byte lies on the devices."""

from __future__ import annotations

from bisect import bisect_right

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.volume.profiles import Profile, data_columns, position_of, profile_of, row_and_column, stripe_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    from btrimg.ondisk.chunks import Chunk, Stripe

    class ChunkSource(Protocol):
        """Where further chunks come from, as (logical, chunk): the chunk tree."""

        def find(self, logical: int) -> tuple[int, Chunk] | None:
            """Return the last chunk that starts at or before *logical*; may raise CorruptError."""

        def all(self) -> Iterable[tuple[int, Chunk]]:
            """Return all that can be read."""


_END = 1 << 63  # addresses stay below, so that tables of int64 hold them; no device is larger (loff_t)


class Location(NamedTuple):
    """A byte of one device."""

    devid: int
    physical: int


class Mapping(NamedTuple):
    """Where one logical byte lies, and how many from there on lie side by side."""

    copies: tuple[Location, ...]  #: in the order of mirrors
    parity: tuple[tuple[str, Location], ...]  #: ("P", …) and ("Q", …) of its row
    length: int  #: bytes from this one on that are contiguous on every copy and in the parity, at least 1


class Row(NamedTuple):
    """One byte of every element of a row of RAID5 or RAID6."""

    column: int  #: the data column of the byte that was asked for
    places: tuple[Location, ...]  #: of the data columns in order, then of P and Q


class Held(NamedTuple):
    """What one byte of a stripe is, and how many from there on are side by side in the logical space too."""

    logical: int | None  #: of the byte; of the first byte of its row for parity; None past the end of the chunk
    number: int  #: of the copy; for parity, 0 for P and 1 for Q
    parity: bool
    length: int  #: at least 1


class MappedChunk(NamedTuple):
    """A chunk whose addresses can be computed: what ``ChunkMap`` has accepted."""

    logical: int
    length: int  #: logical bytes
    type: int  #: BlockGroup
    profile: Profile
    stripes: tuple[Stripe, ...]

    @property
    def end(self) -> int:
        """Logical address of the first byte after the chunk."""
        return self.logical + self.length

    @property
    def columns(self) -> int:
        """Elements of different data in each row."""
        return data_columns(len(self.stripes), self.profile)

    @property
    def striped(self) -> bool:
        """Return whether neighbours in the logical space may lie apart: in elements of 64 KiB."""
        return self.columns > 1 or self.profile.turns > 0

    @property
    def stripe_length(self) -> int:
        """Return the bytes that each stripe takes on its device."""
        last_row, _ = row_and_column(self.length - 1, len(self.stripes), self.profile)
        return (last_row + 1) * STRIPE_LEN if self.striped else self.length

    def locate(self, logical: int) -> Mapping:
        """Return where byte *logical* of this chunk lies."""
        offset, width, profile = logical - self.logical, len(self.stripes), self.profile
        if not self.striped:  # what follows would say the same, in ten times the time
            stripes = self.stripes[: profile.copies]
            return Mapping(
                tuple(Location(stripe.devid, stripe.offset + offset) for stripe in stripes), (), self.end - logical
            )
        row, column = row_and_column(offset, width, profile)
        columns = data_columns(width, profile)
        copies = tuple(self._place(row, column * profile.copies + copy, offset) for copy in range(profile.copies))
        parity = tuple(("PQ"[i], self._place(row, columns + i, offset)) for i in range(profile.parity))
        length = self.end - logical
        if self.striped:
            length = min(length, STRIPE_LEN - offset % STRIPE_LEN)
        return Mapping(copies, parity, length)

    def held(self, stripe: int, offset: int) -> Held:
        """Return what byte *offset* of stripe number *stripe* is: the inverse of :meth:`locate`."""
        width, profile = len(self.stripes), self.profile
        row, within = divmod(offset, STRIPE_LEN)
        columns = data_columns(width, profile)
        column, copy = divmod(position_of(row, stripe, width, profile), profile.copies)
        left = STRIPE_LEN - within
        if column >= columns:
            return Held(self.logical + row * columns * STRIPE_LEN, column - columns, parity=True, length=left)
        logical = self.logical + (row * columns + column) * STRIPE_LEN + within
        if logical >= self.end:
            return Held(None, copy, parity=False, length=left)
        length = self.end - logical
        return Held(logical, copy, parity=False, length=min(length, left) if self.striped else length)

    def row(self, logical: int) -> Row:
        """Return every place of the row that holds byte *logical*, at the same byte of each element."""
        offset, width, profile = logical - self.logical, len(self.stripes), self.profile
        row, column = row_and_column(offset, width, profile)
        return Row(column, tuple(self._place(row, position, offset) for position in range(width)))

    def _place(self, row: int, position: int, offset: int) -> Location:
        stripe = self.stripes[stripe_index(row, position, len(self.stripes), self.profile)]
        return Location(stripe.devid, stripe.offset + row * STRIPE_LEN + offset % STRIPE_LEN)


class ChunkMap:
    """The chunks of a filesystem, none overlapping another; iteration is in logical order.

    Further chunks come from *source* when an address needs them: a filesystem of many terabytes has more leaves of
    chunks than all that a question about one file should read. Iteration takes all that *source* has. Beside a source,
    *chunks* are what it is itself read by, and of what it lacks: a copy in a superblock must not hide the original.

    A chunk of which addresses cannot be computed is left out and told to *warn*, so that the rest stays readable. Of
    two that overlap the shorter stays: a length that is wrong must not hide the chunks behind it. What else the kernel
    asks of a chunk (btrfs_check_chunk_valid in fs/btrfs/tree-checker.c) no reader needs.
    """

    def __init__(
        self, chunks: Iterable[tuple[int, Chunk]], warn: Callable[[str], None], source: ChunkSource | None = None
    ) -> None:
        self._chunks: list[MappedChunk] = []
        self._starts: list[int] = []
        self._warn, self._source = warn, source
        self._given = dict(chunks)
        self._bootstrap = ChunkMap(self._given.items(), warn) if source else None
        if not source:
            self._add(self._given.items())

    def add(self, logical: int, chunk: Chunk) -> MappedChunk:
        """Add a chunk that is new on the filesystem, and return it.

        Raises CorruptError when addresses cannot be computed or when it overlaps another.
        """
        mapped = _accept(logical, chunk)
        chunks = self._complete()
        at = bisect_right(self._starts, mapped.logical)
        for other in chunks[max(at - 1, 0) : at + 1]:
            if other.logical < mapped.end and mapped.logical < other.end:
                raise CorruptError(f"a new chunk {logical} of {chunk.length} bytes would overlap {other.logical}")
        chunks.insert(at, mapped)
        self._starts.insert(at, mapped.logical)
        return mapped

    def remove(self, logical: int) -> None:
        """Forget the chunk that starts at *logical*."""
        chunks = self._complete()
        at = self._starts.index(logical)
        del chunks[at], self._starts[at]

    def _add(self, chunks: Iterable[tuple[int, Chunk]]) -> None:
        accepted = []
        for logical, chunk in chunks:
            try:
                accepted.append(_accept(logical, chunk))
            except CorruptError as error:
                self._warn(f"{error}; what lies in it cannot be read")
        for mapped in sorted(accepted, key=lambda mapped: (mapped.length, mapped.logical)):
            at = bisect_right(self._starts, mapped.logical)
            neighbours = self._chunks[max(at - 1, 0) : at + 1]
            other = next((o for o in neighbours if o.logical < mapped.end and mapped.logical < o.end), None)
            if other is None:
                self._chunks.insert(at, mapped)
                self._starts.insert(at, mapped.logical)
            elif other.logical != mapped.logical or other.length != mapped.length:  # else it is here already
                self._warn(f"chunk {mapped.logical} of {mapped.length} bytes overlaps {other.logical} and is left out")

    def _complete(self) -> list[MappedChunk]:
        source, self._source = self._source, None
        if source:
            self._add(source.all())
            self._add(self._given.items())
        return self._chunks

    def __len__(self) -> int:
        return len(self._complete())

    def __iter__(self) -> Iterator[MappedChunk]:
        return iter(self._complete())

    def find(self, logical: int) -> MappedChunk:
        """Return the chunk that holds byte *logical*; raise CorruptError when none does."""
        mapped = self._known(logical) or self._ask(logical)
        if mapped is None and self._bootstrap:
            return self._bootstrap.find(logical)
        if mapped is None:
            raise CorruptError(f"logical address {logical} lies in no chunk")
        return mapped

    def _ask(self, logical: int) -> MappedChunk | None:
        source, self._source = self._source, None  # a chunk tree that needs itself must not be searched for ever
        if source is None:
            return None
        try:
            found = source.find(logical)
        except CorruptError:
            if self._bootstrap is None or self._bootstrap._known(logical) is None:
                raise
            found = None
        finally:
            self._source = source
        self._add([found] if found else [])
        return self._known(logical)

    def _known(self, logical: int) -> MappedChunk | None:
        at = bisect_right(self._starts, logical) - 1
        return self._chunks[at] if at >= 0 and logical < self._chunks[at].end else None

    def locate(self, logical: int) -> Mapping:
        """Return where byte *logical* lies; raise CorruptError when it lies in no chunk."""
        return self.find(logical).locate(logical)


def _accept(logical: int, chunk: Chunk) -> MappedChunk:
    what = f"chunk {logical}"
    try:
        profile = profile_of(chunk.type)
    except CorruptError as error:
        raise CorruptError(f"{what}: {error}") from None
    if chunk.stripe_len != STRIPE_LEN:
        raise CorruptError(f"{what} has a stripe length of {chunk.stripe_len}, not {STRIPE_LEN}")
    width = len(chunk.stripes)
    if not profile.min_stripes <= width <= profile.max_stripes or (width - profile.parity) % profile.copies:
        raise CorruptError(f"{what} is {profile.name} of {width} stripes, which cannot be")
    if chunk.length == 0 or logical + chunk.length > _END:
        raise CorruptError(f"{what} is of {chunk.length} bytes")
    last_row, _ = row_and_column(chunk.length - 1, width, profile)
    footprint = (last_row + 1) * STRIPE_LEN
    for stripe in chunk.stripes:
        if stripe.offset + footprint > _END:
            raise CorruptError(f"{what} lies at {stripe.offset} of device {stripe.devid}, which cannot be")
    return MappedChunk(logical, chunk.length, chunk.type, profile, chunk.stripes)

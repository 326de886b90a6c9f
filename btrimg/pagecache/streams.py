"""From reads of files to streams of page numbers, for every scheme: pages of equal keys have one number.

All schemes are given the same page accesses in the same order, so that streams can be laid beside each other.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import TraceError
from btrimg.named import NamedTuple
from btrimg.pagecache.comparing import Source, contents_of, settle
from btrimg.pagecache.coverage import ranked
from btrimg.pagecache.pages import REFUSALS, KeyRuns
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.pagecache.simulate import Stream
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.pages import Ints

    Bools = NDArray[np.bool_]

PAGES_MOST = 1 << 28  #: page accesses; a stream of so many takes 2 GiB
_POSITIONS_MOST = 1 << 62
_FEW = 1 << 20  # numbers of pages that are not worth sparing
_HOLE = REFUSALS.index("hole")


class Reads(NamedTuple):
    """Accesses to files, in order; columns."""

    time: Ints  #: nanoseconds
    reader: Ints  #: number of who reads
    file: Ints  #: row of the table of files
    page: Ints  #: first page
    pages: Ints  #: how many, at least 1
    mapped: Bools  #: whether it was a fault of a mapping

    def take(self, rows: Ints | Bools) -> Reads:
        """Return some of them."""
        return Reads._make(column[rows] for column in self)


def everything(rows: FileRows) -> Reads:
    """Return the reads of somebody who reads all files whole, each once, in order; each file has its own reader."""
    pages = rows.files.pages
    file = np.flatnonzero(pages)
    none = np.zeros(len(file), np.int64)
    return Reads(none, file, file, none, pages[file], none.astype(np.bool_))


class Split(NamedTuple):
    """Reads, cut where runs begin and end; what is in no run is left out."""

    read: Ints  #: number of the read
    run: Ints
    page: Ints  #: first page
    pages: Ints


class Streams:
    """The page accesses of reads, and their numbers under every scheme.

    Without *holes*, accesses to pages of holes are left out and counted. Raises TraceError where there are too many.
    """

    def __init__(self, rows: FileRows, reads: Reads, domains: Domains, *, holes: bool, compare: bool) -> None:
        used = np.zeros(rows.files.rows, np.bool_)
        used[reads.file] = True
        kept = used[rows.runs.file] & (holes | (rows.runs.refusal != _HOLE))
        self.rows = rows._replace(runs=type(rows.runs)._make(column[kept] for column in rows.runs))
        self._domains, self._compare = domains, compare
        pages = np.where(used, rows.files.pages, 0)
        if _sum(pages) >= _POSITIONS_MOST:
            raise TraceError("the files of the trace are larger than 16 ZiB together: replay a part of it")
        self._base = np.cumsum(pages) - pages  # of each file, the position of its first page
        runs = self.rows.runs
        split = self.split(reads, runs.file, runs.page, runs.pages)
        self.pages = _sum(split.pages)
        self.holes = _sum(reads.pages) - self.pages  #: page accesses that are left out
        if self.pages > PAGES_MOST:
            raise TraceError(f"{self.pages} page accesses, more than {PAGES_MOST}: replay a part of the trace")
        self.reads = reads.take(split.read)._replace(page=split.page, pages=split.pages)  #: cut by file extents
        self.access = split.read  #: of each of these, the number of the access it is of
        self.accesses = int(np.count_nonzero(np.diff(split.read, prepend=-1)))
        self.offset = np.cumsum(split.pages) - split.pages  #: of each read, the number of its first page access

    def split(self, reads: Reads, file: Ints, page: Ints, pages: Ints) -> Split:
        """Return *reads* cut by runs that are in order of file and page and do not overlap; all are of files used."""
        start = self._base[file] + page
        first = self._base[reads.file] + reads.page
        low = np.searchsorted(start + pages, first, "right")
        high = np.searchsorted(start, first + reads.pages, "left")
        count = np.maximum(high - low, 0)
        read = np.repeat(np.arange(len(first)), count)
        run = ranges(low, count)
        begin = np.maximum(start[run], first[read])
        end = np.minimum((start + pages)[run], (first + reads.pages)[read])
        return Split(read, run, begin - self._base[reads.file[read]], end - begin)

    def per_access(self, column: Ints | Bools) -> NDArray[np.int64]:
        """Return a column of the reads for each page access."""
        return np.repeat(column, self.reads.pages)

    @cached_property
    def file(self) -> Ints:
        """Return the file of each page access."""
        return self.per_access(self.reads.file)

    @cached_property
    def extents(self) -> Numbered:
        """Return the stream by extents, whatever the trust domains: one number is one copy of data."""
        return self._numbered(SCHEMES["extent"].keys(self.rows, Domains()))

    def numbered(self, scheme: str) -> Numbered:
        """Return the stream under one scheme."""
        if scheme == "none":
            found = self._by_reader()
        elif scheme == "content":
            found = self._by_content()
        else:
            found = self._numbered(SCHEMES[scheme].keys(self.rows, self._domains))
        return found._replace(stream=_dense(found.stream))

    def _numbered(self, keys: KeyRuns) -> Numbered:
        number, total = numbers_of(keys)
        split = self.split(self.reads, keys.file, keys.page, keys.pages)
        first = number[split.run] + split.page - keys.page[split.run]
        refused = np.bincount(keys.refusal[split.run], split.pages, len(REFUSALS)).astype(np.int64)
        pieces = self._pieces(keys, split)
        return Numbered(Stream(ranges(first, split.pages), total), pieces, keys, refused)

    def _pieces(self, keys: KeyRuns, split: Split) -> int:
        """Return how many pieces the accesses are in of keys that follow each other."""
        number = keys.number[split.run] + split.page - keys.page[split.run]
        follows = number[1:] == (number + split.pages)[:-1]
        for column in (self.access[split.read], keys.space[split.run], keys.unit[split.run]):
            follows &= column[1:] == column[:-1]
        return len(number) - int(np.count_nonzero(follows))

    def _by_reader(self) -> Numbered:
        """Return the stream where each reader has its own copy of each file."""
        keys = SCHEMES["none"].keys(self.rows, self._domains)
        files = self.rows.files
        pair, number = np.unique(self.reads.reader * files.rows + self.reads.file, return_inverse=True)
        pages = files.pages[pair % max(files.rows, 1)]
        base = np.cumsum(pages) - pages
        first = base[number] + self.reads.page
        refused = np.zeros(len(REFUSALS), np.int64)
        refused[0] = self.pages
        pieces = self.accesses
        return Numbered(Stream(ranges(first, self.reads.pages), int(pages.sum())), pieces, keys, refused)

    def _by_content(self) -> Numbered:
        """Return the stream by content. What one extent holds has one content: extents stand for their pages."""
        extents = self._numbered(SCHEMES["extent"].keys(self.rows, self._domains))
        contents = contents_of(Source(self.rows, np.zeros(self.rows.files.rows, np.int64)), self._domains)
        (keys,), _ = settle([contents], read=self._compare, done=lambda _places, _bytes: None)
        number, total = numbers_of(keys)
        by_extent, _ = numbers_of(extents.keys)
        within = Reads(keys.file, keys.file, keys.file, keys.page, keys.pages, keys.refusal != 0)
        split = self.split(within, extents.keys.file, extents.keys.page, extents.keys.pages)
        place = by_extent[split.run] + split.page - extents.keys.page[split.run]
        content = number[split.read] + split.page - keys.page[split.read]
        shared = keys.refusal[split.read] == 0
        found = np.zeros(extents.stream.numbers, np.int64)
        found[ranges(place[shared], split.pages[shared])] = ranges(content[shared], split.pages[shared])
        pages = found[extents.stream.pages]
        alone = np.flatnonzero(keys.refusal != 0)
        split = self.split(self.reads, keys.file[alone], keys.page[alone], keys.pages[alone])
        run = alone[split.run]
        at = self.offset[split.read] + split.page - self.reads.page[split.read]
        pages[ranges(at, split.pages)] = ranges(number[run] + split.page - keys.page[run], split.pages)
        refused = np.bincount(keys.refusal[run], split.pages, len(REFUSALS)).astype(np.int64)
        refused[0] = self.pages - int(refused.sum())
        return Numbered(Stream(pages, total), extents.pieces, keys, refused)


class Numbered(NamedTuple):
    """A stream under one scheme."""

    stream: Stream
    pieces: int  #: accesses, cut where keys do not follow each other: how often something is looked up
    keys: KeyRuns
    refused: Ints  #: page accesses by refusal


def numbers_of(keys: KeyRuns) -> tuple[Ints, int]:
    """Return for each run the number of its first page, and how many numbers there are; equal keys have equal numbers.

    Numbers count up along with keys, and none is left out.
    """
    if not len(keys.file):
        return np.empty(0, np.int64), 0
    order = np.lexsort((keys.unit, keys.space))
    new = (keys.space[order][1:] != keys.space[order][:-1]) | (keys.unit[order][1:] != keys.unit[order][:-1])
    line = np.empty(len(order), np.int64)
    line[order] = np.cumsum(np.append(False, new))
    at, first, last = ranked(line, keys.number, keys.number + keys.pages)
    depth = np.zeros(len(at), np.int64)
    np.add.at(depth, first, 1)
    np.subtract.at(depth, last, 1)
    covered = np.where(np.cumsum(depth) > 0, np.append(at[1:] - at[:-1], 0), 0)
    before = np.cumsum(covered) - covered
    return before[first], int(covered.sum())


def _dense(stream: Stream) -> Stream:
    """Return *stream* with the numbers that occur counted anew, if that spares much memory."""
    if stream.numbers <= 4 * len(stream.pages) + _FEW:
        return stream
    found, pages = np.unique(stream.pages, return_inverse=True)
    return Stream(pages, len(found))


def _sum(column: Ints) -> int:
    """Return the sum, which need not fit 64 bits; exact where it fits 53."""
    return int(column.astype(np.float64).sum())

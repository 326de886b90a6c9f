"""Pages by content, of whole filesystems: first by the checksums that are stored, then, if wanted, by reading.

Extents that many files use are looked at once: pages that have one key under ``extent`` have one content.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import BtrimgError
from btrimg.filesystem.columns import COMPRESSED
from btrimg.filesystem.data import read_logical
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag
from btrimg.pagecache.coverage import cover, grouped
from btrimg.pagecache.pages import PAGE_SHIFT, REFUSALS, KeyRuns
from btrimg.pagecache.schemes import COMPARED, SCHEMES, Domains
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.filerows import FileRows

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

DECISIVE = 32  #: bytes of a checksum that is never equal by chance or on purpose: those of SHA-256 and BLAKE2b


FEW = 8192  #: pages that are compared without being asked to: 32 MiB, a third of a second
_PAGES_SHIFT = 5  # a sector, or what a compressed extent holds, is 32 pages at most
_PAGE_MASK = (1 << _PAGES_SHIFT) - 1
_HASH_MASK = (1 << 62) - 1 & ~_PAGE_MASK


class Source(NamedTuple):
    """Files of one filesystem, and whose each is."""

    rows: FileRows
    sharer: Ints  #: of each file, number of who reads it


class EqualSums(NamedTuple):
    """How many pages of different places have the same checksum."""

    pages: int  #: pages that are not in memory only because another one has their checksum
    compared: bool  #: whether all these were read, or have checksums that need no comparing
    different: int  #: pages that turned out to be different, and are counted as such


class Contents(NamedTuple):
    """The keys of a filesystem's pages by content; pages of one extent that several files use come once."""

    image: Image
    keys: KeyRuns
    sharer: Ints  #: of each run, the first of those who read it
    place: Ints  #: logical address of what was checksummed: a sector, or a compressed extent; -1 for refused pages
    length: Ints  #: of that, in bytes


def contents_of(source: Source, domains: Domains) -> Contents:
    """Return the pages of *source* by the checksums that are stored."""
    rows, runs = source.rows, source.rows.runs
    keys = SCHEMES["extent"].keys(rows, domains)
    # What has no checksum, each file has for itself, also where extents are shared.
    summed = rows.files.flags[runs.file] & int(InodeFlag.NODATASUM) == 0
    shareable = np.flatnonzero((keys.refusal == 0) & summed)
    groups = grouped(KeyRuns._make(column[shareable] for column in keys), source.sharer[runs.file[shareable]])
    once = (keys.refusal != 0) | ~summed
    once[shareable[groups.chosen]] = True
    found = _keys_of(rows, once, domains)
    lost = np.unique(found.row[found.refusal == REFUSALS.index("no checksum")])
    again = np.flatnonzero(np.isin(runs.row[shareable[groups.chosen]], lost))
    if len(again):
        members = groups.order[ranges(groups.start[again], np.diff(groups.start)[again])]
        once[shareable[members]] = True
        found = _keys_of(rows, once, domains)
    return _placed(source, found)


def _keys_of(rows: FileRows, which: Bools, domains: Domains) -> KeyRuns:
    runs = type(rows.runs)._make(column[which] for column in rows.runs)
    return SCHEMES["content"].keys(rows._replace(runs=runs), domains)


def _placed(source: Source, keys: KeyRuns) -> Contents:
    """Return *keys* with the place of each: they are cut at sectors, but where the extent is compressed."""
    extents, sectorsize = source.rows.extents, source.rows.image.volume.sectorsize
    place, length = np.full(len(keys.file), -1, np.int64), np.zeros(len(keys.file), np.int64)
    taken = np.flatnonzero(keys.refusal == 0)
    row = keys.row[taken]
    address = extents.logical[row] + (keys.page[taken] << PAGE_SHIFT) - extents.offset[row]
    packed = extents.kind[row] == COMPRESSED
    place[taken] = np.where(packed, extents.extent_logical[row], address - address % sectorsize)
    length[taken] = np.where(packed, extents.extent_length[row], sectorsize)
    return Contents(source.rows.image, keys, source.sharer[keys.file], place, length)


def settle(
    contents: Sequence[Contents], *, read: bool, done: Callable[[int, int], None]
) -> tuple[list[KeyRuns], EqualSums]:
    """Return the keys of *contents*, and what is to be said of those that are equal for different places.

    These places are read where they are FEW, or with *read*, and pages that differ get keys that do; one that cannot
    be read is like no other. *done* is told how many places and bytes were read. Checksums of 32 bytes are not doubted.
    """
    doubted = _doubted(contents)
    places = _total(_by_place(each, number, which) for number, (each, which) in enumerate(doubted))
    equal = _total(_take(each.keys, which) for each, which in doubted)
    keys = [each.keys for each in contents]
    sure = all(each.image.volume.csum.size >= DECISIVE for each in contents)
    if not sure and (read or places <= FEW):
        keys = [_compared(each, number, which, done) for number, (each, which) in enumerate(doubted)]
        sure = True
    after = _total(_take(each, which) for each, (_, which) in zip(keys, doubted, strict=True))
    return keys, EqualSums(places - equal, sure, after - equal)


def _take(keys: KeyRuns, which: Bools | Ints) -> KeyRuns:
    return KeyRuns._make(column[which] for column in keys)


def _total(several: Iterable[KeyRuns]) -> int:
    """Return how many different keys there are."""
    keys = KeyRuns._make(map(np.concatenate, zip(*several, strict=True)))
    return cover(keys, np.zeros(len(keys.file), np.int64)).total


def _by_place(contents: Contents, number: int, which: Bools) -> KeyRuns:
    """Return keys of some pages by where they lie on filesystem *number*, not by content."""
    keys = _take(contents.keys, which)
    place = (contents.place[which] >> PAGE_SHIFT << _PAGES_SHIFT) + (keys.number & _PAGE_MASK)
    return keys._replace(unit=np.full(len(keys.unit), number, np.int64), number=place)


def _doubted(contents: Sequence[Contents]) -> list[tuple[Contents, Bools]]:
    """Return of which runs the checksum is that of another place, too."""
    parts = [(each, np.flatnonzero(each.place >= 0)) for each in contents]
    keys = [_take(each.keys, which) for each, which in parts]
    columns = [
        np.concatenate([each.space for each in keys]),
        np.concatenate([each.unit for each in keys]),
        np.concatenate([each.number & ~_PAGE_MASK for each in keys]),
        np.concatenate([np.full(len(which), number) for number, (_, which) in enumerate(parts)]),
        np.concatenate([each.place[which] for each, which in parts]),
    ]
    order = np.lexsort(columns[::-1])
    new = [np.append(True, column[order][1:] != column[order][:-1])[: len(order)] for column in columns]
    key = np.cumsum(new[0] | new[1] | new[2]) - 1
    places = np.bincount(key, new[0] | new[1] | new[2] | new[3] | new[4], minlength=1)
    several = np.zeros(len(order), np.bool_)
    several[order] = places[key] > 1
    found, at = [], 0
    for each, which in parts:
        doubted = np.zeros(len(each.place), np.bool_)
        doubted[which] = several[at : at + len(which)]
        at += len(which)
        found.append((each, doubted))
    return found


def _compared(contents: Contents, number: int, which: Bools, done: Callable[[int, int], None]) -> KeyRuns:
    """Return the keys with those of some runs replaced by hashes of what is read."""
    doubted = np.flatnonzero(which)
    place, first, whose = np.unique(contents.place[doubted], return_index=True, return_inverse=True)
    length = contents.length[doubted][first]
    digests = bytearray()
    for at, size in zip(place.tolist(), length.tolist(), strict=True):
        try:
            data = read_logical(contents.image, at, size, verify=True)
        except BtrimgError:
            data = b"%d %d" % (number, at)  # no sector, nor a compressed extent, is as short
        digests += blake2b(data, digest_size=16).digest()
        done(1, size)
    words = np.frombuffer(digests, np.int64).reshape(-1, 2)[whose]
    space, unit, numbers = (column.copy() for column in contents.keys[3:6])
    space[doubted] |= COMPARED
    unit[doubted] = words[:, 0]
    numbers[doubted] = (words[:, 1] & _HASH_MASK) | (numbers[doubted] & _PAGE_MASK)
    return contents.keys._replace(space=space, unit=unit, number=numbers)

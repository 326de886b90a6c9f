"""Schemes of sharing: small functions from what files are made of to the keys of their pages.

Equal keys are one page in memory. A scheme that does not share a page says why, and gives it the key that today's
kernel would: the inode's own. Keys say what they stand for and are made without looking at other files, so those of
one file made alone are those made in bulk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem.columns import COMPRESSED, INLINE
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN, InodeFlag
from btrimg.pagecache import sums
from btrimg.pagecache.mixing import mix
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT, REFUSALS, KeyRuns
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from btrimg.pagecache.filerows import FileRows

    Ints = NDArray[np.int64]
    Codes = NDArray[np.uint8]
    Bools = NDArray[np.bool_]

# Sorts of keys, the low byte of ``KeyRuns.space``.
NONE, INODE, POSTED, DEVICE, EXTENT, SAME_OFFSET, WHOLE_FILE, CONTENT = range(8)
PACKED = 8  #: plus Compression: pages of extents as decompressed
COMPARED = 64  #: in the kind of keys by content: by a hash of what was read
_PACKED_CONTENT = 16  # plus Compression: likewise, by content
_DOMAIN_SHIFT = 8
KIND_MASK = (1 << _DOMAIN_SHIFT) - 1
_PAGES_SHIFT = 5  # compressed extents hold 128 KiB at most, and checksums cover no more: 32 pages

_REFUSED = {name: number for number, name in enumerate(REFUSALS)}


class Domains:
    """Trust domains: sets of subvolumes. Pages are shared within a domain, never between two.

    Without any, all subvolumes trust each other. With some, a subvolume that is in none is a domain by itself.
    """

    def __init__(self, named: Mapping[str, Sequence[int]] | None = None) -> None:
        self.names = tuple(named or ())
        members = [(subvolume, 2 * (at + 1)) for at, name in enumerate(self.names) for subvolume in (named or {})[name]]
        members.sort()
        self._subvolumes = np.array([subvolume for subvolume, _ in members], np.int64)
        self._numbers = np.array([number for _, number in members], np.int64)

    def domain_of(self, subvolume: Ints) -> Ints:
        """Return the number of the domain of each subvolume, 0 if there are no domains."""
        if not self.names:
            return np.zeros(len(subvolume), np.int64)
        alone = 2 * subvolume + 1
        if not len(self._subvolumes):
            return alone
        at = np.minimum(np.searchsorted(self._subvolumes, subvolume), len(self._subvolumes) - 1)
        return np.where(self._subvolumes[at] == subvolume, self._numbers[at], alone)


class Scheme(NamedTuple):
    """A way to share pages."""

    name: str
    what: str  #: the key, or what the scheme stands for, in a few words
    keys: Callable[[FileRows, Domains], KeyRuns]


def _own(rows: FileRows, kind: int = INODE) -> KeyRuns:
    """Return keys that only the inode itself has; refused is what no scheme could share."""
    runs, files = rows.runs, rows.files
    space = files.subvolume[runs.file] << _DOMAIN_SHIFT | kind
    return KeyRuns(runs.file, runs.page, runs.pages, space, files.inode[runs.file], runs.page, runs.refusal, runs.row)


class _Keys:
    """Keys in the making: all are the inode's own at first."""

    def __init__(self, rows: FileRows, domains: Domains) -> None:
        self.own = _own(rows)
        self.rows, self.refusal = rows, self.own.refusal.copy()
        self._domain = domains.domain_of(rows.files.subvolume)[self.own.file] << _DOMAIN_SHIFT
        self.space, self.unit, self.number = self.own.space.copy(), self.own.unit.copy(), self.own.number.copy()

    def refuse(self, which: Bools | Ints, why: str) -> None:
        """Refuse runs for one more reason; the first one counts."""
        self.refusal[which] = np.where(self.refusal[which] == 0, _REFUSED[why], self.refusal[which])

    def refuse_flagged(self, flag: InodeFlag, why: str) -> None:
        """Refuse the files that have an inode flag."""
        self.refuse((self.rows.files.flags & int(flag) != 0)[self.own.file], why)

    def refuse_written_in_place(self) -> None:
        """Refuse files without copy-on-write: their bytes change while all that names them stays as it is."""
        self.refuse_flagged(InodeFlag.NODATACOW, "nodatacow")

    def column(self, name: str, which: Ints) -> NDArray[Any]:
        """Return a column of the file extents of some runs, each of which is made up by one."""
        found: NDArray[Any] = getattr(self.rows.extents, name)[self.own.row[which]]
        return found

    def inside(self, which: Ints) -> Ints:
        """Return how many bytes of its row stand before each of some runs."""
        offset: Ints = self.column("offset", which)
        return (self.own.page[which] << PAGE_SHIFT) - offset

    def logical(self, which: Ints) -> Ints:
        """Return the address of the first byte of runs; that of compressed extents, as if they were not."""
        logical: Ints = self.column("logical", which)
        return logical + self.inside(which)

    def generation(self, which: Ints) -> Ints:
        """Return the transid that wrote the extents."""
        found: Ints = self.column("generation", which).view(np.int64)
        return found

    def packed(self, which: Ints) -> Bools:
        """Return of which runs the extent is compressed."""
        found: Bools = self.column("kind", which) == COMPRESSED
        return found

    def decompressed_page(self, which: Ints) -> Ints:
        """Return the page within the decompressed extent at which runs start."""
        return (self.column("extent_offset", which) + self.inside(which)) >> PAGE_SHIFT

    def give(self, which: Ints, kind: int | Ints, unit: Ints, number: Ints) -> None:
        """Give runs keys that others of the domain may have, too."""
        self.space[which], self.unit[which], self.number[which] = self._domain[which] | kind, unit, number

    def shareable(self) -> Ints:
        """Return the runs that were not refused."""
        return np.flatnonzero(self.refusal == 0)

    def finish(self) -> KeyRuns:
        """Return the keys as they are now."""
        return self.own._replace(space=self.space, unit=self.unit, number=self.number, refusal=self.refusal)


def none(rows: FileRows, domains: Domains) -> KeyRuns:
    """Every reader has its own pages: upper line. Readers of one file are told apart by whoever has several."""
    keys = _own(rows, NONE)
    return keys._replace(refusal=np.zeros_like(keys.refusal))


def inode(rows: FileRows, domains: Domains) -> KeyRuns:
    """Key by subvolume, inode and page: today's kernel. Holes have pages of zeros, too."""
    keys = _own(rows)
    return keys._replace(refusal=np.zeros_like(keys.refusal))


def posted(rows: FileRows, domains: Domains) -> KeyRuns:
    """Take the logical address for one of the only device, as the patches do that were posted in 2021.

    What they do not ask is not asked: compressed bytes are taken for data, unwritten ones for zeros, and the address
    of inline data, -2, for an address. With several devices they refuse to share.
    """
    keys = _Keys(rows, domains)
    if rows.image.superblock.num_devices != 1:
        keys.refusal[:] = 0
        keys.refuse(np.ones(len(keys.refusal), np.bool_), "devices")
        return keys.finish()
    unasked = (_REFUSED["inline"], _REFUSED["prealloc"])
    keys.refusal[np.isin(keys.refusal, unasked)] = 0
    keys.refuse_written_in_place()
    which = keys.shareable()
    page = keys.logical(which) >> PAGE_SHIFT
    page = np.where(keys.column("kind", which) == INLINE, _INLINE_PAGE + keys.own.page[which], page)
    devid = np.full(len(which), rows.image.superblock.dev_item.devid, np.uint64).view(np.int64)
    keys.give(which, POSTED, devid, page)
    return keys.finish()


_INLINE_PAGE = (1 << 64) - 2 >> PAGE_SHIFT  # of EXTENT_MAP_INLINE


def device(rows: FileRows, domains: Domains) -> KeyRuns:
    """Key by device and page there, of the first copy: the posted patches, corrected."""
    keys = _Keys(cut_at_stripes(rows), domains)
    keys.refuse_written_in_place()
    which = keys.shareable()
    keys.refuse(which[keys.packed(which)], "compressed")
    which = keys.shareable()
    address = keys.logical(which)
    places = rows.place_map()
    found = places.locate(address.view(np.uint64))
    ends = places.ends(address.view(np.uint64))
    physical = found.physical[0]
    keys.refuse(which[ends - address < keys.own.pages[which] << PAGE_SHIFT], "damaged")
    keys.refuse(which[physical & (PAGE - 1) != 0], "unaligned")
    kept = keys.refusal[which] == 0
    keys.give(which[kept], DEVICE, found.devid[0][kept].view(np.int64), physical[kept] >> PAGE_SHIFT)
    return keys.finish()


def cut_at_stripes(rows: FileRows) -> FileRows:
    """Return *rows* with runs cut so that each is contiguous on its device, where the chunk is striped."""
    keys = _Keys(rows, Domains())
    which = keys.shareable()
    which = which[~keys.packed(which)]
    length = rows.runs.pages[which] << PAGE_SHIFT
    places, address = rows.place_map(), keys.logical(which)
    first = places.locate(address.view(np.uint64)).contiguous
    # What reaches out of its chunk is left whole, to be refused.
    apart = (first > 0) & (first < length) & (first % PAGE == 0)
    apart &= length <= places.ends(address.view(np.uint64)) - address
    if not apart.any():
        return rows
    heads = rows.runs.pages.copy()
    heads[which[apart]] = first[apart] >> PAGE_SHIFT
    return _cut(rows, heads, STRIPE_LEN >> PAGE_SHIFT)


def _cut(rows: FileRows, head: Ints, step: int) -> FileRows:
    """Return *rows* with runs cut after *head* pages each, and then after every *step*."""
    runs = rows.runs
    counts = 1 - (head - runs.pages) // step
    number = ranges(np.zeros(len(counts), np.int64), counts)
    whole = np.repeat(np.arange(len(counts)), counts)
    done = np.where(number > 0, head[whole] + (number - 1) * step, 0)
    stop = np.minimum(head[whole] + number * step, runs.pages[whole])
    pieces = type(runs)._make(column[whole] for column in runs)
    return rows._replace(runs=pieces._replace(page=pieces.page + done, pages=stop - done))


def extent(rows: FileRows, domains: Domains) -> KeyRuns:
    """Key by logical page and the transid that wrote the extent; of compressed extents by decompressed page.

    It needs no device, and a page of an extent that was freed and written anew is not found.
    """
    keys = _Keys(rows, domains)
    keys.refuse_written_in_place()
    which = keys.shareable()
    keys.give(which, _kind(keys, which, EXTENT), keys.generation(which), _page_of_extent(keys, which))
    return keys.finish()


def _kind(keys: _Keys, which: Ints, plain: int) -> Ints:
    """Return *plain*, or for pages of compressed extents how these are compressed."""
    return np.where(keys.packed(which), PACKED + keys.column("compression", which).astype(np.int64), plain)


def _page_of_extent(keys: _Keys, which: Ints) -> Ints:
    """Return what tells the pages of extents apart that one transaction wrote."""
    packed = keys.column("extent_logical", which) >> PAGE_SHIFT << _PAGES_SHIFT
    plain = keys.logical(which) >> PAGE_SHIFT
    return np.where(keys.packed(which), packed + keys.decompressed_page(which), plain)


def same_offset(rows: FileRows, domains: Domains) -> KeyRuns:
    """Key as under ``extent``, with the page of the file besides (Goldstein, 2019): a page has one index in the kernel.

    The distance from the page of the file to that of the extent goes into the unit by a hash: two that have the same
    could share what is the same page anyway.
    """
    keys = _Keys(rows, domains)
    keys.refuse_written_in_place()
    which = keys.shareable()
    number = _page_of_extent(keys, which)
    unit = mix(keys.generation(which), number - keys.own.page[which], _kind(keys, which, SAME_OFFSET))
    keys.give(which, SAME_OFFSET, unit, number)
    return keys.finish()


def whole_file(rows: FileRows, domains: Domains) -> KeyRuns:
    """Key by a hash of the file's whole list of extents, and page: hard links, overlayfs, EROFS by identity.

    The hash has 125 bits and no secret: whoever forges an image may mix up its own files, those of one trust domain.
    """
    keys = _Keys(rows, domains)
    # A hole or unwritten space is part of the list; bytes that are in no extent have no identity.
    listed = (_REFUSED["hole"], _REFUSED["prealloc"])
    keys.refusal[np.isin(keys.refusal, listed)] = 0
    keys.refuse_written_in_place()
    worst = np.zeros(rows.files.rows, np.uint8)
    np.maximum.at(worst, keys.own.file, keys.refusal)
    keys.refusal = worst[keys.own.file]
    which = keys.shareable()
    own = keys.own
    names = ("extent_logical", "extent_offset", "kind", "compression")
    parts = (
        *(own.page[which], own.pages[which], keys.logical(which), keys.generation(which)),
        *(keys.column(name, which).astype(np.int64) for name in names),
    )
    file = own.file[which]
    lanes = []
    for seed in (1, 2):
        total = np.zeros(rows.files.rows, np.uint64)
        np.add.at(total, file, mix(*parts, seed=seed).view(np.uint64))
        lanes.append(mix(total.view(np.int64), seed=seed)[file])
    keys.give(which, WHOLE_FILE, lanes[0], (lanes[1] & _BELOW_2_62) + own.page[which])
    return keys.finish()


_BELOW_2_62 = (1 << 62) - 1


def content(rows: FileRows, domains: Domains) -> KeyRuns:
    """Key by the block's stored checksum: what merging by content, as KSM does, could save at most.

    Checksums of 4 or 8 bytes are equal for different blocks, by chance or on purpose: such pages must be compared
    before they are one. Pages of compressed extents have the checksums of all compressed bytes for a key.
    """
    sector_pages = rows.image.volume.sectorsize >> PAGE_SHIFT
    keys = _Keys(rows, domains)
    keys.refuse_flagged(InodeFlag.NODATASUM, "no checksum")
    if not sector_pages:
        keys.refuse(keys.shareable(), "unaligned")
        return keys.finish()
    plain = keys.shareable()
    plain = plain[~keys.packed(plain)]
    heads = keys.own.pages.copy()
    heads[plain] = sector_pages - (keys.logical(plain) >> PAGE_SHIFT) % sector_pages
    refused = rows._replace(runs=rows.runs._replace(refusal=keys.refusal))
    keys = _Keys(_cut(refused, np.minimum(heads, keys.own.pages), sector_pages), domains)
    which = keys.shareable()
    packed = keys.packed(which)
    _give_by_sector(keys, which[~packed])
    _give_by_extent(keys, which[packed])
    return keys.finish()


def _give_by_sector(keys: _Keys, which: Ints) -> None:
    """Give runs of pages within one sector keys by its checksum."""
    image = keys.rows.image
    address = keys.logical(which)
    beside = address % image.volume.sectorsize
    found = sums.lookup(image, address - beside, np.ones(len(which), np.int64))
    keys.refuse(which[~found.known], "no checksum")
    unit, *more = found.words()
    number = (more[0] & _BELOW_2_62 if more else np.zeros_like(unit)) >> _PAGES_SHIFT << _PAGES_SHIFT
    number += beside >> PAGE_SHIFT
    known = found.known
    keys.give(which[known], CONTENT, unit[known], number[known])


def _give_by_extent(keys: _Keys, which: Ints) -> None:
    """Give pages of compressed extents keys by the checksums of all sectors of the extent."""
    image = keys.rows.image
    extent, number = np.unique(keys.column("extent_logical", which), return_inverse=True)
    sectors = np.zeros(len(extent), np.int64)
    np.maximum.at(sectors, number, -(-keys.column("extent_length", which) // image.volume.sectorsize))
    found = sums.lookup(image, extent, sectors)
    whole = np.repeat(np.arange(len(extent)), sectors)
    known = np.ones(len(extent), np.bool_)
    known[whole[~found.known]] = False
    place = ranges(np.zeros(len(extent), np.int64), sectors)
    total = np.zeros(len(extent), np.uint64)
    np.add.at(total, whole, mix(place, *found.words()).view(np.uint64))
    unit = mix(total.view(np.int64), sectors)
    keys.refuse(which[~known[number]], "no checksum")
    which, number = which[known[number]], number[known[number]]
    kind = _PACKED_CONTENT + keys.column("compression", which).astype(np.int64)
    keys.give(which, kind, unit[number], keys.decompressed_page(which))


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("none", "every reader its own", none),
        Scheme("inode", "subvolume, inode, page: today's kernel", inode),
        Scheme("device-posted", "the logical address taken as the device's: the patches of 2021", posted),
        Scheme("device", "device and page there: those patches, corrected", device),
        Scheme("extent", "logical page and transid of the extent", extent),
        Scheme("same-offset", "as extent, where file offsets agree", same_offset),
        Scheme("whole-file", "the file's whole list of extents", whole_file),
        Scheme("content", "the block's checksum, then compared: as KSM", content),
    )
}

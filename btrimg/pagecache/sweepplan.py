"""What is to be read to read many files once: their runs of pages as columns, and which of them are the same pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem.columns import COMPRESSED, HOLE, INLINE, PREALLOC, REGULAR
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT, REFUSALS
from btrimg.pagecache.schemes import KIND_MASK, SAME_OFFSET
from btrimg.pagecache.schemes import PACKED as PACKED_KEY
from btrimg.trees.batches import ranges
from btrimg.units import GIB, MIB

if TYPE_CHECKING:
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.pages import Codes, Ints, KeyRuns

LONGEST = GIB // PAGE  #: pages of a run that may be real: no kernel makes extents above 256 MiB
AT_ONCE = MIB // PAGE  #: pages of a plain run
NOTHING, PLAIN, PACKED, SMALL, ALONE = range(5)  #: what a row of a Plan is; see there
_INLINE = REFUSALS.index("inline")
#: of kinds of keys: whether they count the pages of a compressed extent as decompressed
_COUNT_DECOMPRESSED = np.isin(np.arange(KIND_MASK + 1), (SAME_OFFSET, *range(PACKED_KEY, 2 * PACKED_KEY)))


class Plan(NamedTuple):
    """Columns, a row for each run of pages that is not all zeros, in order of file and page.

    ``sort`` says what a row is: PLAIN and PACKED are pages of extents, the latter compressed; SMALL is inline data; a
    row that is ALONE is read through the handle of its file; NOTHING stands for a file that has no other row.
    """

    file: Ints
    page: Ints  #: first page in the file
    pages: Ints
    sort: Codes
    row: Ints  #: of the file extents
    refusal: Codes
    same: Ints  #: which of *wanted* the pages are a part of; -1 if they are no pages of an extent
    inside: Ints  #: the first page, counted from the first of that
    wanted: Wanted


class Wanted(NamedTuple):
    """Columns, a row for each run of pages of extents that several rows of a plan may need, in order of key."""

    space: Ints
    unit: Ints
    number: Ints  #: of the first page
    pages: Ints
    source: Ints  #: where bytes are to be read: address of the first page, or of a whole extent that is compressed
    stored: Ints  #: bytes of a compressed extent, 0 for others
    skipped: Ints  #: decompressed pages before the first one
    unchecked: Codes  #: 1 where there are no checksums
    first: Ints  #: the file that needs it first
    row: Ints  #: the file extent that says what is said here


def plan(rows: FileRows, keys: KeyRuns, most: int, *, alone: bool) -> Plan:
    """Return what to read of the files of *rows*. Runs of more than *most* pages, or all if so told, are ALONE."""
    extents = rows.extents
    kind = np.append(extents.kind, 255)[keys.row]
    kept = np.flatnonzero((kind != HOLE) & (kind != PREALLOC))
    keys, kind = type(keys)._make(column[kept] for column in keys), kind[kept]
    sort = np.full(len(kind), ALONE, np.uint8)
    sort[(kind == INLINE) & (keys.refusal == _INLINE) & (rows.inline_of[keys.file] >= 0)] = SMALL
    if len(extents.offset) and not alone:
        row = np.maximum(keys.row, 0)
        plain = (kind == REGULAR) & ((extents.logical[row] - extents.offset[row]) % PAGE == 0) & (keys.pages <= LONGEST)
        skipped = extents.extent_offset[row]
        packed = (kind == COMPRESSED) & ((skipped - extents.offset[row]) % PAGE == 0)
        packed &= (extents.extent_length[row] % rows.image.volume.sectorsize == 0) & (extents.extent_length[row] > 0)
        sort[plain], sort[packed] = PLAIN, PACKED
    sort[(np.minimum(keys.pages, AT_ONCE) > most) & (sort != SMALL)] = ALONE
    keys, sort = _pieces(keys, sort)
    keys, sort = _with_empty(keys, sort, rows.files.rows)
    same, inside, wanted = _wanted(rows, keys, sort)
    if len(wanted.pages):
        large = (same >= 0) & (wanted.pages[same] > most)
        sort[large], same[large] = ALONE, -1
    return Plan(keys.file, keys.page, keys.pages, sort, keys.row, keys.refusal, same, inside, wanted)


def _pieces(keys: KeyRuns, sort: Codes) -> tuple[KeyRuns, Codes]:
    """Return runs, PLAIN ones cut to AT_ONCE pages each."""
    counts = np.where(sort == PLAIN, -(-keys.pages // AT_ONCE), 1)
    if (counts == 1).all():
        return keys, sort
    whole = np.repeat(np.arange(len(counts)), counts)
    done = ranges(np.zeros(len(counts), np.int64), counts) * AT_ONCE
    cut = type(keys)._make(column[whole] for column in keys)
    pages = np.where(counts[whole] > 1, np.minimum(cut.pages - done, AT_ONCE), cut.pages)
    return cut._replace(page=cut.page + done, number=cut.number + done, pages=pages), sort[whole]


def _with_empty(keys: KeyRuns, sort: Codes, files: int) -> tuple[KeyRuns, Codes]:
    """Return runs and, for each file that has none, a row that says so."""
    empty = np.flatnonzero(np.bincount(keys.file, minlength=files) == 0)
    if not len(empty):
        return keys, sort
    file = np.append(keys.file, empty)
    order = np.argsort(file, kind="stable")
    none = np.zeros(len(empty), np.int64)
    columns = (np.append(column, none.astype(column.dtype))[order] for column in keys)
    return type(keys)._make(columns)._replace(file=file[order]), np.append(sort, none.astype(np.uint8))[order]


def _wanted(rows: FileRows, keys: KeyRuns, sort: Codes) -> tuple[Ints, Ints, Wanted]:
    """Return which runs of pages are to be had, each once, and which of them, from what page on, each row needs."""
    extents = rows.extents
    which = np.flatnonzero((sort == PLAIN) | (sort == PACKED))
    row, page, pages = keys.row[which], keys.page[which], keys.pages[which]
    packed = sort[which] == PACKED
    before = (page << PAGE_SHIFT) - extents.offset[row]
    skipped = np.where(packed, (extents.extent_offset[row] + before) >> PAGE_SHIFT, 0)
    # Of a compressed extent all pages come in at once, if its pages have keys and not only those of the file.
    whole = packed & _COUNT_DECOMPRESSED[keys.space[which] & KIND_MASK]
    inside = np.where(whole, skipped, 0)
    pages = np.where(whole, np.maximum(-(-extents.ram_bytes[row] >> PAGE_SHIFT), skipped + pages), pages)
    columns = (
        *(keys.space[which], keys.unit[which], keys.number[which] - inside, pages),
        np.where(packed, extents.extent_logical[row], extents.logical[row] + before),
        np.where(packed, extents.extent_length[row], 0),
        skipped - inside,
        ((rows.files.flags[keys.file[which]] & int(InodeFlag.NODATASUM)) != 0).astype(np.uint8),
        *(keys.file[which], row),
    )
    order = np.lexsort((columns[3], columns[2], columns[1], columns[0]))  # stable: the first file is the first
    new = np.zeros(len(order), np.bool_)
    new[:1] = True
    for column in columns[:4]:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    same, skip = np.full(len(sort), -1, np.int64), np.zeros(len(sort), np.int64)
    same[which[order]] = np.cumsum(new) - 1
    skip[which] = inside
    return same, skip, Wanted._make(column[order[new]] for column in columns)

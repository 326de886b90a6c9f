"""What the bulk path takes from leaves: rows of file extents, names, inodes and extents, each leaf's once."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from btrimg.errors import BtrimgError
from btrimg.filesystem import strings
from btrimg.filesystem.columns import COMPRESSED, HOLE, INLINE, PREALLOC, REGULAR, ExtentColumns
from btrimg.filesystem.extents import COMPRESSION_NAMES, OFFSET_MAX, row_of_item
from btrimg.filesystem.strings import Strings
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import MAX_COMPRESSED, ExtentFlag, FileExtentType, FileType, ItemType
from btrimg.ondisk.extents import ExtentItem, FileExtent, FileExtentInline
from btrimg.ondisk.inodes import DirItem, InodeExtref, InodeItem, InodeRef
from btrimg.trees import batches
from btrimg.trees.batches import ranges, records_at
from btrimg.trees.leafbatch import leaf_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from btrimg.errors import CorruptError
    from btrimg.trees.leafbatch import LeafBatch

    Report = Callable[[CorruptError], None]
    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]


OTHER, FILE, DIRECTORY, SUBVOLUME = range(4)  #: what an entry of a directory leads to
_ENTRY_KINDS = np.full(128, OTHER, np.uint8)  # by FileType
_ENTRY_KINDS[FileType.REG_FILE], _ENTRY_KINDS[FileType.DIR] = FILE, DIRECTORY


Rows = TypeVar("Rows", bound=tuple[Any, ...])


class Names(NamedTuple):
    """One name of an inode per row: the first of each INODE_REF and INODE_EXTREF."""

    inode: Unsigned
    parent: Unsigned  #: ino of the directory
    name: Strings


class Entries(NamedTuple):
    """Regular files, directories and subvolumes in directories, one per row."""

    inode: Unsigned  #: ino of the directory
    child: Unsigned  #: ino, or the id of a subvolume
    kind: NDArray[np.uint8]  #: FILE, DIRECTORY or SUBVOLUME
    name: Strings


class Inodes(NamedTuple):
    """Inodes, one per row."""

    inode: Unsigned
    size: Unsigned
    mode: NDArray[np.uint32]
    flags: Unsigned  #: InodeFlag

    def take(self, kept: NDArray[Any] | slice) -> Inodes:
        """Return some rows: *kept* holds indexes or a truth value for each."""
        return Inodes._make(column[kept] for column in self)


class InlineData(NamedTuple):
    """What stands in items of inline data, one per row, as it is stored."""

    inode: Unsigned
    data: Strings


class Extents(NamedTuple):
    """Data extents as the extent tree knows them, one per row."""

    logical: Unsigned
    length: Unsigned
    refs: Unsigned


class Parts(Generic[Rows]):
    """Rows that come in parts and are held in memory."""

    def __init__(self) -> None:
        self._several: list[Rows] = []

    def append(self, rows: Rows) -> None:
        """Take some more rows; the first ones, of which there may be none, say what columns there are."""
        self._several.append(rows)

    def join(self) -> Rows:
        """Return all rows, and hold them no longer."""
        several, self._several = self._several, []
        return joined(several)


class LeafTable(Generic[Rows]):
    """The rows that *take* makes of the items of all leaves, held by *parts*, and which of them are whose.

    Batches without an item of any of the *types* are passed over, where these are known.
    """

    def __init__(
        self,
        take: Callable[[LeafBatch], tuple[LeafBatch, Rows]],
        parts: Parts[Rows] | None = None,
        types: Collection[int] | None = None,
    ) -> None:
        self._take, self._types = take, types
        self._parts = parts or Parts()
        self._parts.append(take(leaf_of([], 0))[1])
        self._counts: list[Ints] = [np.zeros(1, np.int64)]

    def add(self, batch: LeafBatch) -> None:
        """Take the rows of a batch of leaves, of none once the table is finished; batches come in order."""
        if not self._counts:
            return
        if self._types is not None and batch.types.isdisjoint(self._types):
            self._counts.append(np.zeros(batch.leaves, np.int64))
            return
        items, rows = self._take(batch)
        self._parts.append(rows)
        self._counts.append(np.bincount(items.leaf - batch.first_leaf, minlength=batch.leaves))

    def finish(self) -> None:
        """Join the rows of all batches; before, there are none. A second call does nothing."""
        if self._counts:
            self._bounds = np.cumsum(np.concatenate(self._counts))
            self.rows = self._parts.join()
            self._counts = []

    def counts_of(self, leaves: Ints) -> Ints:
        """Return how many rows each of *leaves* has."""
        return self._bounds[leaves + 1] - self._bounds[leaves]

    def rows_of(self, leaves: Ints) -> Ints:
        """Return the numbers of the rows of *leaves*, in this order."""
        return ranges(self._bounds[leaves], self.counts_of(leaves))

    @property
    def leaves(self) -> Ints:
        """Return the number of the leaf of every row."""
        return np.repeat(np.arange(len(self._bounds) - 1), np.diff(self._bounds))

    def replace(self, rows: Rows, counts: Ints) -> None:
        """Put *rows* in the place of those there are: ``counts[i]`` for row i."""
        self.rows = rows
        self._bounds = np.append(0, np.cumsum(counts))[self._bounds]


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of *parts*, at least one, one after the other."""
    columns = (
        strings.concatenate(column) if isinstance(column[0], Strings) else np.concatenate(column, axis=-1)
        for column in zip(*parts, strict=True)
    )
    return type(parts[0])(*columns)


def file_extents(batch: LeafBatch, bad: Report) -> tuple[LeafBatch, ExtentColumns]:
    """Return the EXTENT_DATA items of *batch* that make sense, and their rows without place and refs."""
    items, record, inline = sound_file_extents(batch, bad)
    return items, extent_columns(items, record, inline)


class FileExtentItems(NamedTuple):
    """The EXTENT_DATA items of some leaves, right or wrong."""

    number: NDArray[np.intp]  #: of each among all items
    items: LeafBatch
    record: NDArray[np.void]  #: FileExtent; of inline data only what is in a FileExtentInline, zeros of what is short
    inline: NDArray[np.bool_]
    whole: NDArray[np.bool_]  #: which are long enough for what they are


def file_extent_items(batch: LeafBatch) -> FileExtentItems:
    """Return the EXTENT_DATA items of *batch*, for its ``once``."""
    number = batch.numbers_of(ItemType.EXTENT_DATA)
    items = batch.take(number)
    kind_at = FileExtentInline.SIZE - 1
    has_kind = items.size > kind_at
    inline = has_kind & (items.data[np.where(has_kind, items.position + kind_at, 0)] == FileExtentType.INLINE)
    whole = inline | (items.size >= FileExtent.SIZE)
    record = np.zeros(len(inline), FileExtent.dtype())
    within, beside = np.flatnonzero(inline), np.flatnonzero(whole & ~inline)
    head = records_at(items.data, FileExtentInline, items.position[within])
    for name in head.dtype.names or ():
        record[name][within] = head[name]
    batches.whole(record)[beside] = batches.structs_at(items.data, FileExtent.SIZE, items.position[beside])
    return FileExtentItems(number, items, record, inline, whole)


def sound_file_extents(batch: LeafBatch, bad: Report) -> tuple[LeafBatch, NDArray[np.void], NDArray[np.bool_]]:
    """Return the EXTENT_DATA items of *batch* that make sense, the FileExtent of each, and which are inline.

    What makes sense is for ``row_of_item`` to say; an item that does not is told to *bad*.
    """
    _, items, record, inline, whole = batch.once(file_extent_items)
    if not whole.all():
        items, record, inline = _sound(items, whole, bad), record[whole], inline[whole]
    last = np.flatnonzero(~inline & (items.offset + record["num_bytes"] == OFFSET_MAX + 1))
    if len(last):  # as ``row_of_item`` does
        record = record.copy()
        record["num_bytes"][last] -= 1
    sound = _makes_sense(items, record, inline)
    if not sound.all():
        items, record, inline = _sound(items, sound, bad), record[sound], inline[sound]
    return items, record, inline


def _sound(items: LeafBatch, sound: NDArray[np.bool_], bad: Report) -> LeafBatch:
    """Return the items that are *sound*; tell *bad* about the others."""
    if sound.all():
        return items
    for item in np.flatnonzero(~sound).tolist():
        key = Key(int(items.objectid[item]), int(items.key_type[item]), int(items.offset[item]))
        start = items.position[item]
        try:
            row_of_item(key, items.data[start : start + items.size[item]].tobytes())
        except BtrimgError as error:
            bad(items.error(item, str(error)))
        else:
            bad(items.error(item, "addresses above 2**63"))
    return items.take(sound)


def _signed(record: NDArray[np.void], name: str) -> Ints:
    return record[name].astype(np.int64)


def _makes_sense(items: LeafBatch, record: NDArray[np.void], inline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for every item whether ``row_of_item`` accepts it; an int64 must hold its numbers, too."""
    start = items.offset.view(np.int64)
    disk, disk_length = _signed(record, "disk_bytenr"), _signed(record, "disk_num_bytes")
    skipped, length, ram = _signed(record, "offset"), _signed(record, "num_bytes"), _signed(record, "ram_bytes")
    known: NDArray[np.bool_] = (record["encryption"] == 0) & (record["other_encoding"] == 0)
    known &= record["compression"] < len(COMPRESSION_NAMES)
    prealloc = record["type"] == FileExtentType.PREALLOC
    fits = (length > 0) & (start >= 0) & (start <= OFFSET_MAX - np.maximum(length, 0))
    fits &= prealloc | (record["type"] == FileExtentType.REGULAR)
    packed = ~prealloc & (record["compression"] != 0)
    used = (disk >= 0) & (skipped >= 0) & (ram >= length) & (skipped <= ram - length) & (disk_length >= 0)
    used &= np.where(packed, np.maximum(ram, disk_length) <= MAX_COMPRESSED, ram <= disk_length)
    known &= np.where(inline, (start == 0) & (ram >= 0) & (ram <= MAX_COMPRESSED), fits & ((disk == 0) | used))
    return known


def extent_columns(items: LeafBatch, record: NDArray[np.void], inline: NDArray[np.bool_]) -> ExtentColumns:
    """Return the rows, without place and refs, of ``sound_file_extents``."""
    disk, ram = _signed(record, "disk_bytenr"), _signed(record, "ram_bytes")
    allocated = disk != 0
    skipped = np.where(allocated, _signed(record, "offset"), 0)
    compression = np.where(inline | allocated, record["compression"], 0).astype(np.uint8)
    data_kind = np.where(
        record["type"] == FileExtentType.PREALLOC, PREALLOC, np.where(compression != 0, COMPRESSED, REGULAR)
    )
    kind = np.where(inline, INLINE, np.where(allocated, data_kind, HOLE)).astype(np.uint8)
    stored = items.size - FileExtentInline.SIZE
    count = len(kind)
    return ExtentColumns(
        subvolume=np.zeros(count, np.uint64),
        inode=items.objectid,
        path=np.full(count, -1, np.int64),
        offset=items.offset.view(np.int64),
        length=np.where(inline, np.where(compression != 0, ram, stored), _signed(record, "num_bytes")),
        kind=kind,
        compression=compression,
        logical=np.where(kind == COMPRESSED, disk, disk + skipped),
        extent_logical=disk,
        extent_length=np.where(allocated, _signed(record, "disk_num_bytes"), 0),
        extent_offset=skipped,
        ram_bytes=np.where(allocated, ram, 0),
        generation=np.where(allocated, record["generation"], 0),
        refs=np.zeros(count, np.int64),
        copies=np.zeros(count, np.uint8),
        devid=np.zeros((0, count), np.uint64),
        physical=np.zeros((0, count), np.int64),
        paths=strings.EMPTY,
    )


def inline_data(batch: LeafBatch) -> tuple[LeafBatch, InlineData]:
    """Return the items of *batch* that claim to be inline data, right or wrong, and what stands in them."""
    items = batch.of_type(ItemType.EXTENT_DATA)
    head = FileExtentInline.SIZE
    whole = items.size >= head
    items = items.take(whole & (items.data[np.where(whole, items.position + head - 1, 0)] == FileExtentType.INLINE))
    items = items.take(items.offset == 0)
    return items, InlineData(items.objectid, strings.cut(items.data, items.position + head, items.size - head))


def names(batch: LeafBatch, bad: Report) -> tuple[LeafBatch, Names]:
    """Return the items of *batch* that name an inode, and the first name of each; tell *bad* of those cut short."""
    items = batch.of_type(ItemType.INODE_REF, ItemType.INODE_EXTREF)
    extended = items.key_type == ItemType.INODE_EXTREF
    head = np.where(extended, InodeExtref.SIZE, InodeRef.SIZE)
    whole = items.size > head
    length_at = np.where(whole, items.position + head - 2, 0)
    length = items.data[length_at] + (items.data[length_at + 1].astype(np.int64) << 8)
    whole &= (length > 0) & (head + length <= items.size)
    if not whole.all():
        for item in np.flatnonzero(~whole).tolist():
            bad(items.error(item, "a name is cut short"))
        items, extended, head, length = items.take(whole), extended[whole], head[whole], length[whole]
    parent = items.offset.copy()
    parent[extended] = items.take(extended).records(InodeExtref)["parent_objectid"]
    return items, Names(items.objectid, parent, strings.cut(items.data, items.position + head, length))


def entries(batch: LeafBatch, bad: Report, *, named: bool) -> tuple[LeafBatch, Entries]:
    """Return the DIR_INDEX items of *batch* that lead to regular files, directories and subvolumes.

    Those cut short are told to *bad*. Names are left empty unless they shall be *named*.
    """
    items = batch.of_type(ItemType.DIR_INDEX)
    whole = items.size >= DirItem.SIZE
    record = items.take(whole).records(DirItem)
    size = np.full(len(whole), DirItem.SIZE)
    size[whole] += record["name_len"]
    ends = items.size >= size
    if not ends.all():
        for item in np.flatnonzero(~ends).tolist():
            bad(items.error(item, "an entry is cut short"))
    record = record[ends[whole]]
    items = items.take(ends)
    kind = _ENTRY_KINDS[record["type"] & 0x7F]
    kind[(kind == DIRECTORY) & (record["location"]["type"] == ItemType.ROOT_ITEM)] = SUBVOLUME
    items, record, kind = items.take(kind != OTHER), record[kind != OTHER], kind[kind != OTHER]
    length = record["name_len"].astype(np.int64) if named else np.zeros(len(kind), np.int64)
    text = strings.cut(items.data, items.position + DirItem.SIZE, length)
    return items, Entries(items.objectid, record["location"]["objectid"], kind, text)


def inodes(batch: LeafBatch, *, regular: bool) -> tuple[LeafBatch, Inodes]:
    """Return the inode items of *batch* of inodes that are no regular files; with *regular* those of all inodes."""
    items = batch.of_type(ItemType.INODE_ITEM)
    items = items.take(items.size >= InodeItem.SIZE)
    record = items.records(InodeItem)
    mode = record["mode"].copy()
    if not regular:
        kept = mode & 0o170000 != stat.S_IFREG
        items, record, mode = items.take(kept), record[kept], mode[kept]
    return items, Inodes(items.objectid, record["size"].copy(), mode, record["flags"].copy())


def data_extents(batch: LeafBatch) -> tuple[LeafBatch, Extents]:
    """Return the items of data extents of *batch*."""
    items = batch.of_type(ItemType.EXTENT_ITEM)
    items = items.take(items.size >= ExtentItem.SIZE)
    record = items.records(ExtentItem)
    kept = record["flags"] & int(ExtentFlag.DATA) != 0
    items = items.take(kept)
    return items, Extents(items.objectid, items.offset, record["refs"][kept])

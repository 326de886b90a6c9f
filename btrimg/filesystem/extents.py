"""File extents: how a file's bytes are made up."""

from __future__ import annotations

from btrimg.errors import CorruptError, NotFoundError, UnsupportedError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import MAX_COMPRESSED, U64_MAX, Compression, FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem, FileExtent, FileExtentInline
from btrimg.units import round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

OFFSET_MAX = (1 << 63) - 1  #: loff_t
COMPRESSION_NAMES: dict[int, str] = {int(kind): kind.name.lower() for kind in Compression}


class ExtentRef(NamedTuple):
    """The extent that a file extent uses."""

    logical: int
    length: int  #: bytes allocated
    offset: int  #: uncompressed bytes skipped at its start
    ram_bytes: int  #: its uncompressed length
    generation: int  #: transid that wrote it


class FileExtentRow(NamedTuple):
    """A range of a file and what it is made of."""

    offset: int
    length: int
    kind: str  #: regular, compressed, inline, prealloc or hole
    compression: int  #: Compression
    extent: ExtentRef | None  #: None for inline data and holes
    inline: bytes | None = None  #: data as stored, of an inline extent

    @property
    def logical(self) -> int | None:
        """Return the logical address of the row's first byte; of the whole extent, if that is compressed."""
        if self.extent is None:
            return None
        return self.extent.logical + (0 if self.kind == "compressed" else self.extent.offset)

    @property
    def end(self) -> int:
        """Return the file offset after the row."""
        return self.offset + self.length


def hole(offset: int, end: int) -> FileExtentRow:
    """Return the row of an implicit hole."""
    return FileExtentRow(offset, end - offset, "hole", Compression.NONE, None)


def row_of_item(key: Key, payload: bytes) -> FileExtentRow:
    """Return the row of one EXTENT_DATA item.

    A file ends at OFFSET_MAX at the latest, and the item of its last sector a byte behind that; the row does not.
    Raises CorruptError when its numbers cannot be right (fs/btrfs/tree-checker.c ``check_extent_data_item``),
    UnsupportedError for encrypted or otherwise encoded data.
    """
    inline = payload[20:21] == bytes([FileExtentType.INLINE])
    item = FileExtentInline.unpack(payload) if inline else FileExtent.unpack(payload)
    where = f"file extent at {key.offset} of inode {key.objectid}"
    if item.encryption or item.other_encoding:
        raise UnsupportedError(f"{where}: encoding {item.encryption}/{item.other_encoding} is not known")
    if item.compression not in COMPRESSION_NAMES:
        raise UnsupportedError(f"{where}: compression {item.compression} is not known")
    if isinstance(item, FileExtentInline):
        if key.offset:
            raise CorruptError(f"{where}: inline data stand at the start of a file only")
        if item.ram_bytes > MAX_COMPRESSED:
            raise CorruptError(f"{where}: inline data of {item.ram_bytes} bytes")
        length = item.ram_bytes if item.compression else len(item.data)
        return FileExtentRow(key.offset, length, "inline", item.compression, None, item.data)
    end = key.offset + item.num_bytes
    if item.num_bytes == 0 or end > OFFSET_MAX + 1:
        raise CorruptError(f"{where}: {item.num_bytes} bytes do not fit a file")
    length = item.num_bytes - (end > OFFSET_MAX)
    if item.type not in (FileExtentType.REGULAR, FileExtentType.PREALLOC):
        raise CorruptError(f"{where}: type {item.type} is not known")
    if item.disk_bytenr == 0:
        return FileExtentRow(key.offset, length, "hole", Compression.NONE, None)
    if item.offset + item.num_bytes > item.ram_bytes:
        raise CorruptError(f"{where}: uses [{item.offset}, +{item.num_bytes}) of {item.ram_bytes} bytes")
    kind = "prealloc" if item.type == FileExtentType.PREALLOC else "compressed" if item.compression else "regular"
    if kind == "compressed" and max(item.ram_bytes, item.disk_num_bytes) > MAX_COMPRESSED:
        raise CorruptError(f"{where}: compressed extent of {item.disk_num_bytes} for {item.ram_bytes} bytes")
    if kind != "compressed" and item.ram_bytes > item.disk_num_bytes:
        raise CorruptError(f"{where}: {item.ram_bytes} bytes in an extent of {item.disk_num_bytes}")
    extent = ExtentRef(item.disk_bytenr, item.disk_num_bytes, item.offset, item.ram_bytes, item.generation)
    return FileExtentRow(key.offset, length, kind, item.compression, extent)


def file_extents(inode: Inode, start: int = 0, *, holes: bool = False) -> Iterator[FileExtentRow]:
    """Yield the file extents from the one that covers *start* (file offset) on, as the items say.

    Rows may reach past the end of the file (to the sector, or preallocated). With *holes*, gaps between items and up
    to the end of the file come as rows too: with the feature NO_HOLES they have no item.
    Raises CorruptError for items that overlap or make no sense.
    """
    cursor = start
    for row in _items(inode, start):
        if row.offset < cursor and cursor != start:
            raise CorruptError(f"inode {inode.ino}: file extents overlap at {row.offset}")
        if holes and row.offset > cursor:
            yield hole(cursor, row.offset)
        yield row
        cursor = row.end
        if row.kind == "inline":
            cursor = round_up(cursor, inode.image.volume.sectorsize)
    if holes and cursor < inode.item.size:
        yield hole(cursor, inode.item.size)


def _items(inode: Inode, start: int) -> Iterator[FileExtentRow]:
    tree = inode.subvolume.tree
    key = Key(inode.ino, ItemType.EXTENT_DATA, start)
    before = tree.floor(key)
    if before and before[0][:2] == key[:2] and before[0].offset < start:
        row = row_of_item(*before)
        if row.end > start:
            yield row
    for found, payload in tree.items(key, key._replace(offset=U64_MAX)):
        yield row_of_item(found, payload)


def extent_at(inode: Inode, offset: int) -> FileExtentRow:
    """Return the row that covers file offset *offset*, a hole where no item does.

    Raises NotFoundError past the end of the file, unless an extent reaches there.
    """
    for row in file_extents(inode, offset, holes=True):
        if row.offset <= offset < row.end:
            return row
        break
    size = inode.item.size
    if offset >= size:
        raise past_the_end(inode, offset)
    return hole(offset, size)


def past_the_end(inode: Inode, offset: int) -> NotFoundError:
    """Return the error that there is no byte at *offset* of a file."""
    return NotFoundError(f"offset {offset} is past the end of the file, {inode.item.size} bytes")


def reference_count(image: Image, extent: ExtentRef) -> int | None:
    """Return how many file extents use *extent*, counted once for a leaf that snapshots share; None if unknown.

    Raises BlockError when the extent tree cannot be read.
    """
    try:
        payload = image.tree(TreeId.EXTENT_TREE).get(Key(extent.logical, ItemType.EXTENT_ITEM, extent.length))
        return ExtentItem.unpack(payload).refs
    except NotFoundError:
        return None


def split_at_stripes(image: Image, rows: Iterable[FileExtentRow]) -> Iterator[FileExtentRow]:
    """Yield *rows* cut so that each is contiguous on every copy: at 64 KiB stripes of striped profiles, at chunk ends.

    Compressed extents stay whole: their bytes on disk do not correspond to file offsets.
    """
    for row in rows:
        if row.kind not in ("regular", "prealloc") or row.extent is None or row.logical is None:
            yield row
            continue
        done = 0
        while done < row.length:
            room = image.volume.chunk_map.locate(row.logical + done).length
            length = min(room, row.length - done)
            extent = row.extent._replace(offset=row.extent.offset + done)
            yield row._replace(offset=row.offset + done, length=length, extent=extent)
            done += length

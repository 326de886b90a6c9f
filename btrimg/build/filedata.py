"""The data of files that a recipe makes: parts laid side by side, shared from elsewhere, or from named extents."""

from __future__ import annotations

from btrimg.build.content import reading
from btrimg.build.values import Compression, Storage
from btrimg.errors import BtrimgError, NotFoundError, RefusedError
from btrimg.filesystem.edit_extents import overlapping
from btrimg.filesystem.inode import quoted
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import BlockGroup, FileExtentType, Incompat, InodeFlag, ItemType
from btrimg.ondisk.constants import Compression as Algorithm
from btrimg.ondisk.extents import FileExtent
from btrimg.units import round_up
from btrimg.volume.devicemap import DeviceMap
from btrimg.write import fileextents, inodes
from btrimg.write.fileextents import placed
from btrimg.write.inline import MAX_INLINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.build.content import Read, Surroundings
    from btrimg.build.paths import Paths, Spot
    from btrimg.build.recipe import Origin
    from btrimg.build.values import Content, DefineExtent, MakeFile, Part, Place
    from btrimg.ondisk.extents import FileExtentInline
    from btrimg.write.data import DataSink
    from btrimg.write.fileextents import Piece
    from btrimg.write.transaction import Transaction

    Extents = Iterable[tuple[int, FileExtent]]

_NO_SUMS = InodeFlag.NODATASUM | InodeFlag.NODATACOW
_INCOMPAT = {Algorithm.LZO: Incompat.COMPRESS_LZO, Algorithm.ZSTD: Incompat.COMPRESS_ZSTD}
_HELD = {"parity": "holds parity", "superblock": "holds a superblock"}  # by kind of a DevicePiece


class Laid(NamedTuple):
    """What a file consists of."""

    pieces: list[Piece]
    size: int  #: bytes of the file
    reserved: bool  #: whether some of it is only reserved


class _Named(NamedTuple):
    """A named extent; it is stored when it is first used."""

    origin: Origin
    define: DefineExtent
    around: Surroundings
    stored: list[tuple[int, FileExtent]]


class FileData:
    """Stores data for a transaction by *sink*; *usual* is how files are compressed that do not say it."""

    def __init__(self, txn: Transaction, sink: DataSink, paths: Paths, usual: Compression) -> None:
        self._txn, self._sink, self._paths, self._usual = txn, sink, paths, usual
        self._named: dict[bytes, _Named] = {}

    # How data are kept

    def compression(self, storage: Storage, flags: int) -> Compression:
        """Return how data of a file with these inode *flags* are compressed; the filesystem learns that they are."""
        if flags & _NO_SUMS:
            return Compression(Algorithm.NONE)
        chosen = storage.compress
        if chosen is None:
            chosen = self._usual
            if flags & InodeFlag.NOCOMPRESS:
                chosen = Compression(Algorithm.NONE)
            elif flags & InodeFlag.COMPRESS and not chosen.kind:
                chosen = Compression(Algorithm.ZLIB)  # fs/btrfs/inode.c: what a file with chattr +c gets
        if chosen.kind in _INCOMPAT:
            self._txn.set_incompat(_INCOMPAT[Algorithm(chosen.kind)])
        return chosen

    def storage(self, spot: Spot, storage: Storage) -> fileextents.Storage:
        """Return *storage* of a recipe as the transaction has it, for a file that is there."""
        compression = self.compression(storage, inodes.read(*spot).flags)
        return fileextents.Storage(
            self._sink,
            compression.kind,
            compression.level,
            pieces=storage.pieces or 1,
            at=self.logical(storage.at),
        )

    def logical(self, place: Place | None) -> int | None:
        """Return the logical address of a place; raise RefusedError when no data can lie there."""
        if place is None or place.devid is None:
            return place.address if place else None
        if place.devid not in self._txn.volume.devices:
            raise RefusedError(f"there is no device {place.devid}: they are numbered from 1 on")
        chunks = DeviceMap(self._txn.volume.chunk_map, lambda _text: None)
        (piece,) = chunks.pieces(place.devid, place.address, place.address + 1)
        if piece.kind != "mapped" or piece.chunk is None or not piece.chunk.type & BlockGroup.DATA:
            held = _HELD.get(piece.kind, "is in no block group of data")
            where = f"byte {place.address} of device {place.devid}"
            raise RefusedError(f"{where} {held}: take another; `btrimg inspect list-chunks` shows where data can lie")
        return piece.logical

    # New files

    def lay(self, do: MakeFile, flags: int, around: Surroundings) -> Laid:
        """Store the parts of a new file with these inode *flags*."""
        pieces: list[Piece] = []
        cursor = 0
        for number, part in enumerate(do.parts):
            start = cursor if part.offset is None else part.offset
            self._refuse_start(number, start, cursor)
            known = part.length or 0  # bytes of a file of the host, or of what is shared, are found out below
            fileextents.check_range(start, known)
            if part.kind == "data" and part.content:
                alone = len(do.parts) == 1 and not start and do.size in (None, part.length)
                found, length = self._data(part.content, part.storage, start, flags, around, alone=alone)
            elif part.kind == "hole":
                found, length = [], known
            elif part.kind == "prealloc":
                length = known
                storage = part.storage
                extents = self._sink.preallocate(length, at=self.logical(storage.at), pieces=storage.pieces or 1)
                found = placed(extents, start)
            else:
                found, length = self._shared(part, start, pieces, flags)
            pieces += found
            cursor = fileextents.check_range(start, length)
        if do.size is not None and do.size < cursor:
            raise RefusedError(f"size {do.size} is less than the {cursor} bytes of the parts")
        reserved = any(part.kind == "prealloc" for part in do.parts)
        return Laid(pieces, cursor if do.size is None else do.size, reserved)

    def _refuse_start(self, number: int, start: int, cursor: int) -> None:
        sectorsize = self._txn.volume.sectorsize
        if start < cursor:
            raise RefusedError(f"part {number} begins at {start}, where the one before it ends at {cursor} only")
        if start % sectorsize:
            raise RefusedError(f"part {number} begins at {start}, which is no multiple of the sector size {sectorsize}")

    def _data(
        self, content: Content, storage: Storage, start: int, flags: int, around: Surroundings, *, alone: bool
    ) -> tuple[list[Piece], int]:
        """Store content for a file from *start* on; return pieces and length; *alone*: it has nothing else."""
        compression = self.compression(storage, flags)
        with reading(content, around, start) as (read, length):
            if alone and length <= self._txn.volume.sectorsize and storage.inline is not False:
                data = read(length)
                inline = self._inline(data, storage, compression)
                if inline:
                    return [(start, inline)], length
                read = _whole(data)
            if storage.inline and length:
                raise RefusedError(f"{length} bytes at {start} cannot be inline: only a small file, whole, is")
            extents = self._sink.stream(
                read,
                length,
                compression=compression.kind,
                level=compression.level,
                nodatasum=bool(flags & InodeFlag.NODATASUM),
                at=self.logical(storage.at),
                pieces=storage.pieces or 1,
            )
            return placed(extents, start), length

    def _inline(self, data: bytes, storage: Storage, compression: Compression) -> FileExtentInline | None:
        if storage.at or storage.pieces:
            return None
        most = self._txn.volume.sectorsize if storage.inline else MAX_INLINE
        return self._sink.inline(data, compression=compression.kind, level=compression.level, max_inline=most)

    # Sharing

    def _shared(self, part: Part, start: int, pieces: list[Piece], flags: int) -> tuple[list[Piece], int]:
        """Return the pieces of a part that are those of another file, of a named extent or of *pieces* before."""
        first = part.source_offset
        if part.kind == "extent":
            source, size = self._named_extent(part.source, flags)
        elif part.source:
            spot = self._paths.find(part.source)
            item = inodes.read(*spot)
            if (item.flags ^ flags) & InodeFlag.NODATASUM:
                raise RefusedError(
                    f"{quoted(part.source)} has checksums and this file has none, or the other way round"
                )
            size = item.size
            last = size if part.length is None else first + part.length
            source = list(_extents_of(spot, first, last))
        else:
            source = [(offset, extent) for offset, extent in pieces if isinstance(extent, FileExtent)]
            size = max((offset + extent.num_bytes for offset, extent in source), default=0)
        length = size - first if part.length is None else part.length
        if length <= 0 or first + length > size:
            raise RefusedError(f"{length} bytes at {first} are not in its source, which has {size}")
        sectorsize = self._txn.volume.sectorsize
        cuts = part.kind != "extent" and first + length != size  # a file may end anywhere in an extent with a name
        if first % sectorsize or (cuts and length % sectorsize):
            raise RefusedError(f"{length} bytes at {first} are no whole sectors of {sectorsize} bytes")
        return list(sliced(source, first, first + round_up(length, sectorsize), start)), length

    def define(self, do: DefineExtent, origin: Origin, around: Surroundings) -> None:
        """Keep a named extent until it is used."""
        if do.name in self._named:
            raise RefusedError("there is an extent of this name already")
        self._named[do.name] = _Named(origin, do, around, [])

    def _named_extent(self, name: bytes, flags: int) -> tuple[list[tuple[int, FileExtent]], int]:
        """Return the extent, stored now if it was not before, and its length."""
        named = self._named.get(name)
        if named is None:
            raise NotFoundError(f"there is no extent {quoted(name)}")
        define, content = named.define, named.define.content
        if content and define.storage.nodatasum != bool(flags & InodeFlag.NODATASUM):
            raise RefusedError(f"extent {quoted(name)} has checksums and this file has none, or the other way round")
        if not named.stored:
            sharing, self._sink.sharing = self._sink.sharing, False  # its layout is said: it is an extent of its own
            try:
                extents = self._store(named)
            except BtrimgError as error:
                raise named.origin.error(str(error)) from None
            finally:
                self._sink.sharing = sharing
            if len(extents) != 1:
                raise named.origin.error(f"becomes {len(extents)} extents: make it smaller")
            named.stored.append((0, extents[0]))
        return named.stored, named.stored[0][1].num_bytes

    def _store(self, named: _Named) -> list[FileExtent]:
        define = named.define
        storage, at = define.storage, self.logical(define.storage.at)
        if define.content is None:
            return self._sink.preallocate(define.length or 0, at=at)
        flags = int(InodeFlag.NODATASUM) if storage.nodatasum else 0
        compression = self.compression(storage, flags)
        with reading(define.content, named.around) as (read, length):
            if not length:
                raise RefusedError("is empty")
            return self._sink.stream(
                read,
                length,
                compression=compression.kind,
                level=compression.level,
                nodatasum=storage.nodatasum,
                at=at,
            )

    def refuse_unused(self) -> None:
        """Raise RecipeError when a named extent was never used."""
        for named in self._named.values():
            if not named.stored:
                raise named.origin.error("no file uses this extent")


def _whole(data: bytes) -> Read:
    return lambda _: data


def _extents_of(spot: Spot, start: int, end: int) -> Iterator[tuple[int, FileExtent]]:
    """Yield the extents of a file that reach into [start, end); holes are left out."""
    for key, payload in overlapping(spot.files.tree, Key(spot.ino, ItemType.EXTENT_DATA, 0), start, end):
        if payload[20] == FileExtentType.INLINE:
            raise RefusedError(
                "its source lies inline in the metadata, where nothing can be shared: say inline = false"
            )
        extent = FileExtent.unpack(payload)
        if extent.disk_bytenr:
            yield key.offset, extent


def sliced(extents: Extents, start: int, end: int, at: int) -> Iterator[tuple[int, FileExtent]]:
    """Yield what bytes [start, end) of a file consist of, as pieces of another one from *at* on."""
    for offset, extent in extents:
        first, last = max(offset, start), min(offset + extent.num_bytes, end)
        if first < last:
            yield at + first - start, extent.replace(offset=extent.offset + first - offset, num_bytes=last - first)

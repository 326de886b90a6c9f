"""The extents of an image in the words of recipes: said where they are used, or kept under a name where shared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from btrimg.build import tomltext as toml
from btrimg.errors import BtrimgError, ChecksumError, CorruptError
from btrimg.filesystem.data import row_bytes
from btrimg.filesystem.extents import COMPRESSION_NAMES, ExtentRef, FileExtentRow
from btrimg.filesystem.inode import quoted
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.build.described import Described
    from btrimg.filesystem.image import Image

_WRITTEN_OUT = 256  # bytes of content that a recipe says itself
_MOST_INLINE = 2048  # bytes that are kept inline unless it is said otherwise

Words = dict[str, Any]


class _Used(NamedTuple):
    """An extent by what it holds: written and merely reserved parts of one are two."""

    logical: int
    prealloc: bool


class _Range(NamedTuple):
    """Which part of an extent is described: bytes from its start, uncompressed."""

    start: int
    end: int


class ExtentWords:
    """Gives words for the extents that files use, and puts long contents into files beside the recipe.

    *files* are those that the recipe will make. *directory* is where contents go, under the name *label* in the recipe;
    None where everything has to stand in the recipe itself.
    """

    def __init__(self, image: Image, files: Iterable[Described], directory: str | None, label: str) -> None:
        self._image, self._directory, self._label = image, directory, label
        self._uses: dict[_Used, list[FileExtentRow]] = {}
        seen: set[int] = set()
        for each in files:
            if id(each) in seen:  # another name of it, or the same in a snapshot
                continue
            seen.add(id(each))
            for row in each.rows:
                if row.extent:
                    self._uses.setdefault(_used(row), []).append(row)
        self._names: dict[_Used, tuple[str, _Range]] = {}
        self._files = 0

    def parts_of(self, each: Described) -> tuple[list[str], list[Words]]:
        """Return the entries that define extents which a file is the first to use, and the parts of the file.

        What cannot be read is reported to the image, and is no part: a hole is in its place.
        """
        defined: list[str] = []
        parts: list[Words] = []
        for row in each.rows:
            if row.offset >= each.size:
                continue
            length = min(row.end, each.size) - row.offset
            try:
                if row.kind == "inline":
                    part = self._inline(row, length, each)
                elif self._is_whole(row):
                    part = self._whole(row, length, each)
                else:
                    part = self._shared(row, length, each, defined)
            except BtrimgError as error:
                self._image.report(CorruptError(f"{quoted(each.names[0])} has a hole at {row.offset}: {error}"))
            else:
                parts.append({"offset": toml.size(row.offset) if row.offset else None, **part})
        return defined, parts

    def _is_whole(self, row: FileExtentRow) -> bool:
        """Return whether a row has all of an extent for itself."""
        extent = row.extent
        alone = len(self._uses[_used(row)]) == 1 and _other(row) not in self._uses
        return extent is not None and alone and extent.offset == 0 and row.length == extent.ram_bytes

    def _inline(self, row: FileExtentRow, length: int, each: Described) -> Words:
        data = row_bytes(self._image, row, row.offset, row.offset + length, verify=True)
        words = self._content(data.ljust(length, b"\0"))
        words["compress"] = _compression(row, each.flags)
        words["inline"] = True if each.size == length else None
        return words

    def _whole(self, row: FileExtentRow, length: int, each: Described) -> Words:
        if row.kind == "prealloc":
            return {"prealloc": toml.size(length)}
        words = self._content(self._data(row, _Range(0, length), checked=each.checksummed))
        words["compress"] = _compression(row, each.flags)
        words["inline"] = False if row.offset == 0 and each.size <= _MOST_INLINE else None
        return words

    def _shared(self, row: FileExtentRow, length: int, each: Described, defined: list[str]) -> Words:
        used = _used(row)
        if used not in self._names:
            name, part = f"e{len(self._names) + 1}", self._range(row)
            defined.append(self._define(name, row, part, checked=each.checksummed))
            self._names[used] = name, part
        name, part = self._names[used]
        offset = (row.extent.offset if row.extent else 0) - part.start
        return {"extent": name, "from-offset": toml.size(offset) if offset else None, "length": toml.size(length)}

    def _range(self, row: FileExtentRow) -> _Range:
        """Return how much of an extent is described: all, also what nobody sees, unless it is written only in part."""
        extent = row.extent or ExtentRef(0, 0, 0, 0, 0)
        if row.kind == "prealloc" or _other(row) not in self._uses:
            return _Range(0, extent.ram_bytes)
        uses = self._used_ranges(row)
        return _Range(min(start for start, _ in uses), max(end for _, end in uses))

    def _used_ranges(self, row: FileExtentRow) -> list[_Range]:
        uses = [(each.extent.offset, each.length) for each in self._uses[_used(row)] if each.extent]
        return [_Range(offset, offset + length) for offset, length in sorted(set(uses))]

    def _define(self, name: str, row: FileExtentRow, part: _Range, *, checked: bool) -> str:
        if row.kind == "prealloc":
            return toml.entry({"extent": name, "prealloc": toml.size(part.end - part.start)})
        words = {"extent": name, **self._content(self._data(row, part, checked=checked))}
        words["compress"] = _compression(row, 0)
        words["nodatasum"] = None if checked else True
        return toml.entry(words)

    def _data(self, row: FileExtentRow, part: _Range, *, checked: bool) -> bytes:
        """Return bytes of an extent, counted from its start, uncompressed."""
        if row.extent is None:
            return b""
        whole = row._replace(offset=0, length=row.extent.ram_bytes, extent=row.extent._replace(offset=0))
        try:
            return row_bytes(self._image, whole, part.start, part.end, verify=checked)
        except ChecksumError:
            # What was reserved and never written has no checksums, also when nobody sees it any more.
            data = bytearray(part.end - part.start)
            for start, end in self._used_ranges(row):
                data[start - part.start : end - part.start] = row_bytes(self._image, whole, start, end, verify=checked)
            return bytes(data)

    def _content(self, data: bytes) -> Words:
        """Return words that say *data*."""
        if data and not data.strip(b"\0"):
            return {"zeros": toml.size(len(data))}
        if len(data) <= _WRITTEN_OUT or self._directory is None:
            return {"text": data} if _is_text(data) else {"hex": data.hex()}
        self._files += 1
        name = f"{self._files:06}"
        with open(os.path.join(self._directory, name), "xb") as file:
            file.write(data)
        return {"host": f"{self._label}/{name}"}


def _used(row: FileExtentRow) -> _Used:
    return _Used(row.extent.logical if row.extent else 0, row.kind == "prealloc")


def _other(row: FileExtentRow) -> _Used:
    used = _used(row)
    return used._replace(prealloc=not used.prealloc)


def _compression(row: FileExtentRow, flags: int) -> str | None:
    """Return how a row is compressed; None where it is not, and a file with these *flags* would not be."""
    return COMPRESSION_NAMES[row.compression] if row.compression or flags & InodeFlag.COMPRESS else None


def _is_text(data: bytes) -> bool:
    """Return whether a person would rather read *data* than its hexadecimal digits."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\n\t" for character in text)

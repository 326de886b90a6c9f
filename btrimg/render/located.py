"""What stands at a byte of a device: as JSON with stable field names, and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.filesystem.extents import COMPRESSION_NAMES
from btrimg.render import answers
from btrimg.render.names import key_text, objectid_name
from btrimg.render.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.locate import Piece, Sharer, TreeBlock

    Paths = Callable[[int, int], list[bytes]]


def piece_object(piece: Piece, paths: Paths) -> dict[str, Any]:
    """Return a piece for JSON; *paths* gives all paths of (subvolume, inode)."""
    parity, chunk, extent = piece.kind == "parity", piece.chunk, piece.extent
    return {
        "kind": piece.kind,
        "length": piece.length,
        "devid": piece.devid,
        "physical": piece.physical,
        "logical": None if parity else piece.logical,
        "parity_of": {"logical": piece.logical, "length": piece.row_length} if parity else None,
        "chunk": {"logical": chunk.logical, "length": chunk.length, "profile": chunk.profile.name} if chunk else None,
        "copies": [copy._asdict() for copy in piece.copies],
        "extent": {name: getattr(extent, name) for name in ("logical", "length", "generation")} if extent else None,
        "tree_block": block_object(piece.block),
        "bookend": piece.bookend,
        "files": [sharer_object(sharer, paths) for sharer in piece.sharers],
        "kept_by": [sharer_object(sharer, paths) for sharer in piece.holders],
        "found_by": piece.way,
    }


def sharer_object(sharer: Sharer, paths: Paths) -> dict[str, Any]:
    """Return a part of a file for JSON."""
    names = [answers.name(path) for path in paths(sharer.subvolume, sharer.inode)]
    compression = COMPRESSION_NAMES[sharer.compression]
    return {**sharer._asdict(), "compression": compression, "paths": names}


def block_object(block: TreeBlock | None) -> dict[str, Any] | None:
    """Return what a tree block says of itself for JSON."""
    if block is None:
        return None
    first, last = (list(key) if key else None for key in (block.first_key, block.last_key))
    return {**block._asdict(), "trees": list(block.trees), "first_key": first, "last_key": last}


def piece_lines(piece: Piece, paths: Paths) -> Iterator[str]:
    """Yield the lines of a piece for a person: what it is, then indented what there is to say of it."""
    where = f"logical {piece.logical}" if piece.devid is None else f"device {piece.devid}, {piece.physical}"
    yield f"{where}: {piece.kind}, {bytes_text(piece.length)}{' that no file reaches' if piece.bookend else ''}"
    if piece.kind == "parity":
        yield f"  row       of {piece.row_length} bytes at logical {piece.logical}"
    for copy in piece.copies:
        place = f"{copy.devid}:{copy.physical} on {copy.device or 'a missing device'}"
        yield f"  {copy.role:<9} {place}, checksum {copy.csum}"
    if piece.devid is not None and piece.logical is not None and piece.kind != "parity":
        yield f"  logical   {piece.logical}"
    if piece.extent:
        generation = f", generation {piece.extent.generation}" if piece.extent.generation is not None else ""
        yield f"  extent    {piece.extent.logical}, {piece.extent.length} bytes{generation}"
    if piece.block:
        yield from block_lines(piece.block)
    for sharer in piece.sharers:
        yield from _sharer_lines("file", sharer, paths)
    for sharer in piece.holders:
        yield from _sharer_lines("kept by", sharer, paths)


def block_lines(block: TreeBlock) -> Iterator[str]:
    """Yield the lines of what a tree block says of itself."""
    kind = f"node of level {block.level}" if block.level else "leaf"
    trees = ", ".join(map(objectid_name, block.trees)) or "no tree"
    yield f"  block     {kind} of {trees}, generation {block.generation}"
    if block.first_key and block.last_key:
        yield f"  keys      {key_text(block.first_key)} to {key_text(block.last_key)}"


def _sharer_lines(label: str, sharer: Sharer, paths: Paths) -> Iterator[str]:
    where = f"offset {sharer.offset}, {bytes_text(sharer.length)}, {sharer.kind}"
    for path in paths(sharer.subvolume, sharer.inode) or [b""]:
        name = printable(path) if path else "a file without a name"
        yield f"  {label:<9} {name} (inode {sharer.inode}, subvolume {sharer.subvolume}): {where}"


def bytes_text(count: int) -> str:
    """Return *count* as words."""
    return f"{count} byte{'s' if count != 1 else ''}"

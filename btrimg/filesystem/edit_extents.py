"""File extents and checksums cut and replaced in trees whose changes are kept in an overlay."""

from __future__ import annotations

from btrimg.errors import CorruptError
from btrimg.filesystem.extents import row_of_item
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId
from btrimg.ondisk.extents import FileExtent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.trees.overlay import OverlayTree
    from btrimg.trees.tree import Tree

_CSUM_KEY = Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, 0)


def drop_extents(tree: OverlayTree, ino: int, start: int, end: int) -> int:
    """Cut file bytes [start, end) out of the extents of *ino*; return by how much that lessens its ``nbytes``.

    As fs/btrfs/file.c ``btrfs_drop_extents`` does. Raises CorruptError when part of an inline extent would have to go:
    it cannot be cut.
    """
    freed = 0
    for key, payload in overlapping(tree, Key(ino, ItemType.EXTENT_DATA, 0), start, end):
        row = row_of_item(key, payload)
        if row.end <= start and key.offset < start:
            continue
        if row.kind == "inline" and (key.offset < start or row.end > end):
            raise CorruptError(f"inode {ino}: [{start}, {end}) cuts the inline extent at {key.offset}")
        tree.delete(key)
        if row.kind == "inline":
            freed += row.length
            continue
        item = FileExtent.unpack(payload)
        if key.offset < start:
            tree.put(key, item.replace(num_bytes=start - key.offset).pack())
        if row.end > end:
            tail = item.replace(offset=item.offset + end - key.offset, num_bytes=row.end - end)
            tree.put(key._replace(offset=end), tail.pack())
        if item.disk_bytenr:
            freed += min(row.end, end) - max(key.offset, start)
    return freed


def put_csums(tree: OverlayTree, logical: int, sums: bytes, csum_size: int, sectorsize: int) -> None:
    """Make *sums* the checksums of the sectors from *logical* on, whatever was stored for them before."""
    drop_csums(tree, logical, logical + len(sums) // csum_size * sectorsize, csum_size, sectorsize)
    tree.put(_CSUM_KEY._replace(offset=logical), sums)


def drop_csums(tree: OverlayTree, start: int, end: int, csum_size: int, sectorsize: int) -> None:
    """Delete the checksums of the sectors in [start, end), logical addresses; what items hold beyond it stays.

    As fs/btrfs/file-item.c ``btrfs_del_csums`` does.
    """
    for key, stored in overlapping(tree, _CSUM_KEY, start, end):
        stored_end = key.offset + len(stored) // csum_size * sectorsize
        if stored_end <= start:
            continue
        tree.delete(key)
        if key.offset < start:
            tree.put(key, stored[: (start - key.offset) // sectorsize * csum_size])
        if stored_end > end:
            tree.put(key._replace(offset=end), stored[(end - key.offset) // sectorsize * csum_size :])


def overlapping(tree: Tree, kind: Key, start: int, end: int) -> Iterator[tuple[Key, bytes]]:
    """Yield the items like *kind*, but for its offset, that begin in [start, end), after the last one before them."""
    first = kind._replace(offset=start)
    if start:
        before = tree.floor(kind._replace(offset=start - 1))
        if before and before[0][:2] == kind[:2]:
            yield before
    if end > start:
        yield from tree.items(first, kind._replace(offset=min(end - 1, U64_MAX)))

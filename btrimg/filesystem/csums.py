"""Stored checksums of data, by logical address."""

from __future__ import annotations

from btrimg.errors import ChecksumError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import ItemType, TreeId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.trees.tree import Tree


class Csums:
    """The checksum tree as one array of checksums over the logical address space; remembers the last item read."""

    def __init__(self, tree: Tree, csum_size: int, sectorsize: int) -> None:
        self._tree, self._size, self._sectorsize = tree, csum_size, sectorsize
        self._start = self._end = 0
        self._sums = b""

    def lookup(self, logical: int, length: int) -> bytes:
        """Return the checksums of the sectors of [logical, logical + length), one after the other.

        Raises ChecksumError when a sector has none: only a file without checksums may have such data, and it is not
        asked here. Raises BlockError when the tree cannot be read.
        """
        parts: list[bytes] = []
        at, end = logical, logical + length
        while at < end:
            if not self._start <= at < self._end:
                self._load(at)
            stop = min(end, self._end)
            parts.append(self._sums[self._index(at) : self._index(stop)])
            at = stop
        return b"".join(parts)

    def _index(self, logical: int) -> int:
        return (logical - self._start) // self._sectorsize * self._size

    def _load(self, logical: int) -> None:
        key = Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, logical)
        found = self._tree.floor(key)
        if found is None or found[0][:2] != key[:2]:
            raise ChecksumError(f"data at logical {logical} has no checksum")
        start, sums = found[0].offset, found[1]
        end = start + len(sums) // self._size * self._sectorsize
        if logical >= end:
            raise ChecksumError(f"data at logical {logical} has no checksum")
        self._start, self._end, self._sums = start, end, sums

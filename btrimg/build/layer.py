"""A layer of a container image put over what is there: names that begin with .wh. delete (OCI image-spec, layer.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.build.tree import TreeWriter
from btrimg.errors import RefusedError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileType, ItemType
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.items import records_of

if TYPE_CHECKING:
    from btrimg.build.entries import Entry
    from btrimg.build.tree import Directory

_WHITEOUT, _OPAQUE, _META = b".wh.", b".wh..wh..opq", b".wh..wh."


class LayerWriter(TreeWriter):
    """Makes files as a TreeWriter does; whiteouts take away what was there before, wherever in the layer they come."""

    def _put(self, parent: Directory, name: bytes, entry: Entry) -> None:
        if not name.startswith(_WHITEOUT):
            super()._put(parent, name, entry)
        elif name == _OPAQUE:
            self._clear(parent)
        elif not name.startswith(_META):  # others are notes that AUFS leaves to itself
            self._white_out(parent, name.removeprefix(_WHITEOUT))

    def _white_out(self, parent: Directory, name: bytes) -> None:
        if not name:
            raise RefusedError("a whiteout must say what it deletes")
        found = self._found(parent, name)
        if found is None:
            return
        if not self._is_ours(parent.ino, name, found[0]):
            self._remove(parent, name)
        elif found[1] == FileType.DIR:
            self._clear(self._directory(parent.path + b"/" + name if parent.path else name))

    def _clear(self, directory: Directory) -> None:
        """Remove from a directory all that this layer has not put there, and the same below directories it has too."""
        due = [directory.path]
        while due:
            path = due.pop()
            directory = self._directory(path)
            if self._is_new(directory.ino):
                continue
            self._settle()
            for entry in self._entries(directory.ino):
                ino, is_inode = entry.location.objectid, entry.location.type == ItemType.INODE_ITEM
                if not (is_inode and self._is_ours(directory.ino, entry.name, ino)):
                    self._remove(directory, entry.name)
                elif entry.type == FileType.DIR:
                    due.append(path + b"/" + entry.name if path else entry.name)

    def _entries(self, directory: int) -> list[DirItem]:
        first = Key(directory, ItemType.DIR_INDEX, 0)
        items = self._files.tree.items(first, first._replace(offset=U64_MAX))
        return [entry for key, payload in items for entry in records_of(DirItem, ItemType(key.type), payload)]

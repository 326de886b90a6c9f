"""New files of one directory that share all of another one: what is the same for all of them is found out once."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from btrimg.build import attributes
from btrimg.build.values import Attributes
from btrimg.errors import RefusedError
from btrimg.filesystem.edit_names import entry_named
from btrimg.ondisk.constants import FileType, InodeFlag
from btrimg.write import fileextents, names, reflink

if TYPE_CHECKING:
    from btrimg.build.content import Surroundings
    from btrimg.build.paths import Spot


class Clones:
    """New files in the directory *parent*, which share all of the file *source*; their names are held back."""

    def __init__(self, parent: Spot, source: Spot, around: Surroundings) -> None:
        """Raise RefusedError when a file there cannot share with *source*."""
        self._parent, self._around = parent, around
        item = fileextents.regular(*source)
        self._flags = attributes.flags_of(
            parent, stat.S_IFREG, Attributes(flags=attributes.kept_by_reflink(item.flags)), around
        )
        if (item.flags ^ self._flags) & InodeFlag.NODATASUM:
            raise RefusedError("a new file there cannot share with its source: only one of them has checksums")
        self._size, self._pieces = reflink.whole(*source)
        self._made: dict[bytes, int] = {}

    def has(self, name: bytes) -> bool:
        """Return whether the directory has that name."""
        return name in self._made or entry_named(self._parent.files.tree, self._parent.ino, name) is not None

    def add(self, name: bytes) -> None:
        """Make one more, whose name is new; raise RefusedError when no file can have it."""
        names.check_name(name)
        files = self._parent.files
        ino = files.new_ino()
        nbytes = fileextents.lay(files, ino, self._size, self._pieces)
        attributes.create(
            self._parent,
            stat.S_IFREG,
            Attributes(),
            self._around,
            ino=ino,
            flags=self._flags,
            size=self._size,
            nbytes=nbytes,
        )
        self._made[name] = ino

    def enter(self) -> None:
        """Put the names that were held back into the directory."""
        files, ino = self._parent
        if self._made:
            made = ((name, number, FileType.REG_FILE) for name, number in self._made.items())
            grown = names.extend(files, ino, made, fresh=min(self._made.values()))
            names.resize_directory(files, ino, grown)
            self._made = {}

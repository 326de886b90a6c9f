"""Does what a recipe says of the contents of files that are there: written, punched, reserved, cut, shared."""

from __future__ import annotations

import stat

from btrimg.build import attributes, values
from btrimg.build.content import reading
from btrimg.build.paths import Spot
from btrimg.build.values import Attributes, Storage
from btrimg.ondisk.constants import FileType
from btrimg.units import MIB
from btrimg.write import contents, inodes, reflink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from btrimg.build.content import Surroundings
    from btrimg.build.filedata import FileData
    from btrimg.build.paths import Paths
    from btrimg.build.places import Places
    from btrimg.build.values import Operation

_PIECE = 128 * MIB  # bytes that are written in one go: those of the longest extent


class FileContents:
    """Changes contents by *data*; *progress* is told of bytes. The parameters are those of a Builder, and its parts."""

    def __init__(
        self, paths: Paths, places: Places, data: FileData, *, edit: bool, progress: Callable[[int, int], None]
    ) -> None:
        self._paths, self._places, self._data = paths, places, data
        self._edit, self._progress = edit, progress

    def do(self, operation: Operation, around: Surroundings) -> None:
        """Do an operation on contents."""
        _DO[type(operation)](self, operation, around)

    def _write(self, do: values.Write, around: Surroundings) -> None:
        spot = self._places.to_change(do.path)
        with reading(do.content, around, do.offset) as (read, length):
            storage = self._data.storage(spot, do.storage)
            for done in range(0, max(length, 1), _PIECE):  # no bytes, too, can be written to files only
                size = min(_PIECE, length - done)
                contents.write(*spot, do.offset + done, read(size), storage)
                storage = storage._replace(at=None if storage.at is None else storage.at + size)
        self._progress(0, length)

    def _punch(self, do: values.Punch, _: Surroundings) -> None:
        spot = self._places.to_change(do.path)
        contents.punch(*spot, do.offset, do.length, self._data.storage(spot, Storage()))

    def _preallocate(self, do: values.Preallocate, _: Surroundings) -> None:
        spot = self._places.to_change(do.path)
        storage = self._data.storage(spot, do.storage)
        contents.preallocate(*spot, do.offset, do.length, storage, keep_size=do.keep_size)

    def _truncate(self, do: values.Truncate, _: Surroundings) -> None:
        spot = self._places.to_change(do.path)
        contents.truncate(*spot, do.size, self._data.storage(spot, Storage()))

    def _reflink(self, do: values.Reflink, around: Surroundings) -> None:
        source = self._paths.find(do.source or do.path)
        if self._paths.entry(do.path) is None:
            target = self._new_file(do, source, around)
        else:
            target = self._places.to_change(do.path)
        storage = self._data.storage(target, Storage())
        reflink.clone_range(*source, do.source_offset, do.length or 0, *target, do.offset, storage)

    def _new_file(self, do: values.Reflink, source: Spot, around: Surroundings) -> Spot:
        """Make the file that is to share with *source*; raise RefusedError, before it is made, when it could not."""
        parent, name = self._places.place(do.path)
        said = Attributes(flags=attributes.kept_by_reflink(inodes.read(*source).flags))
        if self._edit:
            from btrimg.build.inherit import inherited_file

            said = inherited_file(do.path, said, self._paths)
        flags = attributes.flags_of(parent, stat.S_IFREG, said, around)
        reflink.check(*source, do.source_offset, do.length or 0, 0, flags, do.offset)
        ino = attributes.create(parent, stat.S_IFREG, said, around)
        self._places.enter(parent, name, ino, FileType.REG_FILE)
        return Spot(parent.files, ino)

    def clone(self, reflinks: Sequence[values.Reflink], begun: Callable[[int], None], around: Surroundings) -> None:
        """Let files of one directory share all of one source, the new ones of them together.

        *begun* hears the number of each when its turn comes.
        """
        from btrimg.build.clones import Clones

        parent, _ = self._places.changeable(*self._paths.parent(reflinks[0].path))
        if self._edit and attributes.hands_on(parent):
            for number, do in enumerate(reflinks):
                begun(number)
                self._reflink(do, around)
            return
        clones = Clones(parent, self._paths.find(reflinks[0].source), around)
        for number, do in enumerate(reflinks):
            begun(number)
            name = do.path.rpartition(b"/")[2]
            if clones.has(name):
                clones.enter()
                self._reflink(do, around)
            else:
                clones.add(name)
        clones.enter()
        self._places.touched(parent)


_DO: dict[type, Callable[[FileContents, Any, Surroundings], None]] = {
    values.Write: FileContents._write,
    values.Punch: FileContents._punch,
    values.Preallocate: FileContents._preallocate,
    values.Truncate: FileContents._truncate,
    values.Reflink: FileContents._reflink,
}

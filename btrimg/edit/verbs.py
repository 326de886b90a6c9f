"""The verbs that change files and subvolumes: what they are given becomes operations of a recipe on a transaction.

Paths are bytes, absolute from the top-level subvolume; symbolic links on the way are followed, as the kernel does.
"""

from __future__ import annotations

import os
import stat

from btrimg.build import values
from btrimg.build.builder import Builder
from btrimg.build.puts import refuse_clashes
from btrimg.build.values import Attributes, Content, Storage
from btrimg.edit.pathnames import PathNames
from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.constants import FileType, ItemType
from btrimg.write import inodes, xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from btrimg.build.recipe import Recipe
    from btrimg.edit.session import Session
    from btrimg.edit.words import Flags
    from btrimg.ondisk.inodes import InodeItem, Timespec

    _OnPath = (
        values.Put
        | values.MakeFile
        | values.MakeDirectory
        | values.MakeSymlink
        | values.MakeLink
        | values.MakeSubvolume
        | values.MakeSnapshot
        | values.Write
        | values.Truncate
        | values.Punch
        | values.Reflink
        | values.Rename
        | values.Delete
        | values.SetDefault
        | values.Change
    )

CAPABILITIES = b"security.capability"
_PIECE = 64 << 20  # bytes of standard input that are kept in memory


class FileEditor:
    """Changes files and subvolumes in the transaction of a *session*, which commits them."""

    def __init__(
        self,
        session: Session,
        *,
        latest: int | None = None,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Begin; times of files from the host that are after *latest*, in ns since 1970, become that."""
        self._session, self._latest, self._warn = session, latest, warn
        self._built: Builder | None = None

    def close(self) -> None:
        """Give up what only a transaction under way needs: after a commit, and when it was aborted."""
        if self._built is not None:
            self._built.close()
            self._built = None

    @property
    def _builder(self) -> Builder:
        if self._built is None:
            self._built = Builder(self._session.transaction(), edit=True, latest=self._latest, warn=self._warn)
        return self._built

    @property
    def _names(self) -> PathNames:
        return PathNames(self._builder.paths)

    def _do(self, operation: _OnPath) -> None:
        """Do one operation; what cannot be done raises what the operation raises, with the path before it."""
        try:
            self._builder.do(operation)
        except (NotFoundError, RefusedError) as error:
            path, text = quoted(operation.path), str(error)
            raise (error if path in text else type(error)(f"{path}: {text}")) from None

    def run(self, recipe: Recipe, progress: Callable[[int, int], None]) -> None:
        """Do all that a recipe says; raise RecipeError for the first entry that cannot be done."""
        self.close()
        self._built = Builder(
            self._session.transaction(),
            directory=recipe.directory,
            seed=recipe.filesystem.seed,
            edit=True,
            latest=self._latest,
            progress=progress,
            warn=self._warn,
        )
        self._built.run(recipe.operations())

    # Names

    def _targets(self, sources: Sequence[bytes], path: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield each of *sources* with the path it goes to: into *path*, if that is a directory."""
        inside = self._names.is_directory(path)
        if len(sources) > 1 and not inside:
            raise RefusedError(f"{quoted(path)} is no directory: several files need one to go to")
        for source in sources:
            name = source.rpartition(b"/")[2] if inside else b""
            if inside and name in (b"-", b""):
                raise RefusedError(f"{quoted(path)} is a directory: say what {quoted(source)} is to be called in it")
            yield source, self._names.place(path if name in (b"", b".", b"..") else path.rstrip(b"/") + b"/" + name)

    def put(
        self,
        sources: Sequence[bytes],
        path: bytes,
        storage: Storage,
        owner: tuple[int, int] | None,
        stdin: BinaryIO | None,
    ) -> None:
        """Copy files and directories of the host to *path*, ``-`` for *stdin*; into it, if it is a directory."""
        for source, target in self._targets(sources, path):
            if source == b"-" and stdin:
                self._put_stream(stdin, target, storage, owner or (0, 0))
                continue
            refuse_clashes(source, self._builder.paths, target)
            self._do(values.Put(target, os.path.abspath(source), storage, owner))

    def _put_stream(self, stream: BinaryIO, path: bytes, storage: Storage, owner: tuple[int, int]) -> None:
        if self._names.entry(path):
            self.remove([path])
        data = stream.read(_PIECE)
        part = values.Part("data", 0, len(data), Content("bytes", data, len(data)), storage)
        attributes = Attributes(uid=owner[0], gid=owner[1])
        self._do(values.MakeFile(path, (part,) if data else (), None, storage, attributes))
        self._append(stream, path, len(data), storage)

    def _append(self, stream: BinaryIO, path: bytes, offset: int, storage: Storage) -> None:
        while data := stream.read(_PIECE):
            self._do(values.Write(path, offset, Content("bytes", data, len(data)), storage))
            offset += len(data)

    def make_directories(
        self, paths: Iterable[bytes], *, parents: bool, mode: int | None, owner: tuple[int, int] | None
    ) -> None:
        """Make directories, with *parents* those that lead to them too, and no error for one that is there."""
        uid, gid = owner or (None, None)
        said = Attributes(mode, uid, gid)
        for path in paths:
            if not parents:
                self._names.entry(path)  # what leads there must be there
                self._do(values.MakeDirectory(self._names.place(path), said))
                continue
            at, last = b"", path.count(b"/")
            for number, name in enumerate(path[1:].split(b"/"), 1):
                at = self._names.target(at + b"/" + name)
                if not self._names.is_directory(at):
                    self._do(values.MakeDirectory(at, said if number == last else Attributes()))

    def remove(self, paths: Iterable[bytes], *, recursive: bool = False, missing: bool = False) -> None:
        """Remove files, with *recursive* directories and subvolumes too; *missing* ones are no error if so said."""
        for path in paths:
            if path == b"/":
                raise RefusedError("/ cannot be removed: it is the top-level subvolume")
            try:
                found = self._names.entry(path)
                if found is None:
                    raise NotFoundError(f"{quoted(path)} is not there")
            except NotFoundError:
                if missing:
                    continue
                raise
            if found.type == FileType.DIR and not recursive:
                raise RefusedError(f"{quoted(path)} is a directory: rm -r removes it, with all that is in it")
            self._do(values.Delete(self._names.place(path), recursive))

    def move(self, sources: Sequence[bytes], path: bytes) -> None:
        """Move files, directories and subvolumes to *path*; into it, if it is a directory."""
        if b"/" in sources:
            raise RefusedError("/ cannot be moved: it is the top-level subvolume")
        for source, target in self._targets(sources, path):
            self._do(values.Rename(self._names.place(source), target))

    def link(self, to: bytes, path: bytes, *, symbolic: bool) -> None:
        """Give the file *to* another name; or make a symbolic link that says *to*."""
        ((_, target),) = self._targets([to], path)
        if symbolic:
            self._do(values.MakeSymlink(target, to, Attributes()))
        else:
            self._do(values.MakeLink(target, self._names.place(to)))

    # Contents

    def write(self, stream: BinaryIO, path: bytes, offset: int, storage: Storage) -> None:
        """Write all that *stream* gives into a file, from *offset* on."""
        target, data = self._names.target(path), stream.read(_PIECE)
        self._do(values.Write(target, offset, Content("bytes", data, len(data)), storage))  # also of none: is it there?
        self._append(stream, target, offset + len(data), storage)

    def truncate(self, paths: Iterable[bytes], size: int) -> None:
        """Cut files, or make them longer by a hole."""
        for path in paths:
            self._do(values.Truncate(self._names.target(path), size))

    def punch(self, path: bytes, offset: int, length: int) -> None:
        """Punch a hole into a file."""
        self._do(values.Punch(self._names.target(path), offset, length))

    def reflink(self, source: bytes, source_offset: int, length: int | None, path: bytes, offset: int) -> None:
        """Let *path*, made if it is not there, share a range of *source*; with a length of None to its end."""
        self._do(values.Reflink(self._names.target(path), self._names.target(source), source_offset, length, offset))

    # Subvolumes

    def create_subvolumes(self, paths: Iterable[bytes]) -> None:
        """Make empty subvolumes."""
        for path in paths:
            self._do(values.MakeSubvolume(self._names.place(path), None, Attributes()))

    def snapshot(self, subvolume: bytes, path: bytes, *, read_only: bool) -> None:
        """Make a snapshot of a subvolume at *path*; in it, if it is a directory."""
        ((_, target),) = self._targets([subvolume], path)
        self._do(values.MakeSnapshot(target, self._names.target(subvolume), read_only, None))

    def delete_subvolumes(self, paths: Iterable[bytes], *, recursive: bool) -> None:
        """Delete subvolumes, with *recursive* those in them too."""
        for path in paths:
            found = self._names.entry(path) if path != b"/" else None
            if found is None and path != b"/":
                raise NotFoundError(f"{quoted(path)} is not there")
            if found is None or found.location.type != ItemType.ROOT_ITEM:
                raise RefusedError(f"{quoted(path)} is no subvolume that can be deleted")
            self._do(values.Delete(self._names.place(path), recursive))

    def set_default(self, path: bytes) -> None:
        """Make a subvolume the one that is mounted by default."""
        self._do(values.SetDefault(self._names.target(path)))

    # Attributes

    def change_mode(self, paths: Iterable[bytes], mode: Callable[[int], int]) -> None:
        """Change permissions; *mode* gives the new ones for those, with the type of file, that are there."""
        for path in paths:
            self._change(path, Attributes(mode=mode(self._inode(path).mode)))

    def change_owner(self, paths: Iterable[bytes], uid: int | None, gid: int | None) -> None:
        """Change owners; as for chown(2), programs lose what lets them run as their owner, or with capabilities."""
        for path in paths:
            mode = self._inode(path).mode
            kept = mode & 0o7777
            if not stat.S_ISDIR(mode):
                kept &= ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))
            lost = (CAPABILITIES,) if not stat.S_ISDIR(mode) and CAPABILITIES in self.xattrs(path) else ()
            self._change(path, Attributes(kept, uid, gid), remove_xattrs=lost)

    def touch(self, paths: Iterable[bytes], time: Timespec | None, times: Attributes, *, no_create: bool) -> None:
        """Set *times*, those of access and content to *time* if they are not said; make files that are not there."""
        if time is None and times == Attributes():
            time = self._builder.txn.now
        said = times._replace(atime=times.atime or time, mtime=times.mtime or time)
        for path in paths:
            try:
                target = self._names.target(path)
                is_there = target == b"/" or self._names.entry(target) is not None
            except NotFoundError:
                if no_create:
                    continue
                raise
            if not is_there:
                if no_create:
                    continue
                self._do(values.MakeFile(target, (), None, Storage(), Attributes()))
            self._change(target, said)

    def change_flags(self, paths: Iterable[bytes], flags: Flags) -> None:
        """Change flags and properties."""
        for path in paths:
            if flags.compression:
                self.set_xattr(path, xattrs.COMPRESSION, flags.compression)
            elif flags.compression is not None and xattrs.COMPRESSION in self.xattrs(path):
                self.remove_xattrs(path, [xattrs.COMPRESSION])
            if flags.add or flags.remove:
                self._change(path, Attributes(), add_flags=flags.add, remove_flags=flags.remove)
            if flags.readonly is not None:
                self._change(path, Attributes(), readonly=flags.readonly)

    def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """Set an extended attribute."""
        content = Content("bytes", value, len(value))
        self._change(path, Attributes(xattrs=((name, content),)))

    def remove_xattrs(self, path: bytes, names: Iterable[bytes]) -> None:
        """Remove extended attributes."""
        self._change(path, Attributes(), remove_xattrs=tuple(names))

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        """Return all extended attributes of what is at *path*; without a transaction under way, none is begun."""
        if self._session.pending is None:
            return self._session.image.open(path).xattrs()
        return xattrs.read_all(*self._names.find(path))

    def _change(
        self,
        path: bytes,
        attributes: Attributes,
        *,
        remove_xattrs: tuple[bytes, ...] = (),
        readonly: bool | None = None,
        add_flags: int = 0,
        remove_flags: int = 0,
    ) -> None:
        self._do(values.Change(self._names.target(path), attributes, remove_xattrs, readonly, add_flags, remove_flags))

    def _inode(self, path: bytes) -> InodeItem:
        return inodes.read(*self._names.find(path))

"""Files as an image has them and as edits make them, in plain Python: without trees, extents and transactions.

Blocks of files have numbers, which are equal where they are shared. What an edit would be refused for is found before
anything changes, so that a refused one leaves all as it was.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from .plaincontents import PlainContents
from .plainnodes import (
    CAPABILITIES,
    COMPRESS,
    COMPRESSED,
    COMPRESSION,
    INLINE,
    NAME_MAX,
    NO_SUMS,
    NODATACOW,
    NODATASUM,
    Found,
    HostFile,
    Node,
    NotAllowedError,
    NotThereError,
    below,
    copied,
    flags_of,
    inherited_flags,
    is_equal,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class PlainFiles(PlainContents):
    """Files whose names and attributes change, too: all that edits do."""

    def mkdir(self, path: bytes, mode: int | None, owner: tuple[int, int] | None, *, parents: bool) -> None:
        if not parents:
            self._mkdir(path, mode, owner)
            return
        at = b""
        for name in path[1:].split(b"/"):
            last = len(at) + 1 + len(name) == len(path)
            at += b"/" + name
            if not self.is_directory(at):
                self._mkdir(self.follow(at), mode if last else None, owner if last else None)

    def _mkdir(self, path: bytes, mode: int | None, owner: tuple[int, int] | None) -> None:
        found = self._free(path)
        mode = 0o755 if mode is None else mode
        self._hang(found, self._new(found.parent, stat.S_IFDIR | mode, *(owner or ())))

    def make(self, path: bytes, mode: int, rdev: tuple[int, int] = (0, 0)) -> Node:
        """Make a special file."""
        found = self._free(path)
        node = self._hang(found, self._new(found.parent, mode))
        node.rdev = rdev
        return node

    def make_file(self, path: bytes, content: bytes, mode: int = 0o644, compress: str | None = None) -> None:
        """Make a regular file, as a script does."""
        found = self._free(path)
        node = self._hang(found, self._new(found.parent, stat.S_IFREG | mode))
        self._store(node, content, compress)

    def symlink(self, says: bytes, path: bytes) -> None:
        ((_, target),) = self._targets([says], path)
        found = self._free(target)
        self._hang(found, self._new(found.parent, stat.S_IFLNK | 0o777)).target = says

    def link(self, to: bytes, path: bytes) -> None:
        ((_, target),) = self._targets([to], path)
        found = self._place(target)
        other = self.look(self.follow(to, last=False))
        if other.node is None or other.node.is_placeholder:
            raise NotThereError
        if other.node.kind == stat.S_IFDIR or other.subvolume is not found.subvolume or found.node is not None:
            raise NotAllowedError("link")
        other.node.nlink += 1
        self._touch(self._hang(found, other.node), "ctime")

    # What goes

    def rm(self, path: bytes, *, recursive: bool, missing: bool = False) -> None:
        if path == b"/":
            raise NotAllowedError("top")
        try:
            found = self.look(self.follow(path, last=False))
            if found.node is None:
                raise NotThereError
        except NotThereError:
            if missing:
                return
            raise
        assert found.node
        if found.node.kind == stat.S_IFDIR and not recursive:
            raise NotAllowedError("directory")
        self._remove(self._place(path))

    def delete(self, path: bytes, *, recursive: bool) -> None:
        """Delete as a script does: an empty directory, too."""
        found = self._place(path, followed=False)
        if found.node is None:
            raise NotThereError
        node = found.node
        if not recursive and node.kind == stat.S_IFDIR and not node.is_subvolume and node.names:
            raise NotAllowedError("not empty")
        if not recursive and node.is_subvolume and any(each.is_subvolume for each in list(below(node))[1:]):
            raise NotAllowedError("subvolumes")
        self._remove(found)

    def delete_subvolume(self, path: bytes, *, recursive: bool) -> None:
        found = self.look(self.follow(path, last=False))
        node = found.node
        if node is None:
            raise NotThereError
        if node is self.top or not (node.is_subvolume or node.is_placeholder):
            raise NotAllowedError("no subvolume")
        if found.subvolume.is_read_only:
            raise NotAllowedError("read-only")
        if not recursive and any(each.is_subvolume for each in list(below(node))[1:]):
            raise NotAllowedError("subvolumes")
        self._remove(found)

    def _remove(self, found: Found) -> None:
        assert found.node
        gone = list(below(found.node))
        if any(node is self.default for node in gone):
            raise NotAllowedError("default")
        del found.parent.names[found.name]
        self._touch(found.parent)
        for node in gone:
            self._lose(node)

    def _lose(self, node: Node) -> None:
        node.nlink -= 1
        self._touch(node, "ctime")

    def mv(self, sources: Sequence[bytes], path: bytes) -> None:
        if b"/" in sources:
            raise NotAllowedError("top")
        for source, target in self._targets(sources, path):
            self.rename(self.follow(source, last=False), target)

    def rename(self, path: bytes, to: bytes) -> None:
        old, new = self._place(path, followed=False), self._place(to, followed=False)
        node, other = old.node, new.node
        if node is None:
            raise NotThereError
        if node.is_placeholder or not new.name or len(new.name) > NAME_MAX:
            raise NotAllowedError("it cannot move")
        if node.kind == stat.S_IFDIR and any(each is new.parent for each in below(node)):
            raise NotAllowedError("into itself")
        if node.is_subvolume and other is not None:
            raise NotAllowedError("taken")
        if other is node:
            return
        if other is not None:
            is_directory = node.kind == stat.S_IFDIR
            if other.is_subvolume or other.is_placeholder or (other.kind == stat.S_IFDIR) != is_directory:
                raise NotAllowedError("no room")
            if other.names:
                raise NotAllowedError("not empty")
            self._lose(other)
        del old.parent.names[old.name]
        self._touch(old.parent)
        if node.is_subvolume:
            self._hang(new, node)
        elif old.subvolume is new.subvolume:
            self._touch(self._hang(new, node), "ctime")
        else:
            self._hang(new, self._crossed(node, {}))

    def _crossed(self, node: Node, made: dict[int, Node]) -> Node:
        """Return a copy of *node* for another subvolume, sharing its data; the name goes that it had."""
        if node.is_subvolume:
            return node
        if node.is_placeholder:
            return Node(stat.S_IFDIR | 0o755, self.now)
        copy = made.get(id(node))
        if copy is None:
            copy = made[id(node)] = node.copy()
            copy.nlink = 0
            self._touch(copy, "ctime", "otime")
            copy.names = {name: self._crossed(each, made) for name, each in node.names.items()}
        copy.nlink += 1
        self._lose(node)
        self.crossed.append(node)
        return copy

    # From the host

    def put(
        self, sources: Sequence[HostFile], path: bytes, owner: tuple[int, int] | None, compress: str | None
    ) -> None:
        files = {source.path: source for source in sources}
        for source, target in self._targets(list(files), path):
            file = files[source]
            _refuse_clashes(self.look(target).node, file)
            self._put(self._place(target, followed=False), file, owner, compress, {}, told=False)

    def _put(
        self,
        found: Found,
        file: HostFile,
        owner: tuple[int, int] | None,
        compress: str | None,
        made: dict[int, Node],
        *,
        told: bool,
    ) -> None:
        """Put *file* at a name; *told* is whether its directory is of the host, too."""
        other, kind = found.node, stat.S_IFMT(file.mode)
        before = dict(found.parent.times)
        if kind == stat.S_IFDIR and other is not None and other.kind == kind:
            node = other
            flags = node.flags & ~COMPRESSED if COMPRESSION in node.xattrs else node.flags
            self._describe(node, file, owner)
            self._inherit(found.parent, node)
            node.flags = flags | flags_of(node.xattrs.get(COMPRESSION, b""))
        else:
            node = made.get(id(file)) or self._new_of_host(found.parent, file, owner, compress, other)
            is_same = node is other
            if other is not None and not is_same and id(file) not in made:
                is_same = is_equal(node, other)
                node = other if is_same else node
            if not is_same:
                if other is not None:
                    self._lose(other)
                node.nlink += id(file) in made
                self._hang(found, node)
            made[id(file)] = node
        if told:
            found.parent.times = before
        for name, each in file.inside:
            self._put(Found(found.subvolume, node, name, node.names.get(name)), each, owner, compress, made, told=True)

    def _describe(self, node: Node, file: HostFile, owner: tuple[int, int] | None) -> None:
        node.mode = file.mode
        node.uid, node.gid = owner or (file.uid, file.gid)
        node.times = {"atime": file.time, "mtime": file.time, "ctime": self.now, "otime": self.now}
        node.xattrs = dict(file.xattrs)

    def _new_of_host(
        self, parent: Node, file: HostFile, owner: tuple[int, int] | None, compress: str | None, other: Node | None
    ) -> Node:
        node = Node(file.mode, self.now)
        self._describe(node, file, owner)
        node.flags = inherited_flags(parent.flags, node.kind)
        self._inherit(parent, node)
        node.target = file.target
        if node.kind == stat.S_IFREG:
            self._store(node, file.content, compress)
            if other is not None and other.kind == stat.S_IFREG and other.size == node.size and node.blocks != [INLINE]:
                for at, number in enumerate(node.blocks):
                    old = other.blocks[at]
                    if number is not None and old not in (None, INLINE):
                        self._kin[number] = old
                    if number is not None:
                        self._loose.add(number)
        return node

    # Subvolumes

    def create_subvolume(self, path: bytes) -> None:
        found = self._free(path)
        node = Node(stat.S_IFDIR | 0o755, self.now)
        node.is_subvolume = True
        self._hang(found, node)
        self._inherit(found.subvolume, node)

    def snapshot(self, subvolume: bytes, path: bytes, *, read_only: bool) -> None:
        ((_, target),) = self._targets([subvolume], path)
        found = self._place(target)
        _, source = self.find(self.follow(subvolume))
        if not source.is_subvolume or found.node is not None:
            raise NotAllowedError("snapshot")
        made = copied(source, {}, snapshot=True)
        made.is_read_only = read_only
        self._hang(found, made)

    def set_default(self, path: bytes) -> None:
        _, node = self.find(self.follow(path))
        if not node.is_subvolume:
            raise NotAllowedError("no subvolume")
        self.default = node

    # Attributes

    def chmod(self, path: bytes, mode: int) -> None:
        node = self._to_change(path)
        node.mode = node.kind | mode
        self._touch(node, "ctime")

    def chown(self, path: bytes, uid: int | None, gid: int | None) -> None:
        node = self._to_change(path)
        if node.kind != stat.S_IFDIR:
            node.mode &= ~(stat.S_ISUID | (stat.S_ISGID if node.mode & stat.S_IXGRP else 0))
            node.xattrs.pop(CAPABILITIES, None)
        node.uid = node.uid if uid is None else uid
        node.gid = node.gid if gid is None else gid
        self._touch(node, "ctime")

    def touch(self, path: bytes, times: dict[str, int], *, no_create: bool) -> None:
        try:
            target = self.follow(path)
            if self.look(target).node is None:
                raise NotThereError
        except NotThereError:
            if no_create:
                return
            self.make_file(target := self.follow(path), b"")
        node = self._to_change(target)
        self._touch(node, "ctime")
        node.times.update(times or {"atime": self.now, "mtime": self.now})

    def set_read_only(self, path: bytes, *, value: bool) -> None:
        _, node = self.find(self.follow(path))
        if not node.is_subvolume:
            raise NotAllowedError("no subvolume")
        node.is_read_only = value

    def chattr(self, path: bytes, add: int, remove: int) -> None:
        node = self._to_change(path)
        if node.kind != stat.S_IFREG:
            add, remove = add & ~NODATASUM, remove & ~NODATASUM
        flags = node.flags & ~remove | add
        if node.kind == stat.S_IFREG and node.size and (flags ^ node.flags) & NO_SUMS:
            raise NotAllowedError("content")
        if (add & NODATACOW and flags & COMPRESSED) or (add & COMPRESSED and flags & NO_SUMS):
            raise NotAllowedError("exclude each other")
        if add & COMPRESSED == COMPRESSED:
            raise NotAllowedError("exclude each other")
        if add & COMPRESSED:
            flags = flags & ~COMPRESSED | add & COMPRESSED
        if add & COMPRESS:
            node.xattrs[COMPRESSION] = b"zlib"
        elif (add | remove & node.flags) & COMPRESSED:
            node.xattrs.pop(COMPRESSION, None)
        node.flags = flags
        self._touch(node, "ctime")

    def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
        node = self._to_change(path)
        if len(value) > min(self.nodesize - 101 - 25 - 30 - len(name), 65536):
            raise NotAllowedError("no room")
        if name == COMPRESSION:
            if node.kind == stat.S_IFREG and node.flags & NO_SUMS:
                raise NotAllowedError("no checksums")
            node.flags = node.flags & ~COMPRESSED | flags_of(value)
        node.xattrs[name] = value
        self._touch(node, "ctime")

    def remove_xattr(self, path: bytes, name: bytes) -> None:
        node = self._to_change(path)
        if name not in node.xattrs:
            raise NotThereError
        del node.xattrs[name]
        node.flags &= ~COMPRESSED if name == COMPRESSION else -1
        self._touch(node, "ctime")


def _refuse_clashes(node: Node | None, file: HostFile) -> None:
    """Raise NotAllowedError where *file*, or what is in it, cannot be put where *node* is."""
    if node is None:
        return
    if node.is_subvolume or node.is_placeholder:
        raise NotAllowedError("a subvolume has the name")
    if (node.kind == stat.S_IFDIR) != stat.S_ISDIR(file.mode):
        raise NotAllowedError("a directory, and none")
    for name, each in file.inside:
        _refuse_clashes(node.names.get(name), each)

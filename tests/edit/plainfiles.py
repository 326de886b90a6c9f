"""Files as an image has them and as edits make them, in plain Python: without trees, extents and transactions.

Blocks of files have numbers, which are equal where they are shared. What an edit would be refused for is found before
anything changes, so that a refused one leaves all as it was.
"""

from __future__ import annotations

import hashlib
import stat
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from support.model import LARGEST, Facts, ns

from btrimg.filesystem.walk import walk
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

    Place = tuple[int, int]  # of an extent: logical address and offset in it

BLOCK = 4096
INLINE = -1  #: in place of a block's number: it lies in the metadata, where nobody shares it
COMPRESSION, CAPABILITIES = b"btrfs.compression", b"security.capability"
COMPRESSED = int(InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS)
NODATASUM, NODATACOW, PREALLOC = map(int, (InodeFlag.NODATASUM, InodeFlag.NODATACOW, InodeFlag.PREALLOC))
COMPRESS, NOCOMPRESS = int(InodeFlag.COMPRESS), int(InodeFlag.NOCOMPRESS)
_NO_SUMS = NODATASUM | NODATACOW
_SHOWN = int(InodeFlag.SYNC | InodeFlag.NODUMP | InodeFlag.NOATIME | InodeFlag.DIRSYNC) | COMPRESSED | _NO_SUMS
_MOST_INLINE = 2048
_MOST_LINKS = 40  # that are followed
_NAME_MAX = 255


class NotAllowedError(Exception):
    """Tell that an edit cannot be done to what is there."""


class NotThereError(Exception):
    """Tell that what an edit is about is not there."""


class Node:
    """An inode; *raw* is its content in whole blocks, of which bytes behind *size* are stored, but not shown."""

    def __init__(self, mode: int, now: int) -> None:
        self.mode, self.uid, self.gid, self.nlink, self.rdev, self.flags = mode, 0, 0, 1, (0, 0), 0
        self.times = {"atime": now, "mtime": now, "ctime": now, "otime": now}
        self.xattrs: dict[bytes, bytes] = {}
        self.size, self.raw, self.target = 0, b"", b""
        self.blocks: list[int | None] = []  # None for holes; there may be more than *size* needs: reserved ones
        self.inline = 0  # bytes that are INLINE
        self.is_packed = False  # whether they are compressed, though nothing says so
        self.names: dict[bytes, Node] = {}
        self.is_subvolume = self.is_read_only = False
        self.is_placeholder = False  # of a subvolume, in a snapshot of what it was in
        self.is_far = False  # larger than what is looked at

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.mode)

    @property
    def content(self) -> bytes:
        return self.raw[: self.size]

    def copy(self) -> Node:
        """Return a copy without names."""
        other = Node(self.mode, 0)
        vars(other).update(vars(self))
        other.times, other.xattrs, other.blocks = dict(self.times), dict(self.xattrs), list(self.blocks)
        other.names = {}
        return other

    def fill(self, content: bytes, blocks: list[int | None]) -> None:
        """Become a file of *content*."""
        self.size, self.raw, self.blocks = len(content), padded(content), blocks
        self.inline = len(content) if blocks[:1] == [INLINE] else 0
        self.is_packed = False


class Found(NamedTuple):
    """Where a path leads: a name in a directory, and what has that name."""

    subvolume: Node
    parent: Node
    name: bytes
    node: Node | None


class HostFile(NamedTuple):
    """What is put: a file, directory, symlink, or fifo of the host."""

    path: bytes
    mode: int
    uid: int
    gid: int
    time: int  #: of access and of change of content
    xattrs: dict[bytes, bytes]
    content: bytes = b""
    target: bytes = b""
    inside: tuple[tuple[bytes, HostFile], ...] = ()  #: names in order; equal objects are hard links


def padded(content: bytes) -> bytes:
    """Return *content* in whole blocks."""
    return content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")


def blocks_of(start: int, end: int) -> range:
    """Return the blocks that bytes [start, end) touch."""
    return range(start // BLOCK, -(-end // BLOCK))


@cache
def _digest(raw: bytes, size: int) -> str:
    return hashlib.sha256(memoryview(raw)[:size]).hexdigest()


class PlainFiles:
    """The files of *image*, and what becomes of them at the time *now*, in ns since 1970."""

    def __init__(self, image: Image, now: int) -> None:
        self.now, self.nodesize = now, image.volume.nodesize
        self._next = count(1)
        self._kin: dict[int, int] = {}  # numbers of blocks that may be others, which stayed where they were
        self.crossed: list[Node] = []  # that moved into another subvolume
        self._loose: set[int] = set()  # numbers of blocks that may be inline, by how well they compress, or holes
        numbers: dict[Place, int] = {}
        known: dict[tuple[int, int], Node] = {}
        top = image.open(b"/")
        for inode in (top, *walk(top)):
            key = inode.subvolume.id, inode.ino
            node = known.get(key) if not inode.is_directory else None
            if node is None:
                node = known[key] = self._read(inode, numbers)
            head, _, name = (b"/" + inode.path.strip(b"/")).rpartition(b"/")
            if name:
                self._directory(head.split(b"/")).names[name] = node
            else:
                self.top = self.default = node

    def _read(self, inode: Inode, numbers: dict[Place, int]) -> Node:
        item = inode.item
        node = Node(item.mode, 0)
        node.is_placeholder = inode.is_placeholder
        if node.is_placeholder:
            return node
        node.uid, node.gid, node.nlink, node.flags = item.uid, item.gid, item.nlink, int(item.flags)
        node.rdev = (item.rdev >> 20, item.rdev & 0xFFFFF)
        node.times = {name: ns(getattr(item, name)) for name in node.times}
        node.xattrs = inode.xattrs()
        node.is_subvolume = inode.is_directory and inode.ino == 256
        node.is_read_only = node.is_subvolume and inode.subvolume.read_only
        node.is_far = item.size > LARGEST
        node.size = item.size
        if inode.is_regular and not node.is_far:
            places = places_of(inode)
            blocks = [
                None if place is None else numbers.setdefault(place, next(self._next))
                for place in map(places.get, range(max(-(-item.size // BLOCK), max(places, default=-1) + 1)))
            ]
            lengths = [row.length for row in inode.extents() if row.kind == "inline"]
            node.fill(inode.read(0, item.size), [INLINE, *blocks[1:]] if lengths else blocks)
            node.inline = sum(lengths)
            node.is_packed = bool(lengths) and any(row.compression for row in inode.extents() if row.kind == "inline")
        elif node.kind == stat.S_IFLNK:
            node.target = inode.target()
        return node

    def copied(self) -> PlainFiles:
        """Return a copy, to go back to."""
        other = PlainFiles.__new__(PlainFiles)
        vars(other).update(vars(self))
        memo: dict[int, Node] = {}
        other.top = _copied(self.top, memo)
        other.default = memo.get(id(self.default), other.top)
        return other

    # Finding

    def _directory(self, names: Iterable[bytes]) -> Node:
        node = self.top
        for name in filter(None, names):
            found = node.names.get(name)
            if found is None or found.kind != stat.S_IFDIR or found.is_placeholder:
                raise NotThereError
            node = found
        return node

    def follow(self, path: bytes, *, last: bool = True) -> bytes:
        """Return *path* with symbolic links followed, unless *last* also the one that it names."""
        names = path.split(b"/")[::-1]
        at: list[bytes] = []
        links = 0
        while names:
            name = names.pop()
            if name == b"..":
                at = at[:-1]
            elif name not in (b"", b"."):
                node = self._directory(at).names.get(name)
                if node is None or node.kind != stat.S_IFLNK or not (last or any(names)):
                    at.append(name)
                    continue
                links += 1
                if links > _MOST_LINKS:
                    raise NotThereError
                at = [] if node.target.startswith(b"/") else at
                names += node.target.split(b"/")[::-1]
        return b"/" + b"/".join(at)

    def look(self, path: bytes) -> Found:
        """Return where *path* leads, in which no symbolic links are."""
        subvolume = node = self.top
        *heads, name = path.split(b"/")[1:]
        for each in heads:
            found = node.names.get(each)
            if found is None or found.kind != stat.S_IFDIR or found.is_placeholder:
                raise NotThereError
            node = found
            subvolume = node if node.is_subvolume else subvolume
        if not name:
            return Found(self.top, self.top, b"", self.top)
        return Found(subvolume, node, name, node.names.get(name))

    def find(self, path: bytes) -> tuple[Node, Node]:
        """Return the subvolume that *path* is in, and the inode there."""
        found = self.look(path)
        if found.node is None or found.node.is_placeholder:
            raise NotThereError
        return found.node if found.node.is_subvolume else found.subvolume, found.node

    def is_directory(self, path: bytes) -> bool:
        try:
            return self.find(self.follow(path))[1].kind == stat.S_IFDIR
        except NotThereError:
            return False

    def _place(self, path: bytes, *, followed: bool = True) -> Found:
        """Return where a name is to be made or taken away."""
        found = self.look(self.follow(path, last=False) if followed else path)
        if found.subvolume.is_read_only:
            raise NotAllowedError("read-only")
        return found

    def _to_change(self, path: bytes) -> Node:
        subvolume, node = self.find(self.follow(path))
        if subvolume.is_read_only:
            raise NotAllowedError("read-only")
        return node

    def _file(self, path: bytes) -> Node:
        node = self._to_change(path)
        if node.kind != stat.S_IFREG:
            raise NotAllowedError("no regular file")
        return node

    def _free(self, path: bytes) -> Found:
        found = self._place(path)
        if found.node is not None:
            raise NotAllowedError("taken")
        if len(found.name) > _NAME_MAX:
            raise NotAllowedError("too long")
        return found

    def _targets(self, sources: Sequence[bytes], path: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield *sources*, each with where it goes: into *path*, if that is a directory."""
        inside = self.is_directory(path)
        if len(sources) > 1 and not inside:
            raise NotAllowedError("several")
        for source in sources:
            name = source.rpartition(b"/")[2] if inside else b""
            if inside and not name:
                raise NotAllowedError("no name")
            yield source, self.follow(path.rstrip(b"/") + b"/" + name if name else path, last=False)

    # What is new

    def _touch(self, node: Node, *fields: str) -> None:
        node.times.update(dict.fromkeys(fields or ("mtime", "ctime"), self.now))

    def _hang(self, found: Found, node: Node) -> Node:
        found.parent.names[found.name] = node
        self._touch(found.parent)
        return node

    def _new(self, parent: Node, mode: int, uid: int = 0, gid: int | None = None, flags: int = 0) -> Node:
        """Return a new inode, with what it inherits from its directory."""
        node = Node(mode, self.now)
        node.uid, node.gid = uid, gid or 0
        if parent.mode & stat.S_ISGID:
            node.gid = parent.gid if gid is None else gid
            if node.kind == stat.S_IFDIR:
                node.mode |= stat.S_ISGID
        node.flags = flags | inherited_flags(parent.flags, node.kind)
        self._inherit(parent, node)
        return node

    def _inherit(self, parent: Node, node: Node) -> None:
        """Let a new inode have the property of its directory."""
        value = parent.xattrs.get(COMPRESSION) if parent.flags & COMPRESSED else None
        if value and node.kind in (stat.S_IFREG, stat.S_IFDIR) and not node.flags & _NO_SUMS:
            node.xattrs.setdefault(COMPRESSION, value)
            node.flags |= flags_of(node.xattrs[COMPRESSION])

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
        if node.is_placeholder or not new.name or len(new.name) > _NAME_MAX:
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
            found = self.look(target)
            is_directory = stat.S_ISDIR(file.mode)
            if found.node is not None and stat.S_ISDIR(found.node.mode) != is_directory:
                raise NotAllowedError("a directory, and none")
            found = self._place(target, followed=False)
            self._put(found, file, owner, compress, {}, told=False)

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
        if other is not None and (other.is_subvolume or other.is_placeholder):
            raise NotAllowedError("a subvolume has the name")
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
                is_same = _equal(node, other)
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

    # Contents

    def _fresh(self, *, loose: bool = False, kin: int | None = None) -> int:
        number = next(self._next)
        if loose:
            self._loose.add(number)
        if kin is not None and kin != INLINE:
            self._kin[number] = kin
        return number

    def _compresses(self, node: Node, compress: str | None) -> bool:
        """Return whether what is written may be compressed."""
        said = compress not in (None, "none") or bool(node.flags & COMPRESS) or COMPRESSION in node.xattrs
        return said or node.is_packed

    def _first(self, node: Node, content: bytes, compress: str | None) -> int | None:
        """Return the block of a file that has no more than this one."""
        if not content:
            return None
        if len(content) <= _MOST_INLINE:
            return INLINE
        return self._fresh(loose=len(content) <= BLOCK and self._compresses(node, compress))

    def _store(self, node: Node, content: bytes, compress: str | None) -> None:
        """Let a file be *content*, and nothing else."""
        if len(content) <= BLOCK:
            first = self._first(node, content, compress)
            node.fill(content, [] if first is None else [first])
        else:
            node.fill(content, [self._fresh() for _ in blocks_of(0, len(content))])

    def _stretch(self, node: Node, size: int) -> None:
        """Have raw content and blocks for *size* bytes."""
        count = -(-size // BLOCK)
        node.raw = node.raw.ljust(count * BLOCK, b"\0")
        node.blocks += [None] * (count - len(node.blocks))

    def write(self, path: bytes, offset: int, data: bytes, compress: str | None = None) -> None:
        node = self._file(path)
        if not data:
            return
        end = offset + len(data)
        size = max(node.size, end)
        content = node.content
        if size <= BLOCK and not any(number is not None for number in node.blocks[1:]):
            self._store(node, content[:offset].ljust(offset, b"\0") + data + content[end:], compress)
        else:
            start = offset // BLOCK * BLOCK
            if start >= node.size:
                self._expand(node, start)
            elif start:
                self._outline(node)
            self._stretch(node, size)
            stop = -(-end // BLOCK) * BLOCK
            written = content[start:offset].ljust(offset - start, b"\0") + data + content[end:stop]
            node.raw = node.raw[:start] + written.ljust(stop - start, b"\0") + node.raw[stop:]
            for at in blocks_of(start, end):
                node.blocks[at] = self._fresh()
            node.inline = 0 if start == 0 else node.inline
        node.size = size
        self._touch(node)

    def _outline(self, node: Node) -> None:
        """Store what is inline in an extent."""
        if node.inline or (node.blocks and node.blocks[0] in self._loose):
            old = node.blocks[0]
            node.blocks[0] = self._fresh(kin=old)
            node.inline = 0

    def _expand(self, node: Node, size: int, *, keep_inline: bool = False) -> None:
        """Make ready for a file to grow: what is stored behind its end becomes zeros."""
        if not keep_inline:
            self._outline(node)
        self._zero(node, node.size, min(size, -(-node.size // BLOCK) * BLOCK))

    def _zero(self, node: Node, start: int, end: int) -> None:
        """Make bytes of one block zeros; where they are that, nothing is stored."""
        if start < end and any(node.raw[start:end]):
            node.raw = node.raw[:start] + bytes(end - start) + node.raw[end:]
            at = start // BLOCK
            if at or not node.inline or self._compresses(node, None):
                node.blocks[at] = self._fresh(loose=at == 0 and len(node.raw) <= BLOCK)
                node.inline = node.inline if at else 0

    def truncate(self, path: bytes, size: int) -> None:
        node = self._file(path)
        old = node.size
        if size <= old:
            del node.blocks[-(-size // BLOCK) :]
            node.raw = node.raw[: -(-size // BLOCK) * BLOCK]
            if node.inline > size or (node.blocks and node.blocks[0] in self._loose and size < BLOCK):
                node.raw = padded(node.raw[:size])
                if size and self._compresses(node, None):
                    node.blocks[0] = self._fresh(loose=True, kin=node.blocks[0])
                    node.inline = 0
                node.inline = min(node.inline, size)
        elif size <= BLOCK and node.inline and not node.blocks[1:]:
            self._store(node, node.content.ljust(size, b"\0"), None)
        else:
            self._expand(node, size)
            self._stretch(node, size)
        node.size = size
        if size != old:
            self._touch(node)

    def is_hole(self, node: Node, start: int, end: int) -> bool:
        """Return whether nothing is stored for bytes [start, end)."""
        found = node.blocks[start // BLOCK : -(-end // BLOCK)]
        if start < BLOCK and node.inline and start >= node.inline:
            found = found[1:]
        return all(number is None for number in found)

    def punch(self, path: bytes, offset: int, length: int) -> None:
        node = self._file(path)
        end = offset + length
        if self.is_hole(node, offset, end):
            return
        first, last = -(-offset // BLOCK), end // BLOCK
        if first > last:
            self._zero(node, offset, min(end, node.size))
        else:
            self._zero(node, offset, min(first * BLOCK, node.size))
            self._zero(node, last * BLOCK, min(end, node.size))
            for at in range(first, min(last, len(node.blocks))):
                node.blocks[at] = None
                node.raw = (
                    node.raw[: at * BLOCK] + bytes(len(node.raw[at * BLOCK :][:BLOCK])) + node.raw[(at + 1) * BLOCK :]
                )
                node.inline = node.inline if at else 0
        self._touch(node)

    def preallocate(self, path: bytes, offset: int, length: int, *, keep_size: bool) -> None:
        node = self._file(path)
        start, end = offset // BLOCK * BLOCK, offset + length
        size = node.size if keep_size else max(node.size, end)
        if start > node.size:
            self._expand(node, start)
        elif size > node.size:
            self._zero(node, node.size, min(size, -(-node.size // BLOCK) * BLOCK))
        self._stretch(node, end)
        for at in blocks_of(start, end):
            if node.blocks[at] is None:
                node.blocks[at] = self._fresh()
        node.raw = node.raw[: -(-size // BLOCK) * BLOCK]
        node.size = size
        node.flags |= PREALLOC
        self._touch(node)

    def reflink(self, source: bytes, first: int, length: int | None, path: bytes, at: int) -> None:
        _, origin = self.find(self.follow(source))
        target = self.follow(path)
        found = self.look(target)
        if found.node is None:
            found = self._free(target)
            node = self._new(found.parent, stat.S_IFREG | 0o644, flags=origin.flags & _NO_SUMS)
        else:
            node = self._to_change(target)
        self._refuse_sharing(origin, first, length, node, at)
        if found.node is None:
            self._hang(found, node)
        length = length or max(origin.size - first, 0)
        if not length:
            return
        blocks, raw, inline = list(origin.blocks), origin.raw, origin.inline
        if at > node.size:
            self._expand(node, at, keep_inline=True)
        size = max(node.size, at + length)
        self._stretch(node, max(size, at + length))
        shift = at // BLOCK - first // BLOCK
        for block in blocks_of(first, first + length):
            number = blocks[block] if block < len(blocks) else None
            if block == 0 and inline:
                if at == 0 and node.size <= inline:
                    number, node.inline, node.is_packed = INLINE, inline, origin.is_packed
                else:
                    number = self._fresh()
            elif block == 0 and number in self._loose:
                number = self._fresh(loose=at == 0, kin=number)
            if block + shift == 0 and number != INLINE:
                node.inline = 0
            node.blocks[block + shift] = number
        moved = raw[first : first + -(-length // BLOCK) * BLOCK].ljust(-(-length // BLOCK) * BLOCK, b"\0")
        node.raw = node.raw[:at] + moved + node.raw[at + len(moved) :]
        node.size = size
        self._touch(node)

    def _refuse_sharing(self, origin: Node, first: int, length: int | None, node: Node, at: int) -> None:
        """Raise NotAllowedError where the kernel would not let files share."""
        if origin.kind != stat.S_IFREG or node.kind != stat.S_IFREG:
            raise NotAllowedError("no regular file")
        length = length or max(origin.size - first, 0)
        end, span = first + length, -(-length // BLOCK) * BLOCK
        if first % BLOCK or at % BLOCK or end > origin.size:
            raise NotAllowedError("not whole blocks of it")
        if length % BLOCK and (end != origin.size or at + length < node.size):
            raise NotAllowedError("the end in the middle")
        if origin is node and first < at + span and at < first + span:
            raise NotAllowedError("overlapping")
        if (origin.flags ^ node.flags) & NODATASUM:
            raise NotAllowedError("checksums")

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
        made = _copied(source, {}, snapshot=True)
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
        if node.kind == stat.S_IFREG and node.size and (flags ^ node.flags) & _NO_SUMS:
            raise NotAllowedError("content")
        if (add & NODATACOW and flags & COMPRESSED) or (add & COMPRESSED and flags & _NO_SUMS):
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
            if node.kind == stat.S_IFREG and node.flags & _NO_SUMS:
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

    # What came of it

    def walk(self) -> Iterator[tuple[bytes, Node, Node]]:
        """Yield path, subvolume and inode of all that can be reached, directories before what is in them."""
        waiting = [(b"/", self.top, self.top)]
        while waiting:
            path, subvolume, node = waiting.pop()
            if node.is_placeholder:
                continue
            subvolume = node if node.is_subvolume else subvolume
            yield path, subvolume, node
            waiting += [(path.rstrip(b"/") + b"/" + name, subvolume, each) for name, each in node.names.items()]

    def facts(self) -> dict[bytes, Facts]:
        """Return what every path is, but for what a snapshot shows in place of a subvolume."""
        found: dict[bytes, Facts] = {}
        for path, _, node in self.walk():
            held: object = None
            if node.kind == stat.S_IFDIR:
                held = sorted(node.names)
            elif node.kind == stat.S_IFREG:
                held = None if node.is_far else _digest(node.raw, node.size)
            elif node.kind == stat.S_IFLNK:
                held = node.target
            times = tuple(node.times.values())
            found[path] = Facts(node.mode, node.uid, node.gid, node.nlink, node.rdev, times, node.xattrs, held)
        return found

    def faults(self, image: Image) -> Iterator[str]:
        """Yield what else is wrong in *image*: flags, subvolumes, and blocks that are shared or not."""
        where: dict[int, tuple[Place, str]] = {}
        whose: dict[Place, tuple[int, str]] = {}
        top = image.open(b"/")
        inodes = {b"/" + inode.path.strip(b"/"): inode for inode in (top, *walk(top))}
        for path, _, node in self.walk():
            inode = inodes.get(path)
            if inode is None:
                continue  # as the facts tell
            if node.kind in (stat.S_IFREG, stat.S_IFDIR) and (inode.item.flags ^ node.flags) & _SHOWN:
                yield f"{path!r} has flags {inode.item.flags:#x}, is to have {node.flags:#x}"
            if node.is_subvolume and inode.subvolume.read_only != node.is_read_only:
                yield f"{path!r} is to be {'read-only' if node.is_read_only else 'writable'}"
            if node is self.default and inode.subvolume.id != image.default_subvolume():
                yield f"{path!r} is to be the default subvolume"
            if node.kind == stat.S_IFREG and not node.is_far:
                places = places_of(inode)
                numbers = dict(enumerate(node.blocks))
                for at in sorted(places.keys() | numbers.keys()):
                    yield from self._faults_of(numbers.get(at), places.get(at), f"{path!r} block {at}", where, whose)

    def _faults_of(
        self,
        number: int | None,
        place: Place | None,
        name: str,
        where: dict[int, tuple[Place, str]],
        whose: dict[Place, tuple[int, str]],
    ) -> Iterator[str]:
        if number is None or number == INLINE:
            if place is not None:
                yield f"{name} is to be {'a hole' if number is None else 'inline'}"
        elif place is None:
            if number not in self._loose:
                yield f"{name} is not stored"
        else:
            known, first = where.setdefault(number, (place, name))
            if known != place:
                yield f"{name} is to be shared with {first}"
            other, first = whose.setdefault(place, (self._root(number), name))
            if other != self._root(number):
                yield f"{name} is not to be shared with {first}"

    def _root(self, number: int) -> int:
        while number in self._kin:
            number = self._kin[number]
        return number


def below(node: Node) -> Iterator[Node]:
    """Yield *node* and all that is below it, once for each name."""
    yield node
    for each in node.names.values():
        yield from below(each)


def _copied(node: Node, memo: dict[int, Node], *, snapshot: bool = False) -> Node:
    made = memo.get(id(node))
    if made is None:
        made = memo[id(node)] = node.copy()
        for name, each in node.names.items():
            if snapshot and each.is_subvolume:
                made.names[name] = Node(stat.S_IFDIR, 0)
                made.names[name].is_placeholder = True
            else:
                made.names[name] = _copied(each, memo, snapshot=snapshot)
    return made


def inherited_flags(flags: int, kind: int) -> int:
    """Return the flags of what is new in a directory with these *flags*."""
    found = flags & NODATACOW
    if found and kind == stat.S_IFREG:
        found |= NODATASUM
    return found | (NOCOMPRESS if flags & NOCOMPRESS else flags & COMPRESS)


def flags_of(value: bytes) -> int:
    """Return the flags that go with a property of compression."""
    return 0 if not value else NOCOMPRESS if value in (b"no", b"none") else COMPRESS


def _equal(node: Node, other: Node) -> bool:
    """Return whether a file is another one already, so that it stays."""
    if (node.mode, node.size, node.content) != (other.mode, other.size, other.content):
        return False
    same_flags = not (node.flags ^ other.flags) & NODATASUM
    described = [(each.uid, each.gid, each.times, each.xattrs) for each in (node, other)]
    return node.kind == stat.S_IFREG and same_flags and described[0] == described[1]


def places_of(inode: Inode) -> dict[int, Place]:
    """Return where the blocks of a file lie that are neither holes nor inline, by number."""
    found: dict[int, Place] = {}
    for row in inode.extents():
        if row.extent is not None:
            for at in range(row.offset, row.end, BLOCK):
                found[at // BLOCK] = row.extent.logical, row.extent.offset + at - row.offset
    return found

"""A tree of plain inodes: read from an image, searched for paths, and compared with what an image has become."""

from __future__ import annotations

import hashlib
import stat
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Self

from support.model import LARGEST, Facts, ns

from btrimg.filesystem.walk import walk
from btrimg.ondisk.constants import InodeFlag

from .plainnodes import (
    BLOCK,
    COMPRESSED,
    COMPRESSION,
    INLINE,
    NAME_MAX,
    NO_SUMS,
    Found,
    Node,
    NotAllowedError,
    NotThereError,
    copied,
    flags_of,
    inherited_flags,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

    Place = tuple[int, int]  # of an extent: logical address and offset in it

_SHOWN = int(InodeFlag.SYNC | InodeFlag.NODUMP | InodeFlag.NOATIME | InodeFlag.DIRSYNC) | COMPRESSED | NO_SUMS
_MOST_LINKS = 40  # that are followed


@cache
def _digest(raw: bytes, size: int) -> str:
    return hashlib.sha256(memoryview(raw)[:size]).hexdigest()


class PlainTree:
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

    def copied(self) -> Self:
        """Return a copy, to go back to."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        memo: dict[int, Node] = {}
        other.top = copied(self.top, memo)
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
        if len(found.name) > NAME_MAX:
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
        if value and node.kind in (stat.S_IFREG, stat.S_IFDIR) and not node.flags & NO_SUMS:
            node.xattrs.setdefault(COMPRESSION, value)
            node.flags |= flags_of(node.xattrs[COMPRESSION])

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


def places_of(inode: Inode) -> dict[int, Place]:
    """Return where the blocks of a file lie that are neither holes nor inline, by number."""
    found: dict[int, Place] = {}
    for row in inode.extents():
        if row.extent is not None:
            for at in range(row.offset, row.end, BLOCK):
                found[at // BLOCK] = row.extent.logical, row.extent.offset + at - row.offset
    return found

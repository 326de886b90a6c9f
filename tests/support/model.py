"""What files a recipe makes, worked out in memory by another way than the builder's: no trees, extents or sharing."""

from __future__ import annotations

import copy
import hashlib
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.build import values
from btrimg.filesystem.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.build.recipe import Recipe
    from btrimg.build.values import Content
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.inodes import Timespec

    from .truth import Truth

MIB = 1 << 20
LARGEST = 64 * MIB  #: of a file whose content is compared, as in truth


class Facts(NamedTuple):
    """All that is compared of one name."""

    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: tuple[int, int]
    times: tuple[int, ...]  # atime, mtime, ctime, otime in ns
    xattrs: dict[bytes, bytes]
    held: Any  # content of a file, what a symlink says, sorted names of a directory


class Node:
    def __init__(self, mode: int, now: int) -> None:
        self.mode, self.uid, self.gid, self.nlink, self.rdev = mode, 0, 0, 1, (0, 0)
        self.times = {"atime": now, "mtime": now, "ctime": now, "otime": now}
        self.given: dict[str, int] = {}  # of a directory: times that stay when names come and go
        self.xattrs: dict[bytes, bytes] = {}
        self.data = bytearray()
        self.target = b""
        self.names: dict[bytes, Node] = {}
        self.is_subvolume = self.is_placeholder = self.is_read_only = False
        self.is_far = False  # larger than what is looked at


def ns(time: Timespec) -> int:
    return time.sec * 10**9 + time.nsec


class Model:
    """The files that the operations of *recipe* make."""

    def __init__(self, recipe: Recipe, now: int = 0) -> None:
        clock = recipe.filesystem.clock
        self.now = now if clock is None else ns(clock)
        self.top = Node(stat.S_IFDIR | 0o755, self.now)
        self.top.is_subvolume = True
        self.seed = recipe.filesystem.seed
        self.extents: dict[bytes, bytes] = {}
        for origin, operation in recipe.operations():
            self.label = origin.label
            getattr(self, f"do_{type(operation).__name__}")(operation)

    def content(self, content: Content, offset: int = 0) -> bytes:
        size = content.size or 0
        if content.kind == "bytes":
            return content.data
        if content.kind == "zeros":
            return bytes(size)
        if content.kind == "pattern":
            return (content.data * (size // len(content.data) + 1))[:size]
        if content.kind == "stamp":
            heads = (content.data + b" at %d\n" % at for at in range(offset, offset + size, 4096))
            blocks = (head + ((b"." * 63 + b"\n") * 64)[: 4095 - len(head)] + b"\n" for head in heads)
            return b"".join(blocks)[:size]
        assert content.kind == "random"
        seed = content.data if content.own_seed else self.seed + b"/" + self.label.encode() + content.data
        pieces = (hashlib.shake_128(b"btrimg random %b %d" % (seed, n)).digest(MIB) for n in range(-(-size // MIB)))
        return b"".join(pieces)[:size]

    def find(self, path: bytes) -> Node:
        node = self.top
        for name in filter(None, path.split(b"/")):
            node = node.names[name]
        return node

    def touch(self, node: Node, *fields: str) -> None:
        node.times.update({field: node.given.get(field, self.now) for field in fields or ("mtime", "ctime")})

    def hang(self, path: bytes, node: Node) -> Node:
        head, _, name = path.rpartition(b"/")
        parent = self.find(head)
        assert name not in parent.names
        parent.names[name] = node
        self.touch(parent)
        return node

    def make(self, path: bytes, mode: int, said: values.Attributes) -> Node:
        node = Node(mode, self.now)
        self.attributes(node, said)
        return self.hang(path, node)

    def attributes(self, node: Node, said: values.Attributes) -> None:
        if said.mode is not None:
            node.mode = stat.S_IFMT(node.mode) | said.mode
        node.uid = node.uid if said.uid is None else said.uid
        node.gid = node.gid if said.gid is None else said.gid
        for field in node.times:
            time = getattr(said, field)
            if time is not None:
                node.times[field] = ns(time)
                if stat.S_ISDIR(node.mode) and field in ("mtime", "ctime"):
                    node.given[field] = ns(time)
        node.xattrs |= {name: self.content(content) for name, content in said.xattrs}

    # Operations

    def do_MakeDirectory(self, do: values.MakeDirectory) -> None:
        parts = do.path.split(b"/")
        for count in range(2, len(parts)):
            head = b"/".join(parts[:count])
            try:
                self.find(head)
            except KeyError:
                self.make(head, stat.S_IFDIR | 0o755, values.Attributes())
        self.make(do.path, stat.S_IFDIR | 0o755, do.attributes)

    def do_MakeFile(self, do: values.MakeFile) -> None:
        data = bytearray()
        for part in do.parts:
            at = len(data) if part.offset is None else part.offset
            data = data.ljust(at, b"\0")
            if part.kind == "data":
                assert part.content
                data += self.content(part.content, at)
            elif part.kind in ("hole", "prealloc"):
                data += bytes(part.length or 0)
            else:
                source: bytes | bytearray = self.extents[part.source] if part.kind == "extent" else data
                if part.kind == "shared" and part.source:
                    source = self.find(part.source).data
                end = len(source) if part.length is None else part.source_offset + part.length
                data += source[part.source_offset : end]
        self.make(do.path, stat.S_IFREG | 0o644, do.attributes).data = data.ljust(do.size or 0, b"\0")

    def do_DefineExtent(self, do: values.DefineExtent) -> None:
        self.extents[do.name] = self.content(do.content) if do.content else bytes(do.length or 0)

    def do_MakeSymlink(self, do: values.MakeSymlink) -> None:
        self.make(do.path, stat.S_IFLNK | 0o777, do.attributes).target = do.to

    def do_MakeNode(self, do: values.MakeNode) -> None:
        self.make(do.path, do.kind | 0o644, do.attributes).rdev = do.device

    def do_MakeLink(self, do: values.MakeLink) -> None:
        node = self.hang(do.path, self.find(do.to))
        node.nlink += 1
        self.touch(node, "ctime")

    def do_MakeSubvolume(self, do: values.MakeSubvolume) -> None:
        self.make(do.path, stat.S_IFDIR | 0o755, do.attributes).is_subvolume = True

    def do_MakeSnapshot(self, do: values.MakeSnapshot) -> None:
        source = self.find(do.of)
        memo: dict[int, Any] = {}
        for node in self.below(source):
            if node.is_subvolume and node is not source:
                placeholder = memo[id(node)] = Node(stat.S_IFDIR, 0)
                placeholder.is_placeholder = True
        made = copy.deepcopy(source, memo)
        for node in self.below(made):
            node.given = {}
        self.hang(do.path, made)

    def do_Write(self, do: values.Write) -> None:
        node, data = self.find(do.path), self.content(do.content, do.offset)
        if data:
            node.data = node.data.ljust(do.offset, b"\0")
            node.data[do.offset : do.offset + len(data)] = data
            self.touch(node)

    def do_Punch(self, do: values.Punch) -> None:
        node = self.find(do.path)
        end = min(do.offset + do.length, len(node.data))
        if do.offset < end:
            node.data[do.offset : end] = bytes(end - do.offset)
        self.touch(node)

    def do_Preallocate(self, do: values.Preallocate) -> None:
        node = self.find(do.path)
        node.data = node.data if do.keep_size else node.data.ljust(do.offset + do.length, b"\0")
        self.touch(node)

    def do_Truncate(self, do: values.Truncate) -> None:
        node = self.find(do.path)
        node.data = node.data[: do.size].ljust(do.size, b"\0")
        self.touch(node)

    def do_Reflink(self, do: values.Reflink) -> None:
        try:
            node = self.find(do.path)
        except KeyError:
            node = self.make(do.path, stat.S_IFREG | 0o644, values.Attributes())
        source = self.find(do.source).data if do.source else node.data
        end = len(source) if do.length is None else do.source_offset + do.length
        data = bytes(source[do.source_offset : end])
        node.data = node.data.ljust(do.offset, b"\0")
        node.data[do.offset : do.offset + len(data)] = data
        self.touch(node)

    def do_Change(self, do: values.Change) -> None:
        node = self.find(do.path)
        if do.attributes == values.Attributes() and not do.remove_xattrs:
            return
        for name in do.remove_xattrs:
            del node.xattrs[name]
        node.times["ctime"] = self.now
        self.attributes(node, do.attributes)

    def do_Rename(self, do: values.Rename) -> None:
        head, _, name = do.path.rpartition(b"/")
        parent = self.find(head)
        node = self.hang(do.to, parent.names.pop(name))
        self.touch(parent)
        if not node.is_subvolume:
            self.touch(node, "ctime")

    def do_Delete(self, do: values.Delete) -> None:
        head, _, name = do.path.rpartition(b"/")
        parent = self.find(head)
        gone = parent.names.pop(name)
        for node in self.below(gone):
            node.nlink -= 1
            if node.nlink:
                self.touch(node, "ctime")
        self.touch(parent)

    def do_SetDefault(self, do: values.SetDefault) -> None:
        assert self.find(do.path).is_subvolume

    def do_SetClock(self, do: values.SetClock) -> None:
        self.now = ns(do.time)

    def do_Commit(self, do: values.Commit) -> None:
        pass

    # What came of it

    def below(self, node: Node) -> Iterator[Node]:
        yield node
        for each in node.names.values():
            yield from self.below(each)

    def facts(self) -> dict[bytes, Facts]:
        """Return what every path is, but for what a snapshot shows in place of a subvolume."""
        found: dict[bytes, Facts] = {}
        pending = [(b"/", self.top)]
        while pending:
            path, node = pending.pop()
            if node.is_placeholder:
                continue
            held: Any = None
            if stat.S_ISDIR(node.mode):
                held = sorted(node.names)
            elif stat.S_ISREG(node.mode):
                held = None if node.is_far else hashlib.sha256(node.data).hexdigest()
            elif stat.S_ISLNK(node.mode):
                held = node.target
            found[path] = Facts(
                *(node.mode, node.uid, node.gid, node.nlink, node.rdev), tuple(node.times.values()), node.xattrs, held
            )
            pending += [(path.rstrip(b"/") + b"/" + name, each) for name, each in node.names.items()]
        return found


def facts_of(truth: Truth) -> dict[bytes, Facts]:
    """Return the same of what the kernel said."""
    found: dict[bytes, Facts] = {}
    for path, entry in truth.entries.items():
        if not entry.is_placeholder:
            said = entry.stat
            names = None if entry.names is None else sorted(entry.names)
            held: Any = names if names is not None else entry.target if entry.target is not None else entry.sha256
            rdev = (said.rdev_major, said.rdev_minor) if stat.S_ISCHR(said.mode) or stat.S_ISBLK(said.mode) else (0, 0)
            times = (said.atime, said.mtime, said.ctime, said.btime)
            found[path] = Facts(said.mode, said.uid, said.gid, said.nlink, rdev, times, entry.xattrs, held)
    return found


def facts_of_image(image: Image) -> dict[bytes, Facts]:
    """Return the same of what btrimg reads."""
    top = image.open(b"/")
    found: dict[bytes, Facts] = {}
    for inode in (top, *walk(top)):
        if inode.is_placeholder:
            continue
        item = inode.item
        held: Any = None
        if inode.is_directory:
            held = sorted(entry.name for entry, _ in inode.entries())
        elif inode.is_regular:
            held = hashlib.sha256(inode.read(0, item.size)).hexdigest() if item.size <= LARGEST else None
        elif stat.S_ISLNK(item.mode):
            held = inode.target()
        times = tuple(ns(time) for time in (item.atime, item.mtime, item.ctime, item.otime))
        rdev = (item.rdev >> 20, item.rdev & 0xFFFFF)
        found[b"/" + inode.path.strip(b"/")] = Facts(
            *(item.mode, item.uid, item.gid, item.nlink, rdev), times, inode.xattrs(), held
        )
    return found

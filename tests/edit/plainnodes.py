"""Inodes in plain Python, and what of one goes to another: by a copy, or to what is new in a directory."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096
NAME_MAX = 255  # bytes
INLINE = -1  #: in place of a block's number: it lies in the metadata, where nobody shares it
COMPRESSION, CAPABILITIES = b"btrfs.compression", b"security.capability"
COMPRESSED = int(InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS)
NODATASUM, NODATACOW, PREALLOC = map(int, (InodeFlag.NODATASUM, InodeFlag.NODATACOW, InodeFlag.PREALLOC))
COMPRESS, NOCOMPRESS = int(InodeFlag.COMPRESS), int(InodeFlag.NOCOMPRESS)
NO_SUMS = NODATASUM | NODATACOW


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


def below(node: Node) -> Iterator[Node]:
    """Yield *node* and all that is below it, once for each name."""
    yield node
    for each in node.names.values():
        yield from below(each)


def copied(node: Node, memo: dict[int, Node], *, snapshot: bool = False) -> Node:
    made = memo.get(id(node))
    if made is None:
        made = memo[id(node)] = node.copy()
        for name, each in node.names.items():
            if snapshot and each.is_subvolume:
                made.names[name] = Node(stat.S_IFDIR, 0)
                made.names[name].is_placeholder = True
            else:
                made.names[name] = copied(each, memo, snapshot=snapshot)
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


def is_equal(node: Node, other: Node) -> bool:
    """Return whether a file is another one already, so that it stays."""
    if (node.mode, node.size, node.content) != (other.mode, other.size, other.content):
        return False
    same_flags = not (node.flags ^ other.flags) & NODATASUM
    described = [(each.uid, each.gid, each.times, each.xattrs) for each in (node, other)]
    return node.kind == stat.S_IFREG and same_flags and described[0] == described[1]

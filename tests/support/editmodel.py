"""Files of an image that is there, and what edits make of them, in memory: with shared blocks, but without trees."""

from __future__ import annotations

import stat
from itertools import count
from typing import TYPE_CHECKING

from btrimg.filesystem.walk import walk

from .model import LARGEST, Model, Node, ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.build import values
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

    Place = tuple[int, int]  # of an extent: logical address and offset in it

BLOCK = 4096
UNKNOWN = -1  #: of a block that may be the old one or a new one
_BELOW = BLOCK  # files that may be inline are shorter


class EditModel(Model):
    """Files of *image*; blocks of files have numbers that are equal where they are shared, None for holes."""

    def __init__(self, image: Image, now: int) -> None:
        self.now, self.seed, self.label, self.extents = now, b"", "", {}
        self._next = count(1)
        numbers: dict[Place, int] = {}
        known: dict[tuple[int, int], Node] = {}
        top = image.open(b"/")
        for inode in (top, *walk(top)):
            path = b"/" + inode.path.strip(b"/")
            node = known.get((inode.subvolume.id, inode.ino)) if not inode.is_directory else None
            if node is None:
                node = known[inode.subvolume.id, inode.ino] = self._node(inode, numbers)
            if path == b"/":
                self.top = node
            else:
                head, _, name = path.rpartition(b"/")
                self.find(head).names[name] = node

    def _node(self, inode: Inode, numbers: dict[Place, int]) -> Node:
        item = inode.item
        node = Node(item.mode, 0)
        node.is_placeholder = inode.is_placeholder
        node.uid, node.gid, node.nlink = item.uid, item.gid, item.nlink
        node.rdev = (item.rdev >> 20, item.rdev & 0xFFFFF)
        node.times = {name: ns(getattr(item, name)) for name in ("atime", "mtime", "ctime", "otime")}
        if node.is_placeholder:
            return node
        node.xattrs = inode.xattrs()
        node.is_subvolume = inode.is_directory and inode.ino == 256
        node.is_read_only = node.is_subvolume and inode.subvolume.read_only
        node.is_far = item.size > LARGEST
        if inode.is_regular and not node.is_far:
            node.data = bytearray(inode.read(0, item.size))
            places = places_of(inode)
            blocks = self._blocks(node)
            for at in range(len(blocks)):
                place = places.get(at)
                blocks[at] = None if place is None else numbers.setdefault(place, next(self._next))
        elif stat.S_ISLNK(item.mode):
            node.target = inode.target()
        return node

    def _blocks(self, node: Node) -> list[int | None]:
        """Return the blocks of a file, as many as its size makes; copies of a node have copies of them."""
        blocks: list[int | None] = vars(node).setdefault("blocks", [])
        wanted = -(-len(node.data) // BLOCK)
        del blocks[wanted:]
        blocks += [None] * (wanted - len(blocks))
        return blocks

    def _renew(self, node: Node, start: int, end: int) -> None:
        """Give new numbers to the blocks that [start, end) of a file touches."""
        blocks = self._blocks(node)
        for at in range(start // BLOCK, min(-(-end // BLOCK), len(blocks))):
            blocks[at] = next(self._next)

    def do_MakeFile(self, do: values.MakeFile) -> None:
        super().do_MakeFile(do)
        node = self.find(do.path)
        self._renew(node, 0, len(node.data))

    def do_Write(self, do: values.Write) -> None:
        node = self.find(do.path)
        was_inline = len(node.data) < _BELOW
        super().do_Write(do)
        if do.content.data:
            self._renew(node, do.offset, do.offset + len(do.content.data))
            if was_inline:
                self._blocks(node)[0] = UNKNOWN

    def do_Truncate(self, do: values.Truncate) -> None:
        node = self.find(do.path)
        old = len(node.data)
        if old == do.size:
            return  # fs/btrfs/inode.c btrfs_setsize: nor do times change
        super().do_Truncate(do)
        blocks = self._blocks(node)
        for size in (old, do.size):
            if size % BLOCK and size // BLOCK < len(blocks) and blocks[size // BLOCK] is not None:
                blocks[size // BLOCK] = UNKNOWN
        if old < _BELOW and blocks:
            blocks[0] = UNKNOWN

    def do_Punch(self, do: values.Punch) -> None:
        node = self.find(do.path)
        end = min(do.offset + do.length, len(node.data))
        super().do_Punch(do)
        blocks = self._blocks(node)
        for at in range(do.offset // BLOCK, min(-(-end // BLOCK), len(blocks))):
            whole = at * BLOCK >= do.offset and (at + 1) * BLOCK <= end
            blocks[at] = None if whole or blocks[at] is None else UNKNOWN

    def do_Reflink(self, do: values.Reflink) -> None:
        source = self.find(do.source)
        blocks = list(self._blocks(source))
        size = len(source.data)
        super().do_Reflink(do)
        node = self.find(do.path)
        theirs = self._blocks(node)
        end = size if do.length is None else do.source_offset + do.length
        for at in range(do.source_offset // BLOCK, -(-end // BLOCK)):
            theirs[do.offset // BLOCK + at - do.source_offset // BLOCK] = blocks[at] if size >= _BELOW else UNKNOWN
        if len(node.data) >= _BELOW and theirs and do.offset:
            theirs[0] = UNKNOWN  # it may have been inline

    def do_MakeSnapshot(self, do: values.MakeSnapshot) -> None:
        super().do_MakeSnapshot(do)
        self.find(do.path).is_read_only = do.readonly

    def holds(self, path: bytes, start: int, end: int) -> bool:
        """Return whether [start, end) of a file is not all a hole."""
        node = self.find(path)
        some = any(number is not None for number in self._blocks(node)[start // BLOCK : -(-end // BLOCK)])
        return start < len(node.data) and (some or len(node.data) < _BELOW)

    # What may be chosen

    def chosen(self, kind: int) -> list[bytes]:
        """Return the paths of nodes of one kind (S_IFREG …) that can be changed, in order."""
        found = []
        waiting = [(b"", self.top)]
        while waiting:
            path, node = waiting.pop()
            if node.is_placeholder or node.is_read_only:
                continue
            plain = b"btrfs.compression" not in node.xattrs and not node.mode & stat.S_ISGID
            if stat.S_IFMT(node.mode) == kind and (plain or kind != stat.S_IFDIR) and not node.is_far:
                found.append(path or b"/")
            waiting += [(path + b"/" + name, each) for name, each in node.names.items()]
        return sorted(found)

    def subvolumes(self) -> list[bytes]:
        """Return the paths of all subvolumes but the top one, in order."""
        found = []
        waiting = [(b"", self.top)]
        while waiting:
            path, node = waiting.pop()
            if node.is_subvolume and path:
                found.append(path)
            waiting += [(path + b"/" + name, each) for name, each in node.names.items()]
        return sorted(found)

    def sharing_faults(self, image: Image) -> Iterator[str]:
        """Yield where blocks share their place though they should not, or do not though they should."""
        places: dict[int, tuple[Place, str]] = {}
        numbers: dict[Place, tuple[int, str]] = {}
        waiting = [(b"", self.top)]
        while waiting:
            path, node = waiting.pop()
            waiting += [(path + b"/" + name, each) for name, each in node.names.items()]
            if not stat.S_ISREG(node.mode) or node.is_far:
                continue
            found = places_of(image.open(path, follow=False))
            for at, number in enumerate(self._blocks(node)):
                place, where = found.get(at), f"{path!r} block {at}"
                if number == UNKNOWN or place is None:
                    continue
                if number is None:
                    yield f"{where} is to be a hole"
                    continue
                other, first = places.setdefault(number, (place, where))
                if other != place:
                    yield f"{where} is to be shared with {first}"
                same, first = numbers.setdefault(place, (number, where))
                if same != number:
                    yield f"{where} is not to be shared with {first}"


def places_of(inode: Inode) -> dict[int, Place]:
    """Return where the blocks of a file lie that are neither holes nor inline, by number."""
    found: dict[int, Place] = {}
    for row in inode.extents():
        if row.extent is not None:
            for at in range(row.offset, row.end, BLOCK):
                found[at // BLOCK] = row.extent.logical, row.extent.offset + at - row.offset
    return found

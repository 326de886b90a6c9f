"""What edits of contents make of plain files: bytes, and blocks with the numbers of what is shared."""

from __future__ import annotations

import stat

from .plainnodes import (
    BLOCK,
    COMPRESS,
    COMPRESSION,
    INLINE,
    NO_SUMS,
    NODATASUM,
    PREALLOC,
    Node,
    NotAllowedError,
    blocks_of,
    padded,
)
from .plaintree import PlainTree

_MOST_INLINE = 2048


class PlainContents(PlainTree):
    """A tree whose files change their contents, by edits that name them."""

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
        elif size <= BLOCK and len(node.blocks) == 1 and node.blocks[0] in self._loose:
            node.blocks[0] = self._fresh(loose=True, kin=node.blocks[0])  # stays inline, where it is
            node.raw = padded(node.content)
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
            node = self._new(found.parent, stat.S_IFREG | 0o644, flags=origin.flags & NO_SUMS)
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

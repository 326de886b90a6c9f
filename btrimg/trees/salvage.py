"""Tree blocks as far as they can be read: for whoever would rather see a broken block than none.

Nothing here is verified but where it says so; what it yields is to be shown, not to be followed as truth.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress

from btrimg.errors import BlockError, BtrimgError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Header, Item, Key, KeyPtr
from btrimg.trees.block import Block, Pointer
from btrimg.trees.tree import after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.trees.block import BlockReader

    Found = tuple[Pointer, Block | BlockError]


class BadBlock(Block):
    """A block that is not what its parent promised, with as many slots as there is room for."""

    __slots__ = ("fault",)

    def __init__(self, data: bytes, fault: str) -> None:
        header = Header.unpack(data)
        room = (len(data) - Header.SIZE) // (KeyPtr.SIZE if header.level else Item.SIZE)
        super().__init__(header.replace(nritems=min(header.nritems, room)), data)
        self.header = header  #: as it stands on disk
        self.fault = fault


def fault_of(found: Block | BlockError) -> str | None:
    """Return what is wrong with what was found where a block should be, None when it is as promised."""
    if isinstance(found, BlockError):
        return str(found)
    return found.fault if isinstance(found, BadBlock) else None


def read_anyway(blocks: BlockReader, promise: Pointer) -> Block:
    """Return the block at ``promise.logical``; a BadBlock, of the copy that looks best, when no copy keeps the promise.

    Raises BlockError when no copy can be read at all.
    """
    try:
        return blocks.read(promise)
    except BlockError as error:
        copies = _copies(blocks, promise.logical)
        if not copies:
            raise
        best = next((data for data in copies if Header.unpack(data).bytenr == promise.logical), copies[0])
        return BadBlock(best, str(error))


def claim_of(blocks: BlockReader, logical: int) -> Pointer:
    """Return a promise that the block at *logical* keeps if it is intact, whatever tree it belongs to."""
    for data in _copies(blocks, logical):
        header = Header.unpack(data)
        if header.bytenr == logical:
            return Pointer(logical, header.level)
    return Pointer(logical, 0)


def _copies(blocks: BlockReader, logical: int) -> list[bytes]:
    copies: list[bytes] = []
    with suppress(BtrimgError):  # what could be read until then is all there is
        for data in blocks.volume.candidates(logical, blocks.volume.nodesize):
            copies.append(data)  # noqa: PERF402 (list() would lose those before an error)
    return copies


def slots_between(block: Block, first: Key, last: Key) -> Sequence[int]:
    """Return the slots whose item has first <= key <= last, or whose pointer leads to such items.

    The keys of a BadBlock may be in no order: all its pointers may lead there.
    """
    if isinstance(block, BadBlock):
        slots = range(len(block))
        return slots if block.header.level else [slot for slot in slots if first <= block.key(slot) <= last]
    stop = bisect_left(block.slots, after(last))
    if block.header.level:  # *first* may lie below the child whose own first key is smaller
        return range(max(bisect_left(block.slots, after(first)) - 1, 0), stop)
    return range(bisect_left(block.slots, first), stop)


def walk(
    blocks: BlockReader, root: Pointer, first: Key = KEY_MIN, last: Key = KEY_MAX, *, depth_first: bool = False
) -> Iterator[Found]:
    """Yield the blocks from *root* down that lead to items with first <= key <= last, level by level or depth first.

    A block that cannot be read at all comes as its error. Below a BadBlock every block comes once, so the walk ends.
    """
    walker = _Walk(blocks, first, last)
    return walker.down(root, False) if depth_first else walker.levels(root)


class _Walk:
    """The state of one walk: what was met below bad blocks."""

    def __init__(self, blocks: BlockReader, first: Key, last: Key) -> None:
        self.blocks, self.first, self.last = blocks, first, last
        self.met: set[int] = set()

    def visit(self, at: Pointer, below_bad: bool) -> tuple[Block | BlockError, list[Pointer], bool] | None:
        """Return what is at *at*, its children, and whether they are below a bad block; None for one met before."""
        if below_bad and at.logical in self.met:
            return None
        try:
            block = read_anyway(self.blocks, at)
        except BlockError as error:
            return error, [], True
        below_bad = below_bad or isinstance(block, BadBlock)
        if below_bad:
            self.met.add(at.logical)
        return block, list(self._children(block, at)), below_bad

    def _children(self, block: Block, at: Pointer) -> Iterator[Pointer]:
        if block.header.level == at.level and at.level:
            for slot in slots_between(block, self.first, self.last):
                yield block.child(slot, at)

    def levels(self, root: Pointer) -> Iterator[Found]:
        level = [(root, False)]
        while level:
            below: list[tuple[Pointer, bool]] = []
            for at, below_bad in level:
                found = self.visit(at, below_bad)
                if found:
                    yield at, found[0]
                    below += [(child, found[2]) for child in found[1]]
            level = below

    def down(self, at: Pointer, below_bad: bool) -> Iterator[Found]:
        found = self.visit(at, below_bad)
        if found:
            yield at, found[0]
            for child in found[1]:
                yield from self.down(child, found[2])

"""Tree blocks found by looking everywhere: for when what should lead to a root is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError, CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import STRIPE_LEN, BlockGroup, TreeId
from btrimg.trees.block import Block, Pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.trees.batches import Report
    from btrimg.trees.block import BlockReader
    from btrimg.volume.chunkmap import MappedChunk


class Found(NamedTuple):
    """A sound tree block."""

    logical: int
    level: int
    generation: int  #: transid that wrote it
    items: int  #: or pointers of a node


def hunt(blocks: BlockReader, tree_id: int, bad: Report) -> Iterator[Found]:
    """Yield every sound block, of any age, that tree *tree_id* owns, in logical order; of copies that differ, each.

    Looks at every place of all metadata chunks, for the chunk tree of all system chunks, as btrfs-find-root does. A
    block may have been freed, and its content be of any transaction. Pieces that cannot be read are told to *bad*.
    """
    kind = BlockGroup.SYSTEM if tree_id == TreeId.CHUNK_TREE else BlockGroup.METADATA
    owner = tree_id.to_bytes(8, "little")
    for logical, length in _pieces(chunk for chunk in blocks.volume.chunk_map if chunk.type & kind):
        found: dict[Found, None] = {}
        try:
            for data in blocks.volume.candidates(logical, length):
                found |= dict.fromkeys(_sound(blocks, owner, logical, data))
        except BtrimgError as error:
            bad(CorruptError(str(error)))
        yield from sorted(found)


def _pieces(chunks: Iterable[MappedChunk]) -> Iterator[tuple[int, int]]:
    """Yield (logical, bytes) of pieces that lie on one device each, so that a missing one takes only its own."""
    for chunk in chunks:
        for logical in range(chunk.logical, chunk.end, STRIPE_LEN):
            yield logical, min(STRIPE_LEN, chunk.end - logical)


def _sound(blocks: BlockReader, owner: bytes, logical: int, data: bytes) -> Iterator[Found]:
    nodesize = blocks.volume.nodesize
    for at in range(0, len(data) - nodesize + 1, nodesize):
        address = logical + at
        if data[at + 48 : at + 56] != address.to_bytes(8, "little") or data[at + 88 : at + 96] != owner:
            continue
        content = data[at : at + nodesize]
        block = blocks.accept(content, Pointer(address, Header.unpack(content).level))
        if isinstance(block, Block):
            yield Found(address, block.header.level, block.header.generation, len(block))


def candidates(found: Iterable[Found]) -> list[Found]:
    """Return those of *found* that may be roots, the best first: of each generation those of the highest level.

    A transaction writes the root of each tree that it changes, above all else of the tree that it writes. Several are
    left of a generation where the root was overwritten since, or had been written twice.
    """
    highest: dict[int, list[Found]] = {}
    for each in found:
        known = highest.get(each.generation)
        if known is None or each.level > known[0].level:
            highest[each.generation] = [each]
        elif each.level == known[0].level:
            known.append(each)
    return [each for _, blocks in sorted(highest.items(), reverse=True) for each in sorted(blocks, reverse=True)]

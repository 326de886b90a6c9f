"""What a transaction has made of the trees, before it counts: new blocks, those they replace, and items in them."""

from __future__ import annotations

from functools import partial
from operator import itemgetter

from btrimg.errors import NotFoundError
from btrimg.filesystem.image import chunk_tree_pointer, root_item, root_pointer, root_tree_pointer
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item, Key
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.block import BlockReader, Pointer, is_subvolume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.superblock import Superblock
    from btrimg.trees.block import Block


_OFFSET, _SIZE = itemgetter(3), itemgetter(4)  # of a slot
_KEY = itemgetter(1)  # of a change


class ItemChange(NamedTuple):
    """An item of a tree; None is for what is not there."""

    tree: int
    key: Key
    before: bytes | None
    after: bytes | None


_new_change: Callable[[tuple[Any, ...]], ItemChange] = partial(tuple.__new__, ItemChange)
_new_key: Callable[[tuple[int, ...]], Key] = partial(tuple.__new__, Key)


class TreeChange:
    """One tree: the blocks that are new, those that it has no more, and the items that differ."""

    def __init__(self, tree_id: int, new: list[Block], old: list[Block]) -> None:
        self.tree_id, self.new, self.old = tree_id, new, old

    def items(self) -> list[ItemChange]:
        """Return the items that were put, changed or deleted, in order; raise CorruptError for one outside its leaf."""
        before, after = _items_of(self.old), _items_of(self.new)
        is_, tree_id = after.get, self.tree_id
        changed = [
            _new_change((tree_id, _new_key(key), payload, is_(key)))
            for key, payload in before.items()
            if is_(key) != payload
        ]
        changed += [
            _new_change((tree_id, _new_key(key), None, payload)) for key, payload in after.items() if key not in before
        ]
        changed.sort(key=_KEY)  # soon done: both are in order
        return changed


def _items_of(blocks: list[Block]) -> dict[tuple[int, ...], bytes]:
    """Return the payloads of all leaves among *blocks*, by plain tuples: most are compared with equal ones only."""
    items: dict[tuple[int, ...], bytes] = {}
    for block in sorted(blocks, key=_first_key):
        if not block.header.level:
            data = block.data[Header.SIZE :]
            payloads = {slot[:3]: data[slot[3] : slot[3] + slot[4]] for slot in block.slots}
            least = min(map(_OFFSET, block.slots), default=len(data))
            if least < len(block) * Item.SIZE or sum(map(len, payloads.values())) != sum(map(_SIZE, block.slots)):
                for number in range(len(block)):
                    block.payload(number)  # which says what is wrong
            items |= payloads
    return items


def _first_key(block: Block) -> tuple[int, ...]:
    return block.slots[0][:3] if block.slots else ()


class TooManyError(Exception):
    """Say that more blocks are new than should be in memory."""


class Changes:
    """All trees that a commit changes; *superblock* is the one that it is about to write.

    Every new block is read from the devices, and verified against what its parent promises; of the old ones those that
    it replaces, but for the trees *rebuilt*. Raises BlockError when one cannot be, TooManyError when more than *most*
    are new, or replaced.
    """

    def __init__(
        self, image: Image, superblock: Superblock, rebuilt: Collection[int] = (), most: int = 1 << 62
    ) -> None:
        self.image, self.superblock, self._rebuilt, self._left = image, superblock, rebuilt, most
        self.generation: int = superblock.generation
        volume = image.volume
        self.blocks = BlockReader(volume, volume.fsids)
        self.new: dict[int, Block] = {}  #: by logical address
        chunk_root = Pointer(
            superblock.chunk_root, superblock.chunk_root_level, superblock.chunk_root_generation, TreeId.CHUNK_TREE
        )
        root = Pointer(superblock.root, superblock.root_level, superblock.generation, TreeId.ROOT_TREE)
        self.roots: dict[int, Pointer] = {TreeId.CHUNK_TREE: chunk_root, TreeId.ROOT_TREE: root}
        self.trees = [
            self._change(TreeId.CHUNK_TREE, chunk_root, chunk_tree_pointer(volume)),
            self._change(TreeId.ROOT_TREE, root, root_tree_pointer(volume)),
        ]
        self.root_items = self.trees[1].items()
        for item in self.root_items:
            if item.key.type == ItemType.ROOT_ITEM and item.after is not None:
                self._add_tree(item)
            elif item.key.type == ItemType.ROOT_ITEM and not is_subvolume(item.key.objectid):
                self._add_deleted(item)  # of subvolumes, others may have what they had

    def _add_tree(self, item: ItemChange) -> None:
        tree_id, after = item.key.objectid, item.after or b""
        now = root_pointer(tree_id, root_item(after))
        self.roots[tree_id] = now
        if now.generation == self.generation:
            before = root_pointer(tree_id, root_item(item.before)) if item.before else self._before(tree_id)
            self.trees.append(self._change(tree_id, now, before))

    def _add_deleted(self, item: ItemChange) -> None:
        tree_id = item.key.objectid
        if tree_id not in self._rebuilt and item.before is not None:
            old = self._old_blocks(root_pointer(tree_id, root_item(item.before)), set())
            self.trees.append(TreeChange(tree_id, [], old))

    def _before(self, tree_id: int) -> Pointer | None:
        """Return where a tree was whose root item had another key."""
        try:
            return self.image.tree(tree_id).root
        except NotFoundError:
            return None

    def _change(self, tree_id: int, now: Pointer, before: Pointer | None) -> TreeChange:
        new, kept = [], set[int]()
        waiting = [now]
        while waiting:
            pointer = waiting.pop()
            if pointer.generation != self.generation or pointer.logical in self.new:
                kept.add(pointer.logical)
                continue
            block = self._count(self.blocks.read(pointer))
            self.new[pointer.logical] = block
            new.append(block)
            if block.header.level:
                fresh = [slot for slot, each in enumerate(block.slots) if each[4] == self.generation]
                kept.update(each[3] for each in block.slots if each[4] != self.generation)
                waiting += [block.child(slot, pointer) for slot in fresh]
        old = [] if before is None or tree_id in self._rebuilt else self._old_blocks(before, kept)
        return TreeChange(tree_id, new, old)

    def _old_blocks(self, root: Pointer, kept: set[int]) -> list[Block]:
        """Return the blocks of a tree as it was, but for those that are *kept* and all below them."""
        old = []
        waiting = [root] if root.logical else []
        while waiting:
            pointer = waiting.pop()
            if pointer.logical not in kept:
                block = self._count(self.image.blocks.read(pointer))
                old.append(block)
                if block.header.level:
                    gone = [slot for slot, each in enumerate(block.slots) if each[3] not in kept]
                    waiting += [block.child(slot, pointer) for slot in gone]
        return old

    def _count(self, block: Block) -> Block:
        self._left -= 1
        if self._left < 0:
            raise TooManyError
        return block

    def items(self) -> Iterator[ItemChange]:
        """Yield the items that differ, tree by tree."""
        for tree in self.trees:
            yield from self.root_items if tree.tree_id == TreeId.ROOT_TREE else tree.items()

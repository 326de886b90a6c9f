"""Delayed references: what a transaction changes in who uses which extent, added up until the commit.

Nobody counts references by hand. Those of data follow from the EXTENT_DATA items that a merge puts and removes; those
of tree blocks from the blocks that it replaces, by the rules of fs/btrfs/ctree.c ``update_ref_for_cow``: as long as a
block belongs to the tree that owns it, its children are used by that tree (by its id); once the owner leaves a block
that others still share, they are used by the block itself (by its address), and it is marked FULL_BACKREF.
"""

from __future__ import annotations

from struct import Struct

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, ExtentFlag, FileExtentType, ItemType
from btrimg.ondisk.extents import ExtentItem, FileExtent
from btrimg.trees.block import is_subvolume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.trees.block import Block, BlockReader, Pointer
    from btrimg.trees.overlay import OverlayTree
    from btrimg.write.merge import ExtentChange, Replaced

_EXTENT_DATA_REF = int(ItemType.EXTENT_DATA_REF)  # a number takes less time to compare and to hash
_INLINE = int(FileExtentType.INLINE)
_FILE_EXTENT = Struct("<20xBQQQ8x")  # type, disk_bytenr, disk_num_bytes, offset


class Use(NamedTuple):
    """Who uses an extent; what a backref says but for its count."""

    type: int  #: ItemType: TREE_BLOCK_REF, SHARED_BLOCK_REF, EXTENT_DATA_REF or SHARED_DATA_REF
    user: int  #: id of a tree; logical address of a block for the two shared ones
    ino: int = 0
    start: int = 0  #: file offset minus extent offset, modulo 2**64


class Delta:
    """What a transaction changes of one extent."""

    __slots__ = ("counts", "first_key", "full", "length", "level", "new")

    def __init__(self, length: int, level: int | None, *, new: bool, first_key: Key | None = None) -> None:
        self.length, self.level, self.new = length, level, new  #: *level* is None for data
        self.first_key = first_key  #: of a new tree block
        self.full = False  #: it becomes FULL_BACKREF
        self.counts: dict[Use, int] = {}  #: by how much each use grows

    def use(self, use: Use, by: int) -> None:
        """Let *use* grow by a number that may be negative."""
        self.counts[use] = self.counts.get(use, 0) + by

    @property
    def total(self) -> int:
        """Return by how much all uses together grow."""
        return sum(self.counts.values())


class References:
    """What the transaction under way changes, by logical address of the extent."""

    def __init__(self, extent_tree: OverlayTree, nodesize: int) -> None:
        self._extents, self._nodesize = extent_tree, nodesize
        self.data: dict[int, Delta] = {}
        self.blocks: dict[int, Delta] = {}

    def new_block(self, logical: int, level: int, first_key: Key | None, tree_id: int) -> None:
        """Take note of a tree block that *tree_id* has allocated; *first_key* is None for an empty leaf."""
        delta = self.blocks[logical] = Delta(self._nodesize, level, new=True, first_key=first_key)
        delta.counts[Use(ItemType.TREE_BLOCK_REF, tree_id)] = 1

    def new_data_extent(self, logical: int, length: int) -> None:
        """Take note of a data extent that was allocated; its uses follow from the items that are put for it."""
        self.data[logical] = Delta(length, None, new=True)

    def use_block(self, logical: int, level: int, use: Use, by: int) -> None:
        """Let the use of a tree block grow by a number that may be negative."""
        delta = self.blocks.get(logical)
        if delta is None:
            delta = self.blocks[logical] = Delta(self._nodesize, level, new=False)
        delta.use(use, by)

    def use_data(self, logical: int, length: int, use: Use, by: int) -> None:
        """Let the use of a data extent grow by a number that may be negative."""
        delta = self.data.get(logical)
        if delta is None:
            delta = self.data[logical] = Delta(length, None, new=False)
        delta.use(use, by)

    def state(self, logical: int, level: int) -> tuple[int, bool]:
        """Return how often a tree block is used by now, and whether it is FULL_BACKREF.

        Raises CorruptError when the extent tree does not know it.
        """
        delta = self.blocks.get(logical)
        if delta and delta.new:
            return delta.total, delta.full
        found = self._extents.floor(Key(logical, ItemType.METADATA_ITEM, U64_MAX))
        if found is None or found[0].objectid != logical:
            raise CorruptError(f"tree block {logical} of level {level} has no extent item; see what btrimg check says")
        item = ExtentItem.unpack(found[1])
        full = bool(item.flags & ExtentFlag.FULL_BACKREF)
        return (item.refs + delta.total, full or delta.full) if delta else (item.refs, full)

    def use_children(self, block: Block, user: int, by: int, *, shared: bool) -> None:
        """Let *user* use all that a block of a subvolume points to: a tree (by id) or a *shared* block (by address)."""
        if block.header.level:
            use = Use(ItemType.SHARED_BLOCK_REF if shared else ItemType.TREE_BLOCK_REF, user)
            for slot in block.slots:
                self.use_block(slot[3], block.header.level - 1, use, by)
            return
        for number, (ino, key_type, at, *_) in enumerate(block.slots):
            used = _used(block.payload(number)) if key_type == ItemType.EXTENT_DATA else None
            if used:
                logical, length, offset = used
                use = (
                    Use(ItemType.SHARED_DATA_REF, user)
                    if shared
                    else Use(ItemType.EXTENT_DATA_REF, user, ino, (at - offset) & U64_MAX)
                )
                self.use_data(logical, length, use, by)

    def replace(self, tree_id: int, replaced: Iterable[Replaced], last_snapshot: int) -> None:
        """Account for blocks of *tree_id* in whose place new ones stand; parents before their children.

        *last_snapshot* is the transid of the tree's last snapshot: younger blocks belong to it alone.
        """
        own = Use(ItemType.TREE_BLOCK_REF, tree_id)
        for pointer, block, root in replaced:
            header = block.header
            if is_subvolume(tree_id) and not root and header.generation <= last_snapshot:
                count, full = self.state(pointer.logical, header.level)
                if count > 1 and header.owner == tree_id and not full:
                    self.use_children(block, pointer.logical, 1, shared=True)
                    self._disinherit(pointer.logical, header.level)
                elif count > 1:
                    self.use_children(block, tree_id, 1, shared=False)
                elif full:
                    self.use_children(block, tree_id, 1, shared=False)
                    self.use_children(block, pointer.logical, -1, shared=True)
            self.use_block(pointer.logical, header.level, own, -1)

    def _disinherit(self, logical: int, level: int) -> None:
        """Mark a tree block FULL_BACKREF: its children are used by it, and by no tree."""
        self.use_block(logical, level, Use(ItemType.TREE_BLOCK_REF, 0), 0)
        self.blocks[logical].full = True

    def change_extents(self, tree_id: int, changes: Iterable[ExtentChange]) -> None:
        """Account for EXTENT_DATA items of the subvolume *tree_id* that were put, replaced or removed."""
        data = self.data
        for (ino, _, at), old, new in changes:
            for payload, by in ((old, -1), (new, 1)):
                used = _used(payload) if payload else None
                if used:
                    logical, length, offset = used
                    use = Use(_EXTENT_DATA_REF, tree_id, ino, (at - offset) & U64_MAX)
                    delta = data.get(logical)
                    if delta is None:
                        delta = data[logical] = Delta(length, None, new=False)
                    delta.counts[use] = delta.counts.get(use, 0) + by

    def drop_tree(self, blocks: BlockReader, root: Pointer, born: int) -> None:
        """Account for the end of a subvolume (fs/btrfs/extent-tree.c ``btrfs_drop_snapshot``).

        What only it uses is used no more; of what others share only its own use ends. *born* is the transid that made
        the subvolume: it owns no older block. Raises BlockError when a block cannot be read.
        """
        tree_id = root.owner or 0
        own = Use(ItemType.TREE_BLOCK_REF, tree_id)
        pending = [(root, own)]
        while pending:
            pointer, use = pending.pop()
            count, full = self.state(pointer.logical, pointer.level)
            self.use_block(pointer.logical, pointer.level, use, -1)
            if count > 1:
                self._disown(blocks, pointer, tree_id, born)
                continue
            block = blocks.read(pointer)
            if block.header.level == 0:
                self.use_children(block, pointer.logical if full else tree_id, -1, shared=full)
                continue
            below = Use(ItemType.SHARED_BLOCK_REF, pointer.logical) if full else own
            pending += [(child, below) for child in block.children(range(len(block)), pointer)]

    def _disown(self, blocks: BlockReader, pointer: Pointer, tree_id: int, born: int) -> None:
        """Let the blocks from *pointer* down that *tree_id* owns and others share use their children themselves."""
        pending = [pointer]
        while pending:
            at = pending.pop()
            if (at.generation or 0) < born or self.state(at.logical, at.level)[1]:
                continue
            block = blocks.read(at)
            if block.header.owner != tree_id:
                continue
            self.use_children(block, at.logical, 1, shared=True)
            self.use_children(block, tree_id, -1, shared=False)
            self._disinherit(at.logical, at.level)
            pending += block.children(range(len(block)), at) if at.level else ()


def _used(payload: bytes) -> tuple[int, int, int] | None:
    """Return (logical, length, offset) of the data extent that a file extent item uses, None for inline and holes."""
    if len(payload) < FileExtent.SIZE:
        return None
    kind, logical, length, offset = _FILE_EXTENT.unpack_from(payload)
    return (logical, length, offset) if kind != _INLINE and logical else None

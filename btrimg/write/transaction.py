"""A transaction: changes to the trees and data of a filesystem that become one new state of it, or none.

Items are put into and deleted from overlays of the trees; data goes to free space. A commit merges all that into new
blocks, keeps the accounts of extents, free space and checksums, and writes the superblocks last, so that an image cut
off anywhere in between still holds the old state whole.
"""

from __future__ import annotations

from btrimg.errors import NotFoundError
from btrimg.filesystem.image import chunk_tree_pointer, root_item, root_pointer, root_tree_pointer
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, BlockGroup, Incompat, ItemType, TreeId
from btrimg.trees.block import BlockReader, Pointer, is_subvolume
from btrimg.trees.overlay import EmptyTree, OverlayTree
from btrimg.trees.tree import Tree
from btrimg.write.csums import PendingCsums
from btrimg.write.extenttree import Layout
from btrimg.write.merge import plan_merge
from btrimg.write.pack import Stamp
from btrimg.write.refs import References
from btrimg.write.space import Space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from btrimg.ondisk.inodes import Timespec
    from btrimg.ondisk.record import Value
    from btrimg.ondisk.roots import RootItem
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.volume import Volume
    from btrimg.volume.writer import VolumeWriter
    from btrimg.write.chunks import Policy
    from btrimg.write.merge import Plan

#: Trees that keep the accounts of all others, and of themselves: only a commit merges them.
ACCOUNTS = (
    *(TreeId.ROOT_TREE, TreeId.EXTENT_TREE, TreeId.BLOCK_GROUP_TREE),
    *(TreeId.FREE_SPACE_TREE, TreeId.DEV_TREE, TreeId.CHUNK_TREE),
)
_AT_ONCE = 4 << 20  # bytes of neighbouring blocks that are written in one go


class Transaction:
    """The transaction under way on a filesystem (context manager); after a commit, the next one.

    What is not committed is as if it had never been. Made by :func:`btrimg.write.begin.begin` for an opened image and
    by :func:`btrimg.write.mkfs.make_filesystem` for blank devices.
    """

    def __init__(
        self,
        volume: Volume,
        writer: VolumeWriter,
        *,
        chunk_tree_uuid: bytes,
        now: Timespec,
        uuids: Callable[[], bytes],
        blocks: BlockReader | None = None,
        policy: Policy | None = None,
        items: Iterable[tuple[int, Key, bytes]] = (),
    ) -> None:
        """Begin; *blocks* reads those of the last state, and keeps some of them.

        *policy* and *items*, as (tree, key, payload), are those of a new filesystem, which has none yet.
        """
        self.volume, self.writer, self.now, self.uuids = volume, writer, now, uuids
        self.superblock: Superblock = volume.superblock  #: as the commit will write it
        self.generation: int = self.superblock.generation + 1  #: transid of the commit to come
        self.blocks = blocks or BlockReader(volume, volume.fsids)
        self._chunk_tree_uuid = chunk_tree_uuid
        self._trees: dict[int, OverlayTree] = {}
        self.refs = References(self.tree(TreeId.EXTENT_TREE), volume.nodesize)
        self.csums = PendingCsums(volume.csum.size, volume.sectorsize, volume.nodesize)
        self.before_commit: list[Callable[[], None]] = []  #: called first by a commit: who holds back data, writes it
        #: Called by a commit when all but the superblocks is with the writer; what it raises ends the commit.
        self.before_superblocks: list[Callable[[Superblock], None]] = []
        #: Called by a commit with the logical address and length of each extent of data that nobody uses any more.
        self.data_freed: list[Callable[[int, int], None]] = []
        self.rebuilt: set[int] = set()  #: trees that are made anew, so that what they held before tells nothing
        for tree_id, key, payload in items:
            self.tree(tree_id).put(key, payload)
        self.space = Space(volume, self.tree, policy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.volume.close()

    @property
    def stamp(self) -> Stamp:
        """Return what all tree blocks of this transaction have in common."""
        volume = self.volume
        return Stamp(volume.metadata_fsid, self._chunk_tree_uuid, self.generation, volume.nodesize, volume.csum)

    @property
    def layout(self) -> Layout:
        """Return how extent items are written."""
        skinny = bool(self.superblock.incompat_flags & Incompat.SKINNY_METADATA)
        return Layout(self.volume.nodesize, self.generation, skinny)

    def change_superblock(self, **fields: Value) -> None:
        """Change fields of the superblock that the commit writes, such as the label."""
        self.superblock = self.superblock.replace(**fields)

    def set_incompat(self, bits: int) -> None:
        """Declare the use of incompatible features."""
        self.change_superblock(incompat_flags=self.superblock.incompat_flags | bits)

    # Trees

    def tree(self, tree_id: int) -> OverlayTree:
        """Return a tree with what is pending laid over it; what is put there becomes part of the commit.

        Raises NotFoundError when there is none.
        """
        if tree_id not in self._trees:
            self._trees[tree_id] = OverlayTree(self._open(tree_id))
        return self._trees[tree_id]

    def _open(self, tree_id: int) -> Tree:
        if tree_id == TreeId.ROOT_TREE:
            pointer = root_tree_pointer(self.volume)
        elif tree_id == TreeId.CHUNK_TREE:
            pointer = chunk_tree_pointer(self.volume)
        elif not self.superblock.root:
            pointer = Pointer(0, 0)
        else:
            pointer = root_pointer(tree_id, self.root_item(tree_id))
        return Tree(self.blocks, pointer) if pointer.logical else EmptyTree(self.blocks, tree_id)

    def has_tree(self, tree_id: int) -> bool:
        """Return whether there is a tree with that id."""
        return tree_id in (TreeId.ROOT_TREE, TreeId.CHUNK_TREE) or self._root_key(tree_id) is not None

    def create_tree(self, tree_id: int) -> OverlayTree:
        """Return a new tree, empty; the caller puts its root item, in which where it lies is filled in."""
        self._trees[tree_id] = OverlayTree(EmptyTree(self.blocks, tree_id))
        return self._trees[tree_id]

    def delete_tree(self, tree_id: int) -> None:
        """Delete the root item of a tree, and forget it; the caller has ended the uses of its blocks."""
        key = self._root_key(tree_id)
        if key is not None:
            self.tree(TreeId.ROOT_TREE).delete(key)
        self._trees.pop(tree_id, None)

    def _root_key(self, tree_id: int) -> Key | None:
        found = self.tree(TreeId.ROOT_TREE).floor(Key(tree_id, ItemType.ROOT_ITEM, U64_MAX))
        return found[0] if found and found[0][:2] == (tree_id, ItemType.ROOT_ITEM) else None

    def root_item(self, tree_id: int) -> RootItem:
        """Return the root item of a tree, as it is now.

        Raises NotFoundError when there is none.
        """
        found = self.tree(TreeId.ROOT_TREE).floor(Key(tree_id, ItemType.ROOT_ITEM, U64_MAX))
        if not found or found[0][:2] != (tree_id, ItemType.ROOT_ITEM):
            raise NotFoundError(f"there is no tree {tree_id}")
        return root_item(found[1])

    def change_root(self, tree_id: int, **fields: Value) -> None:
        """Overwrite fields of the root item of a tree."""
        key = self._root_key(tree_id)
        if key is None:
            raise NotFoundError(f"there is no tree {tree_id}")
        self.tree(TreeId.ROOT_TREE).put(key, self.root_item(tree_id).replace(**fields).pack())

    def flush(self, tree_id: int) -> None:
        """Merge what is pending in a tree into new blocks, and write them to free space.

        Memory is given back; to who reads the tree nothing changes. Of the ACCOUNTS, a commit merges what is left.
        """
        if not self.has_changed(tree_id):
            return
        tree = self.tree(tree_id)
        plan = plan_merge(tree, self.stamp.room)
        last_snapshot = self.root_item(tree_id).last_snapshot if is_subvolume(tree_id) else 0
        self.refs.replace(tree_id, plan.replaced, last_snapshot)
        self.refs.change_extents(tree_id, plan.extents)
        self.write_plan(plan, self.space.allocate_blocks(BlockGroup.METADATA, len(plan.drafts)))

    def write_plan(self, plan: Plan, addresses: list[int]) -> None:
        """Write the blocks of *plan* to *addresses*, and let the tree be what they hold."""
        tree_id = plan.tree_id
        for draft, logical in zip(plan.drafts, addresses, strict=True):
            self.refs.new_block(logical, draft.level, draft.keys[0] if draft.keys else None, tree_id)
        pointer = plan.place(addresses, self.generation)
        self.write_blocks(plan)
        self.tree(tree_id).rebase(Tree(self.blocks, pointer))
        self.point_to(pointer, len(plan.drafts) - len(plan.replaced))

    def write_blocks(self, plan: Plan) -> None:
        """Write the blocks of a plan, which have their addresses, neighbours in one go."""
        start, parts, nodesize = 0, list[bytes](), self.volume.nodesize
        for logical, data in sorted(plan.blocks(self.stamp)):
            if parts and (logical != start + len(parts) * nodesize or len(parts) * nodesize >= _AT_ONCE):
                self.writer.write(start, b"".join(parts))
                parts = []
            start = start if parts else logical
            parts.append(data)
        self.writer.write(start, b"".join(parts))

    def point_to(self, root: Pointer, grown: int) -> None:
        """Let the root item of a tree, or the superblock, point to its new root; *grown* is by how many blocks."""
        tree_id = root.owner or 0
        if tree_id == TreeId.ROOT_TREE:
            self.change_superblock(root=root.logical, root_level=root.level)
        elif tree_id == TreeId.CHUNK_TREE:
            self.change_superblock(
                chunk_root=root.logical, chunk_root_level=root.level, chunk_root_generation=root.generation
            )
        else:
            item = self.root_item(tree_id)
            fields: dict[str, Value] = {"bytenr": root.logical, "level": root.level, "generation": root.generation}
            fields["bytes_used"] = max(item.bytes_used + grown * self.volume.nodesize, 0)
            if is_subvolume(tree_id) and item.generation_v2 == item.generation:
                fields |= {"ctransid": self.generation, "ctime": self.now}
            if item.generation_v2 == item.generation or is_subvolume(tree_id):
                fields["generation_v2"] = root.generation
            self.change_root(tree_id, **fields)

    # Subvolumes

    def snapshot_root(self, source: int, new: int, item: RootItem) -> None:
        """Make tree *new* a snapshot of the subvolume *source* as it is now; *item* becomes its root item.

        Where its root lies is filled in. As fs/btrfs/ctree.c ``btrfs_copy_root``: only the root block is copied.
        """
        self.flush(source)
        pointer = self.tree(source).root
        block = self.blocks.read(pointer)
        (logical,) = self.space.allocate_blocks(BlockGroup.METADATA, 1)
        first_key = block.key(0) if len(block) else None
        self.refs.new_block(logical, block.header.level, first_key, new)
        self.refs.use_children(block, new, 1, shared=False)
        self.writer.write(logical, self.stamp.restamp(block.data, new, logical))
        copy = pointer._replace(logical=logical, generation=self.generation, owner=new)
        self._trees[new] = OverlayTree(Tree(self.blocks, copy))
        self.change_root(source, last_snapshot=self.generation)
        fields = {"bytenr": logical, "level": copy.level, "generation": self.generation}
        item = item.replace(last_snapshot=self.generation, generation_v2=self.generation, **fields)
        self.tree(TreeId.ROOT_TREE).put(Key(new, ItemType.ROOT_ITEM, self.generation), item.pack())

    def drop_root(self, tree_id: int) -> None:
        """End the uses that a subvolume's tree has of its blocks and data, and delete its root item.

        Raises BlockError when one of its blocks cannot be read.
        """
        key = self._root_key(tree_id)
        if key is None:
            raise NotFoundError(f"there is no subvolume {tree_id}")
        item = self.root_item(tree_id)
        tree = self._trees.pop(tree_id, None)
        root = tree.root if tree else root_pointer(tree_id, item)
        if root.logical:
            born = item.otransid if item.generation_v2 == item.generation else 0
            self.refs.drop_tree(self.blocks, root, born)
        self.tree(TreeId.ROOT_TREE).delete(key)

    # The end

    def commit(self) -> None:
        """Make all that is pending the new state of the filesystem, durable when this returns; begin the next one.

        Raises NoSpaceError when the devices are full, CorruptError when what is there does not add up: then the
        state on the devices is still the old one, and this transaction is of no more use.
        """
        from btrimg.write.commit import commit

        commit(self)

    def has_changed(self, tree_id: int) -> bool:
        """Return whether something is to be merged into a tree; a new one must at least get its first block."""
        tree = self.tree(tree_id)
        return bool(tree.pending) or not tree.root.logical

    def changed_trees(self) -> list[int]:
        """Return the trees that have something to merge and are none of the ACCOUNTS, by id."""
        return [tree_id for tree_id in sorted(self._trees.keys() - ACCOUNTS) if self.has_changed(tree_id)]

    def next(self, superblock: Superblock) -> None:
        """Begin the transaction after the one whose *superblock* has been written."""
        self.superblock = superblock
        self.generation = superblock.generation + 1


def chunk_tree_uuid_of(volume: Volume, blocks: BlockReader) -> bytes:
    """Return the uuid that stands in every tree block; the superblock does not know it."""
    uuid: bytes = blocks.read(chunk_tree_pointer(volume)).header.chunk_tree_uuid
    return uuid

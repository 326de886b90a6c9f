"""The commit: the trees are merged in the order in which they need each other, and the superblocks come last.

The trees that keep accounts (of extents, block groups, free space, chunks, devices and roots) record the very blocks
that recording them takes. How large they become depends on how many items they hold and not on addresses, so they are
planned, given as many blocks as they need, and planned again until nothing more is asked for.
"""

from __future__ import annotations

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import BlockGroup, ItemType, TreeId
from btrimg.ondisk.superblock import RootBackup
from btrimg.trees.tree import Tree
from btrimg.write.collector import uncollected
from btrimg.write.extenttree import apply, item_key
from btrimg.write.merge import plan_merge
from btrimg.write.refs import Delta, Use
from btrimg.write.transaction import ACCOUNTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.superblock import Superblock
    from btrimg.write.merge import Plan
    from btrimg.write.transaction import Transaction


#: The trees that a backup of the roots tells of beside the root and the chunk tree, as its fields call them.
_BACKED_UP = {
    "extent": TreeId.EXTENT_TREE,
    "fs": TreeId.FS_TREE,
    "dev": TreeId.DEV_TREE,
    "csum": TreeId.CSUM_TREE,
}
_MOST_ROUNDS = 100  # 3 to 5 are usual
_MANY = 4096  # changed items of the extent tree; sorting and cutting so many takes some 10 ms in every round


class _Planned(NamedTuple):
    """A plan, and the changes and the number of blocks that it was made for."""

    basis: tuple[list[tuple[Key, bytes | None]], int]
    plan: Plan


def commit(txn: Transaction) -> None:
    """Make all that is pending in *txn* the new state of the filesystem; see ``Transaction.commit``."""
    with uncollected():
        _commit(txn)


def _commit(txn: Transaction) -> None:
    for ready in txn.before_commit:
        ready()
    txn.change_root(TreeId.EXTENT_TREE)  # without any change, too: the root tree has the generation of the superblock
    for tree_id in txn.changed_trees():
        if tree_id != TreeId.CSUM_TREE:
            txn.flush(tree_id)
    _apply(txn, txn.refs.data)
    if txn.has_tree(TreeId.CSUM_TREE):
        txn.csums.apply(txn.tree(TreeId.CSUM_TREE))
        txn.flush(TreeId.CSUM_TREE)
    _apply(txn, txn.refs.blocks)
    if txn.tree(TreeId.EXTENT_TREE).pending > _MANY:
        txn.flush(TreeId.EXTENT_TREE)  # so that the rounds deal with few
    _merge_accounts(txn)
    superblock = _new_superblock(txn)
    for judge in txn.before_superblocks:
        judge(superblock)
    txn.writer.barrier()
    for devid, item in sorted(txn.space.device_items().items()):
        if devid not in txn.volume.seeds:
            txn.writer.write_superblock(devid, superblock.replace(dev_item=item))
    txn.writer.barrier()
    txn.space.committed()
    txn.next(superblock)


def _apply(txn: Transaction, deltas: dict[int, Delta]) -> None:
    """Bring *deltas* into the extent tree, forget them, and give back what nobody uses any more."""
    for freed in list(apply(txn.tree(TreeId.EXTENT_TREE), deltas, txn.layout)):
        txn.space.release(freed.logical, freed.length)
        if freed.data:
            txn.csums.drop(freed.logical, freed.length)
            for hear in txn.data_freed:
                hear(freed.logical, freed.length)
    deltas.clear()


def _merge_accounts(txn: Transaction) -> None:
    """Merge the trees that keep accounts, which change each other, and write them."""
    given: dict[int, list[int]] = {tree_id: [] for tree_id in ACCOUNTS if txn.has_tree(tree_id)}
    plans: dict[int, _Planned] = {}
    replaced: set[int] = set()
    for _ in range(_MOST_ROUNDS):
        if not _plan_accounts(txn, given, plans, replaced):
            break
    else:
        raise CorruptError(f"the trees that keep accounts do not settle in {_MOST_ROUNDS} rounds: please report it")
    _write_accounts(txn, {tree_id: planned.plan for tree_id, planned in plans.items()}, given)


def _plan_accounts(
    txn: Transaction, given: dict[int, list[int]], plans: dict[int, _Planned], replaced: set[int]
) -> bool:
    """Plan every tree that keeps accounts and has changed, give it the blocks it lacks; return whether any lacked some.

    *given* are the addresses of the blocks of each tree, *replaced* those of the blocks that plans have replaced.
    """
    _touch_roots(txn, given)
    _apply(txn, txn.refs.blocks)
    txn.space.record()
    changed = False
    for tree_id in filter(txn.has_changed, given):
        tree, blocks = txn.tree(tree_id), len(given[tree_id])
        basis = (tree.changes(), blocks)
        if tree_id in plans and plans[tree_id].basis == basis:
            continue
        plan = plan_merge(tree, txn.stamp.room, least=blocks)
        plans[tree_id] = _Planned(basis, plan)
        for old in plan.replaced:
            if old.pointer.logical not in replaced:
                replaced.add(old.pointer.logical)
                use = Use(ItemType.TREE_BLOCK_REF, tree_id)
                txn.refs.use_block(old.pointer.logical, old.block.header.level, use, -1)
                changed = True
        if len(plan.drafts) != blocks:
            _give(txn, tree_id, given[tree_id], len(plan.drafts))
            changed = True
    return changed


def _give(txn: Transaction, tree_id: int, addresses: list[int], count: int) -> None:
    """Let a tree that keeps accounts have *count* blocks; which level they will have is not known yet."""
    kind = BlockGroup.SYSTEM if tree_id == TreeId.CHUNK_TREE else BlockGroup.METADATA
    for logical in txn.space.allocate_blocks(kind, max(count - len(addresses), 0)):
        txn.refs.new_block(logical, 0, None, tree_id)
        addresses.append(logical)
    while len(addresses) > count:  # so few items are left that one block takes all
        txn.refs.use_block(addresses.pop(), 0, Use(ItemType.TREE_BLOCK_REF, tree_id), -1)


def _touch_roots(txn: Transaction, accounts: Iterable[int]) -> None:
    """Put the root items that will change, as they are: where they will point to does not change their size."""
    for tree_id in accounts:
        if tree_id not in (TreeId.ROOT_TREE, TreeId.CHUNK_TREE) and txn.has_changed(tree_id):
            txn.change_root(tree_id)


def _write_accounts(txn: Transaction, plans: dict[int, Plan], given: dict[int, list[int]]) -> None:
    """Write the accounts to the addresses that they were given, now that it is known which level each block has.

    The level stands in the key of a block's extent item, and the address of a tree's root in its root item: neither
    moves an item into another block, so that the plans keep their shape when they are made again.
    """
    for tree_id, plan in plans.items():
        for draft, logical in zip(plan.drafts, given[tree_id], strict=True):
            txn.tree(TreeId.EXTENT_TREE).delete(item_key(logical, Delta(txn.volume.nodesize, 0, new=True), txn.layout))
            txn.refs.new_block(logical, draft.level, draft.keys[0] if draft.keys else None, tree_id)
        txn.point_to(plan.place(given[tree_id], txn.generation), len(plan.drafts) - len(plan.replaced))
    _apply(txn, txn.refs.blocks)
    for tree_id, addresses in given.items():
        if addresses:
            plan = plan_merge(txn.tree(tree_id), txn.stamp.room, least=len(addresses))
            root = plan.place(addresses, txn.generation)
            txn.write_blocks(plan)
            txn.tree(tree_id).rebase(Tree(txn.blocks, root))


def _new_superblock(txn: Transaction) -> Superblock:
    """Return the superblock of the state that is written, but for the device item."""
    space, old = txn.space, txn.superblock
    array = space.sys_chunk_array()
    fields = {
        "generation": txn.generation,
        "total_bytes": space.total_bytes,
        "bytes_used": space.bytes_used,
        "num_devices": len(space.device_items()),
        "sys_chunk_array_size": len(array),
        "sys_chunk_array": array.ljust(len(old.sys_chunk_array), b"\0"),
    }
    if old.uuid_tree_generation == old.generation or not old.root:
        # else the kernel builds the tree anew, as it would have done without this commit
        fields["uuid_tree_generation"] = txn.generation
    superblock = old.replace(**fields)
    return superblock.replace(super_roots=_backups(txn, superblock))


def _backups(txn: Transaction, superblock: Superblock) -> tuple[RootBackup, ...]:
    """Return the backup roots with those of this commit after the latest (kernel ``backup_super_roots``)."""
    roots = {}
    for name, tree_id in _BACKED_UP.items():
        pointer = txn.tree(tree_id).root if txn.has_tree(tree_id) else None
        roots[f"{name}_root"] = pointer.logical if pointer else 0
        roots[f"{name}_root_gen"] = (pointer.generation or 0) if pointer else 0
        roots[f"{name}_root_level"] = pointer.level if pointer else 0
    backup = RootBackup(
        tree_root=superblock.root,
        tree_root_gen=superblock.generation,
        tree_root_level=superblock.root_level,
        chunk_root=superblock.chunk_root,
        chunk_root_gen=superblock.chunk_root_generation,
        chunk_root_level=superblock.chunk_root_level,
        total_bytes=superblock.total_bytes,
        bytes_used=superblock.bytes_used,
        num_devices=superblock.num_devices,
        unused_64=(0,) * 4,
        unused_8=(0,) * 10,
        **roots,
    )
    backups = list(superblock.super_roots)
    latest = max(range(len(backups)), key=lambda index: backups[index].tree_root_gen)
    backups[(latest + 1) % len(backups) if backups[latest].tree_root_gen else 0] = backup
    return tuple(backups)

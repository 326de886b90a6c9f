"""Quota groups: what the quota tree says, and a recount of what groups reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.disputes import owner_refs
from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem.treepaths import find
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import ItemType, QgroupStatusFlag, TreeId
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import QgroupStatus
from btrimg.tables.relation import BYTES, TRANSID, Relation, u64
from btrimg.tables.schema import EXTENT_KINDS, EXTENTS
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.check.makers import Scanned
    from btrimg.filesystem.image import Image

    Columns = dict[str, NDArray[Any]]
    Numbers = NDArray[np.uint64]
    Ints = NDArray[np.int64]

QGROUP_STATUS = Relation(
    "qgroup_status",
    "The state of quotas, one row; none where they were never on.",
    (
        u64("flags", "QgroupStatusFlag bits"),
        u64("generation", "of the numbers", TRANSID),
        u64("enable_gen", "since when simple quotas count", TRANSID),
    ),
)
QGROUP_RELATIONS = Relation(
    "qgroup_relations",
    "A pair of quota groups, one a member of the other (QGROUP_RELATION); each pair stands there both ways.",
    (u64("objectid", "of the key: a group"), u64("offset", "of the key: the other group")),
)
QGROUP_COUNTS = Relation(
    "qgroup_counts",
    "What a quota group should say, counted over all trees; by simple quotas, over what they charge it for.",
    (
        u64("id", "level << 48 | subvolume"),
        u64("rfer", "referenced", BYTES),
        u64("excl", "that no subvolume outside the group references", BYTES),
    ),
)
RELATIONS = (QGROUP_STATUS, QGROUP_RELATIONS, QGROUP_COUNTS)
_BLOCK = EXTENT_KINDS.index("tree block")
_LONGEST = 1 << 40  # bytes; more than any extent has, so that a lie does not overflow sums


class Quotas(NamedTuple):
    """What the quota tree says."""

    status: QgroupStatus | None
    groups: list[int]  #: ids, in order
    relations: list[tuple[int, int]]  #: as they stand there


class Charges(NamedTuple):
    """Extents and tree blocks, and which subvolumes they are counted for."""

    length: Ints  #: bytes
    users: dict[int, Ints]  #: by id of the subvolume, the different indexes into *length*


def quotas(scanned: Scanned) -> Quotas:
    """Read the quota tree; what makes no sense there is for other rules to tell."""
    found = Quotas(None, [], [])
    for (objectid, key_type, offset), payload in _items(scanned.image):
        if key_type == ItemType.QGROUP_STATUS:
            try:
                found = found._replace(status=records_of(QgroupStatus, key_type, payload)[0])
            except CorruptError:
                continue
        elif key_type == ItemType.QGROUP_INFO:
            found.groups.append(offset)
        elif key_type == ItemType.QGROUP_RELATION:
            found.relations.append((objectid, offset))
    return found


def _items(image: Image) -> Iterator[tuple[tuple[int, int, int], bytes]]:
    try:
        tree = image.tree(TreeId.QUOTA_TREE)
    except (CorruptError, NotFoundError):
        return
    yield from tree.items(bad=lambda _error: None)


def qgroup_status(scanned: Scanned) -> Columns:
    """Return the columns of ``qgroup_status``."""
    status = scanned.once(quotas).status
    rows = [(status.flags, status.generation, status.enable_gen)] if status else []
    return _columns(QGROUP_STATUS, rows)


def qgroup_relations(scanned: Scanned) -> Columns:
    """Return the columns of ``qgroup_relations``."""
    return _columns(QGROUP_RELATIONS, scanned.once(quotas).relations)


def qgroup_counts(scanned: Scanned) -> Columns:
    """Return the columns of ``qgroup_counts``; no rows where the numbers are not kept, or known to be wrong.

    Counts as a rescan of the kernel does (fs/btrfs/qgroup.c ``btrfs_qgroup_account_extent``): a group references what
    one of its subvolumes references, and has for itself what no other subvolume does; simple quotas charge the
    subvolume that wrote an extent first (``btrfs_record_squota_delta``).
    """
    told = scanned.once(quotas)
    known_wrong = QgroupStatusFlag.RESCAN | QgroupStatusFlag.INCONSISTENT
    if not told.status or not told.status.flags & QgroupStatusFlag.ON or told.status.flags & known_wrong:
        return _columns(QGROUP_COUNTS, [])
    simple = bool(told.status.flags & QgroupStatusFlag.SIMPLE_MODE)
    charges = _first_writers(scanned, told.status.enable_gen) if simple else _users(scanned)
    return _columns(QGROUP_COUNTS, list(count_groups(told, charges)))


def count_groups(told: Quotas, charges: Charges) -> Iterator[tuple[int, int, int]]:
    """Yield id, referenced and exclusive bytes of every group."""
    everyone = np.zeros(len(charges.length), np.int64)
    for each in charges.users.values():
        everyone[each] += 1
    members = _members(told)
    for group in told.groups:
        used = [charges.users[subvolume] for subvolume in members[group] if subvolume in charges.users]
        charged, within = np.unique(np.concatenate([np.empty(0, np.int64), *used]), return_counts=True)
        alone = charged[within == everyone[charged]]
        yield group, int(charges.length[charged].sum()), int(charges.length[alone].sum())


def _members(told: Quotas) -> dict[int, set[int]]:
    """Return the subvolumes in each group, directly or through other groups; loops are gone round once."""
    above: dict[int, set[int]] = {}
    for member, group in told.relations:
        if member < group:
            above.setdefault(member, set()).add(group)
    members: dict[int, set[int]] = {group: set() for group in told.groups}
    for subvolume in told.groups:
        pending, seen = [subvolume] if is_subvolume(subvolume) else [], set()
        while pending:
            group = pending.pop()
            if group not in seen:
                seen.add(group)
                members.setdefault(group, set()).add(subvolume)
                pending += above.get(group, ())
    return members


def _users(scanned: Scanned) -> Charges:
    """Return all that subvolumes refer to, those that are being deleted among them."""
    scan = scanned.scan
    uses = scanned.tables["data_uses"]
    nodesize = scanned.image.volume.nodesize
    trees = (*scan.trees, *scan.deleted.trees)
    found: dict[int, list[Numbers]] = {}
    for number, (tree, _) in enumerate(trees):
        if is_subvolume(tree):
            blocks = dict(scan.forest.blocks_of(number))
            addresses = [scan.forest.addresses(level)[each] for level, each in blocks.items()]
            data = uses.rows.extent[uses.rows_of(blocks.get(0, np.empty(0, np.int64)))]
            found.setdefault(tree, []).extend([*addresses, data])
    known, first = np.unique(uses.rows.extent, return_index=True)
    used = {tree: np.unique(np.concatenate(parts)) for tree, parts in found.items()}
    logical = np.unique(np.concatenate([np.empty(0, np.uint64), *used.values()]))
    of_data = find(known, logical)
    lengths = np.append(uses.rows.length[first], np.uint64(nodesize))  # what is no data has the last, by index -1
    return Charges(_bounded(lengths[of_data]), {tree: np.searchsorted(logical, each) for tree, each in used.items()})


def _first_writers(scanned: Scanned, since: int) -> Charges:
    """Return all that was allocated in transaction *since* or later, and who wrote it first."""
    gathered = scanned.gathered[EXTENTS.name]
    extents = {name: column[gathered.rows] for name, column in gathered.different.items()}
    blocks = scanned.scan.tree_blocks()
    owners = owner_refs(scanned)
    is_block = extents["kind"] == _BLOCK
    owner = np.zeros(len(is_block), np.uint64)
    for some, logical, who in (
        (is_block, blocks["logical"], blocks["owner"]),
        (~is_block, owners["extent"], owners["root"]),
    ):
        at = find(logical, extents["logical"])
        known = some & (at >= 0)
        owner[known] = who[at[known]]
    counted = extents["generation"] >= np.uint64(since)
    users = {
        tree: np.flatnonzero(counted & (owner == np.uint64(tree)))
        for tree in np.unique(owner).tolist()
        if is_subvolume(tree)
    }
    return Charges(_bounded(np.asarray(extents["length"])), users)


def _bounded(lengths: NDArray[Any]) -> Ints:
    return np.minimum(lengths.astype(np.uint64), np.uint64(_LONGEST)).astype(np.int64)


def _columns(relation: Relation, rows: Sequence[tuple[int, ...]]) -> Columns:
    table = np.array(rows, np.uint64).reshape(len(rows), len(relation.columns))
    return {column.name: table[:, place].copy() for place, column in enumerate(relation.columns)}


#: What makes the columns of each relation.
MAKERS: dict[str, Callable[[Scanned], Columns]] = {
    QGROUP_STATUS.name: qgroup_status,
    QGROUP_RELATIONS.name: qgroup_relations,
    QGROUP_COUNTS.name: qgroup_counts,
}

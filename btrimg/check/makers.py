"""What makes the relations that only the checker has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.check import disputes, filedata, freespace, links, logs, quotas, rootfacts, superblocks
from btrimg.check.faults import bad_blocks, bad_items, unread_trees
from btrimg.check.itemfaults import ItemJudge
from btrimg.check.references import data_uses
from btrimg.filesystem.leafrows import LeafTable
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import ItemType
from btrimg.tables.build import FEW
from btrimg.tables.growing import GrowingParts
from btrimg.tables.leafscan import TAKES, holds_files
from btrimg.tables.schema import BACKREFS, CSUMS, EXTENTS, TREE_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from numpy.typing import NDArray

    from btrimg.check.scrub.begun import BegunScrub
    from btrimg.errors import CorruptError
    from btrimg.filesystem.image import Image
    from btrimg.tables.leafscan import Gathered, LeafScan
    from btrimg.trees.leafbatch import LeafBatch

    T = TypeVar("T")
    Progress = Callable[[int, int], None]  # takes how many more things, of how many bytes, are done


class Scanned(NamedTuple):
    """What the relations that only the checker has are made of."""

    image: Image
    scan: LeafScan
    tables: dict[str, LeafTable[Any]]  #: those of FURTHER, by name
    gathered: dict[
        str, Gathered
    ]  #: relations of trees without files that were kept, by name: what NEEDS names among them
    faults: list[CorruptError]  #: what scanning met
    progress: Progress
    scrub: BegunScrub | None  #: begun before the scan, where its findings are asked for
    made: dict[Any, Any]  #: what ``once`` has made

    def once(self, make: Callable[[Scanned], T]) -> T:
        """Return what *make* makes, which is made once for all relations that need it."""
        if make not in self.made:
            self.made[make] = make(self)
        found: T = self.made[make]
        return found


def _bad_copies(scanned: Scanned) -> dict[str, NDArray[Any]]:
    assert scanned.scrub is not None  # noqa: S101 (it was begun, because this relation was asked for)
    return scanned.scrub.table()


def _bad_blocks(scanned: Scanned) -> dict[str, NDArray[Any]]:
    for number in range(len(scanned.scan.trees)):
        scanned.scan.leaves_of(number)  # which tells of blocks that reach into the next one of their tree
    return bad_blocks(scanned.faults)


def _unread_trees(scanned: Scanned) -> dict[str, NDArray[Any]]:
    for number, (tree, _) in enumerate(scanned.scan.trees):
        if not holds_files(tree):
            scanned.scan.leaves_of(number)  # as in _bad_blocks
    return unread_trees(scanned.faults)


def _of_logs(image: Image, take: Callable[[LeafBatch], tuple[LeafBatch, Any]]) -> LeafTable[Any]:
    return LeafTable(take, types=None if image.superblock.log_root else ())


#: Tables that are filled in the scan of all leaves, each with the names of the relations that it is for.
FURTHER: dict[str, tuple[set[str], Callable[[Image], LeafTable[Any]]]] = {
    "item_faults": ({"bad_items"}, lambda image: LeafTable(ItemJudge(image.volume).faults)),
    "log_extents": ({"log_data"}, lambda image: _of_logs(image, logs.extents)),
    "log_inodes": ({"log_data"}, lambda image: _of_logs(image, logs.inodes)),
    "log_sums": ({"log_data"}, lambda image: _of_logs(image, logs.sums_of(image.volume))),
    "free_space_infos": (
        {"free_space_infos"},
        lambda _image: LeafTable(freespace.infos, types=(ItemType.FREE_SPACE_INFO,)),
    ),
    "data_uses": (
        {"disputed", "unowned", "qgroup_counts"},
        lambda _image: LeafTable(data_uses, GrowingParts(), (ItemType.EXTENT_DATA,)),
    ),
}
#: Relations of leaves that relations of ``schema`` are made of, none of trees of files.
NEEDS = {
    **dict.fromkeys(("disputed", "unowned", "recounted", "owner_refs", "qgroup_counts"), (EXTENTS, BACKREFS)),
    "unaligned_backrefs": (BACKREFS,),
    "log_data": (CSUMS,),
}
#: What makes the columns of each relation of ``schema``: those of LATE once all leaves were scanned, the others once
#: those of trees without files were.
MAKERS: dict[str, Callable[[Scanned], dict[str, NDArray[Any]]]] = {
    "bad_blocks": _bad_blocks,
    "unread_trees": _unread_trees,
    "bad_items": lambda scanned: bad_items(scanned.faults, scanned.tables["item_faults"].rows),
    "disputed": disputes.disputed,
    "unowned": disputes.unowned,
    "recounted": disputes.recounted,
    "unaligned_backrefs": disputes.unaligned_backrefs,
    "owner_refs": disputes.owner_refs,
    "free_space_infos": freespace.free_space_infos,
    "cached_space": freespace.cached_space,
    "log_data": logs.log_data,
    "superblocks": superblocks.superblocks,
    "superblock_fields": superblocks.superblock_fields,
    "system_chunks": superblocks.system_chunks,
    "bad_copies": _bad_copies,
    **rootfacts.MAKERS,
    **quotas.MAKERS,
}
LATE = {"bad_blocks", "bad_items", "bad_copies", *NEEDS}
#: Relations that show when names, inodes and file extents are held against each other.
COMPARED = {each.name for each in (*links.RELATIONS, filedata.ODD_SIZES)}
CREATED = {*FEW, *TAKES, TREE_BLOCKS.name, "linked_inodes", *COMPARED, *MAKERS}  #: names of all that is not derived

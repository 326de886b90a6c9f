"""The database that rules are run in, filled with what is made of an image in one scan of its trees.

All trees are read once. Of subvolumes that share most of their inodes, what is shared is there once
(:mod:`btrimg.tables.differences`), and names are numbers (:mod:`btrimg.check.namebook`). The database is at work on
relations of other trees while those of files are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.check.makers import FURTHER, MAKERS, NEEDS, Scanned
from btrimg.check.scrub.told import TELLING
from btrimg.check.store import MANY
from btrimg.ondisk.constants import TreeId
from btrimg.tables.build import FEW, few, of_columns
from btrimg.tables.differences import ENDS, Differences, version_table
from btrimg.tables.leafscan import TAKES, LeafScan, deleted_trees, every_tree
from btrimg.tables.memory import give_back
from btrimg.tables.schema import BACKREFS, EXTENTS, FILE_EXTENTS, INODES, NAMES, RELATIONS, TREE_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from btrimg.check.makers import Progress
    from btrimg.check.scrub.begun import BegunScrub
    from btrimg.check.store import Store
    from btrimg.errors import CorruptError
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import LeafTable
    from btrimg.tables.differences import Versions
    from btrimg.tables.leafscan import Gathered
    from btrimg.tables.relation import Relation


class Filling:
    """Puts the relations of an image that are among *words*, with the columns that are, into a *store*.

    *faults* is what the image reports, the scrub *begun*, where its findings are asked for.
    """

    def __init__(
        self,
        image: Image,
        words: set[str],
        store: Store,
        faults: list[CorruptError],
        progress: Progress,
        begun: BegunScrub | None,
    ) -> None:
        self._image, self._words, self._store = image, words, store
        self._faults, self._progress, self._begun = faults, progress, begun
        self._shown = words & RELATIONS.keys()
        if {INODES.name, "linked_inodes", "present"} & words:  # which inodes are linked is to be seen from names
            self._shown |= {INODES.name, NAMES.name}
        self._needed = {relation.name: relation for name in words & NEEDS.keys() for relation in NEEDS[name]}
        self._leaves = _scanned(words, self._shown | self._needed.keys(), self._needed.values())
        self._kept: dict[str, Gathered] = {}
        self._tables = {name: make(image) for name, (users, make) in FURTHER.items() if users & words}
        self._inodes: list[LeafTable[Versions]] = []

    def fill(self) -> None:
        """Read the image and put all there is into the store; what the scrub found is last."""
        for name in self._shown & FEW.keys():
            self._store.create(few(self._image, RELATIONS[name]))
        trees, deleted = every_tree(self._image), deleted_trees(self._image)
        progress = self._progress
        scan = LeafScan(
            self._image, self._leaves, trees, self._further, deleted, self._soon, numbered=True, progress=progress
        )
        if self._begun:
            sound = dict(zip(("logical", "generation"), scan.forest.sound_at_first(), strict=True))
            self._begun.tell(scan.columns(FILE_EXTENTS), sound)
        give_back()
        made = dict[Any, Any]()
        scanned = Scanned(self._image, scan, self._tables, self._kept, self._faults, progress, self._begun, made)
        differences = Differences(scan, self._inodes.pop())
        if TREE_BLOCKS.name in self._shown:
            self._store.create(of_columns(TREE_BLOCKS, scan.tree_blocks()))
        makers = self._words & MAKERS.keys()
        self._create(scanned, makers - NEEDS.keys() - {"bad_copies"})
        self._create(scanned, makers & NEEDS.keys())  # it takes memory: while the database has little
        self._tables.clear()
        self._kept.clear()
        files = [relation for relation in self._leaves if TreeId.FS_TREE in relation.trees]
        for relation in sorted(files, key=lambda each: each.name != NAMES.name):  # the largest one first
            self._add_files(differences, relation)
        self._create(scanned, makers & {"bad_copies"})

    def _further(self, scan: LeafScan) -> Sequence[LeafTable[Any]]:
        self._inodes.append(version_table(scan))
        return [*self._inodes, *self._tables.values()]

    def _soon(self, scan: LeafScan) -> None:
        """Add the relations of trees without files."""
        wanted = {*self._shown, *self._needed, *([EXTENTS.name] if self._begun else [])}
        for relation in self._leaves:
            if TreeId.FS_TREE in relation.trees or relation.name not in wanted:
                continue
            gathered = scan.gathered(relation)
            if relation.name in (EXTENTS.name, BACKREFS.name):  # as references are judged by them
                gathered = gathered.in_order()
            if relation.name == EXTENTS.name and self._begun:
                self._begun.tell(gathered.different)
            if relation.name in self._needed:
                self._kept[relation.name] = gathered
            if relation.name in self._shown:
                self._store.create(gathered)

    def _add_files(self, differences: Differences, relation: Relation) -> None:
        """Add a relation of trees of files."""
        if relation.name not in self._shown:
            return
        gathered = differences.gathered(relation)
        if len(gathered.rows) > MANY:
            give_back()
        more = {}
        if relation.name in (INODES.name, NAMES.name):
            more["differs"] = differences.differs(gathered)
        if relation.name != INODES.name:
            self._store.create(gathered, **more)
            return
        linked = gathered.relation._replace(name="linked_inodes")
        self._store.create(gathered._replace(relation=linked), **more)
        self._store.create_view(INODES.name, "select * exclude (differs) from linked_inodes where differs")
        self._store.create_from("present", differences.present())

    def _create(self, scanned: Scanned, names: set[str]) -> None:
        """Create the relations *names* that only the checker has, and forget what they were made of in common."""
        for name in sorted(names):
            self._store.create_from(name, MAKERS[name](scanned))
        scanned.made.clear()


def _scanned(words: set[str], names: set[str], whole: Iterable[Relation]) -> list[Relation]:
    """Return the relations to be made in the scan of all leaves, for *words*: *names*, with all columns of *whole*."""
    columns = words.union(*ENDS.values(), *([column.name for column in relation.columns] for relation in whole))
    if {"bad_blocks", "bad_items"} & words:  # what is wrong with items shows when rows are made of them
        names = names | RELATIONS.keys()
    if "bad_copies" in words:
        names, columns = names.union((EXTENTS.name, FILE_EXTENTS.name)), columns.union(*TELLING)
    return [relation.only(columns) for name, relation in RELATIONS.items() if name in names & TAKES.keys()]

"""The database that rules are run in, filled with what is made of an image in one scan of its trees.

All trees are read once. Of subvolumes that share most of their inodes, what is shared is there once
(:mod:`btrimg.tables.differences`), and names are numbers (:mod:`btrimg.check.namebook`). The database is at work on
relations of other trees while those of files are read.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check import filedata, links
from btrimg.check.makers import COMPARED, FURTHER, LATE, MAKERS, NEEDS, Scanned
from btrimg.check.scrub.told import TELLING
from btrimg.check.sums import some_of
from btrimg.ondisk.constants import TreeId
from btrimg.tables.build import FEW, few, of_columns
from btrimg.tables.differences import ENDS, Differences, version_table
from btrimg.tables.leafscan import TAKES, LeafScan, deleted_trees, every_tree
from btrimg.tables.schema import BACKREFS, CSUMS, EXTENTS, FILE_EXTENTS, INODES, NAMES, RELATIONS, ROOTS, TREE_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from btrimg.check.derived import Asked
    from btrimg.check.makers import Progress
    from btrimg.check.scrub.begun import BegunScrub
    from btrimg.check.store import Store
    from btrimg.errors import CorruptError
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import LeafTable
    from btrimg.tables.differences import Versions
    from btrimg.tables.leafscan import Gathered
    from btrimg.tables.relation import Relation


_OF_FILES = {INODES.name, NAMES.name, FILE_EXTENTS.name}  # held against each other: none is judged without the others


class Filling:
    """Puts the relations of an image that are *asked* of, with the columns that are, into a *store*.

    *faults* is what the image reports, the scrub *begun*, where its findings are asked for.
    """

    def __init__(
        self,
        image: Image,
        asked: Asked,
        store: Store,
        faults: list[CorruptError],
        progress: Progress,
        begun: BegunScrub | None,
    ) -> None:
        words = asked.words
        self._image, self._words, self._store = image, words, store
        self._faults, self._progress, self._begun = faults, progress, begun
        self._shown = words & RELATIONS.keys()
        self._needed = {relation.name: relation for name in words & NEEDS.keys() for relation in NEEDS[name]}
        self._comparing = bool({*_OF_FILES, "linked_inodes", *COMPARED} & words)
        if self._comparing:
            self._shown |= _OF_FILES
            self._needed |= {relation.name: relation for relation in (ROOTS, CSUMS)}
        self._leaves = _scanned(asked, words, self._shown | self._needed.keys(), self._needed.values())
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
        self._store.hurry()
        if self._begun:
            sound = dict(zip(("logical", "generation"), scan.forest.sound_at_first(), strict=True))
            self._begun.tell(scan.columns(FILE_EXTENTS), sound)
        if TREE_BLOCKS.name in self._shown:
            self._store.create(of_columns(TREE_BLOCKS, scan.tree_blocks()))
        with ThreadPoolExecutor(1) as beside:  # the scrub leaves a processor free towards the end
            made = [beside.submit(self._create, scan, self._words & LATE - {"bad_copies"})]
            differences = Differences(scan, self._inodes.pop())
            if self._comparing:
                made.append(self._add_compared(differences, beside))
            for each in made:
                each.result()
        self._tables.clear()
        self._kept.clear()
        for relation in self._leaves:
            if TreeId.FS_TREE in relation.trees and relation.name in self._shown - _OF_FILES:
                self._store.create(differences.gathered(relation))
        self._create(scan, self._words & {"bad_copies"})

    def _further(self, scan: LeafScan) -> Sequence[LeafTable[Any]]:
        self._inodes.append(version_table(scan))
        return [*self._inodes, *self._tables.values()]

    def _soon(self, scan: LeafScan) -> None:
        """Add what needs trees without files only."""
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
        self._create(scan, self._words & MAKERS.keys() - LATE)

    def _add_compared(self, differences: Differences, beside: ThreadPoolExecutor) -> Future[None]:
        """Add inodes, and those of names and file extents that have to be looked at, with what shows when they are.

        The file extents are still being added *beside*.
        """
        names = differences.gathered(self._leaf_relation(NAMES))
        inodes = differences.gathered(self._leaf_relation(INODES))
        differ = differences.differs(inodes)
        linked = inodes.relation._replace(name="linked_inodes")
        self._store.create(inodes._replace(relation=linked), differs=differ)
        self._store.create(some_of(inodes, np.flatnonzero(differ)))
        extents = beside.submit(self._add_file_data, differences, inodes, differ)
        roots = self._kept[ROOTS.name]
        tops = np.asarray(roots.different["root_dirid"])[roots.rows]
        found = links.links(names, differences.differs(names), inodes, differ, tops)
        del names
        self._store.create(found.names, differs=found.differs)
        self._store.create_from("directories", found.directories)
        self._store.create_from("odd_ranges", found.odd_ranges)
        return extents

    def _add_file_data(self, differences: Differences, inodes: Gathered, differ: NDArray[np.bool_]) -> None:
        extents = differences.gathered(self._leaf_relation(FILE_EXTENTS))
        data = filedata.file_data(extents, inodes, differ, self._kept[CSUMS.name], self._image.superblock)
        self._store.create(data.extents)
        self._store.create_from("odd_sizes", data.odd_sizes)

    def _leaf_relation(self, declared: Relation) -> Relation:
        """Return a relation with the columns that are asked of."""
        return next(relation for relation in self._leaves if relation.name == declared.name)

    def _create(self, scan: LeafScan, names: set[str]) -> None:
        """Create the relations *names* that only the checker has."""
        made = dict[Any, Any]()
        scanned = Scanned(self._image, scan, self._tables, self._kept, self._faults, self._progress, self._begun, made)
        for name in sorted(names):
            self._store.create_from(name, MAKERS[name](scanned))


def _scanned(asked: Asked, words: set[str], names: set[str], whole: Collection[Relation]) -> list[Relation]:
    """Return the relations to be made in the scan of all leaves, for *words*: *names*, with all columns of *whole*."""
    further = {}
    if {"bad_blocks", "bad_items"} & words:  # what is wrong with items shows when rows are made of them
        names = names | RELATIONS.keys()
    if "bad_copies" in words:
        further = dict(zip((EXTENTS.name, FILE_EXTENTS.name), TELLING, strict=False))
        names = names | further.keys()
    found = []
    for relation in (RELATIONS[name] for name in RELATIONS if name in names & TAKES.keys()):
        columns = asked.words_about(relation.name).union(ENDS.get(relation.name, ()), further.get(relation.name, ()))
        if relation.name in _OF_FILES:
            columns |= links.COLUMNS | filedata.COLUMNS | asked.words_about("linked_inodes")
        some = relation.only(columns)
        if not some.columns:  # rows are counted; or its name is a word for something else
            some = relation.only([relation.columns[0].name])
        found.append(relation if relation in whole else some)
    return found

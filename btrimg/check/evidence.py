"""The relations that rules judge, in a database of their own.

All trees are read once. Of subvolumes that share most of their inodes, what is shared is there once
(:mod:`btrimg.tables.differences`), and names are numbers (:mod:`btrimg.check.namebook`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.check import derived, disputes, freespace, logs, quotas, rootfacts, superblocks
from btrimg.check.faults import bad_blocks, bad_items
from btrimg.check.itemfaults import ItemJudge
from btrimg.check.namebook import NameBook
from btrimg.check.references import data_uses
from btrimg.check.rule import rule as rule_of
from btrimg.check.scrub.begun import BegunScrub
from btrimg.check.scrub.whole import TELLING
from btrimg.check.store import MANY, Store
from btrimg.filesystem.leafrows import LeafTable
from btrimg.tables.build import FEW, few, of_columns
from btrimg.tables.database import QueryError
from btrimg.tables.differences import ENDS, Differences, version_table
from btrimg.tables.leafscan import TAKES, LeafScan, deleted_trees, every_tree
from btrimg.tables.memory import give_back
from btrimg.tables.schema import BACKREFS, CSUMS, EXTENTS, FILE_EXTENTS, INODES, NAMES, RELATIONS, TREE_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from numpy.typing import NDArray

    from btrimg.check.rule import Rule
    from btrimg.errors import CorruptError
    from btrimg.filesystem.image import Image
    from btrimg.tables.differences import Versions
    from btrimg.tables.leafscan import Gathered
    from btrimg.tables.relation import Relation

    T = TypeVar("T")
    Progress = Callable[[int, int], None]  # takes how many more things, of how many bytes, are done


class Scanned(NamedTuple):
    """What the relations that only the checker has are made of."""

    image: Image
    scan: LeafScan
    tables: dict[str, LeafTable[Any]]  #: those of FURTHER, by name
    gathered: dict[str, Gathered]  #: the relations that NEEDS names, by name
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


#: Tables that are filled in the scan of all leaves, each with the names of the relations that it is for.
FURTHER: dict[str, tuple[set[str], Callable[[Image], LeafTable[Any]]]] = {
    "item_faults": ({"bad_items"}, lambda image: LeafTable(ItemJudge(image.volume).faults)),
    "log_extents": ({"log_data"}, lambda _image: LeafTable(logs.extents)),
    "log_inodes": ({"log_data"}, lambda _image: LeafTable(logs.inodes)),
    "log_sums": ({"log_data"}, lambda image: LeafTable(logs.sums_of(image.volume))),
    "free_space_infos": ({"free_space_infos"}, lambda _image: LeafTable(freespace.infos)),
    "data_uses": ({"disputed", "unowned", "qgroup_counts"}, lambda _image: LeafTable(data_uses)),
}
#: Relations of leaves that relations of ``schema`` are made of.
NEEDS = {
    **dict.fromkeys(("disputed", "unowned", "recounted", "owner_refs", "qgroup_counts"), (EXTENTS, BACKREFS)),
    "unaligned_backrefs": (BACKREFS,),
    "log_data": (CSUMS,),
}
_SCRUBBED = (EXTENTS, FILE_EXTENTS)  # relations of leaves that tell the scrub what there is
#: What makes the columns of each relation of ``schema`` once all leaves were scanned.
MAKERS: dict[str, Callable[[Scanned], dict[str, NDArray[Any]]]] = {
    "bad_blocks": _bad_blocks,
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
#: The relations of leaves that come first: the largest one, which makes room; those that references are judged by,
#: which takes memory, while the database has little.
_SOON = [relation.name for relation in (NAMES, EXTENTS, BACKREFS)]
CREATED = {*FEW, *TAKES, TREE_BLOCKS.name, "linked_inodes", "present", *MAKERS}  #: names of all that is not derived


class Evidence:
    """The relations that some rules name; what making them met is evidence, too."""

    def __init__(self, image: Image, rules: Sequence[Rule], progress: Progress) -> None:
        words = {word for rule in rules for word in derived.words_of(rule.query)}
        further = derived.needed(words)
        words |= {word for each in further for word in derived.words_of(each.query)}
        self._names, self._progress = NameBook(image), progress
        self._faults: list[CorruptError] = []
        image.listen(self._faults.append)
        # Before the store: its threads would hinder a process of its own.
        begun = BegunScrub(image, lambda count: progress(0, count)) if "bad_copies" in words else None
        try:
            self._store = Store(words & CREATED, further)
            try:
                self._make(image, words, begun)
            except BaseException:
                self._store.give_up()
                raise
        finally:
            if begun:
                begun.stop()
        self._store.settle()
        give_back()

    def _make(self, image: Image, words: set[str], begun: BegunScrub | None) -> None:
        """Make the relations that are among *words*, with the columns that are; those of *begun*, the scrub, last."""
        shown = words & RELATIONS.keys()
        if {INODES.name, "linked_inodes", "present"} & words:  # which inodes are linked is to be seen from names
            shown |= {INODES.name, NAMES.name}
        small = [few(image, RELATIONS[name]) for name in shown & FEW.keys()]
        needed = {relation.name: relation for name in words & NEEDS.keys() for relation in NEEDS[name]}
        leaves = _scanned(words, shown | needed.keys(), needed.values())
        tables = {name: make(image) for name, (users, make) in FURTHER.items() if users & words}
        inodes: list[LeafTable[Versions]] = []

        def further(scan: LeafScan) -> Sequence[LeafTable[Any]]:
            inodes.append(version_table(scan))
            return [*inodes, *tables.values()]

        freed = deleted_trees(image)
        scan = LeafScan(image, leaves, every_tree(image), further, freed, numbered=True, progress=self._progress)
        if begun:
            begun.go_on(*map(scan.columns, _SCRUBBED))
        give_back()
        differences = Differences(scan, inodes.pop())
        kept: dict[str, Gathered] = {}
        everything = Scanned(image, scan, tables, kept, self._faults, self._progress, begun, {})
        for gathered in small:
            self._store.create(gathered)
        if TREE_BLOCKS.name in shown:
            self._store.create(of_columns(TREE_BLOCKS, scan.tree_blocks()))
        self._create(everything, words & MAKERS.keys() - NEEDS.keys() - {"bad_copies"})
        left = words & NEEDS.keys()
        for relation in sorted(leaves, key=lambda each: _SOON.index(each.name) if each.name in _SOON else len(_SOON)):
            if relation.name not in shown | needed.keys():
                continue
            gathered = differences.gathered(relation)
            if relation.name in (EXTENTS.name, BACKREFS.name):  # as references are judged by them
                gathered = gathered.in_order()
            if len(gathered.rows) > MANY:
                give_back()
            if relation.name in shown:
                self._show(differences, gathered)
            if relation.name in needed:
                if len(gathered.rows) > MANY:
                    self._store.make_room()
                kept[relation.name] = gathered
                ready = {name for name in left if {each.name for each in NEEDS[name]} <= kept.keys()}
                self._create(everything, ready)
                left -= ready
                # What nobody needs any more makes room for the next one.
                for name in tables.keys() - {name for name, (users, _) in FURTHER.items() if users & left}:
                    del tables[name]
                for name in kept.keys() - {each.name for waiting in left for each in NEEDS[waiting]}:
                    del kept[name]
            del gathered
        if begun:
            self._create(everything, {"bad_copies"})

    def _create(self, scanned: Scanned, names: set[str]) -> None:
        """Create the relations *names* that only the checker has, and forget what they were made of in common."""
        for name in sorted(names):
            self._store.create_from(name, MAKERS[name](scanned))
        scanned.made.clear()

    def _show(self, differences: Differences, gathered: Gathered) -> None:
        name, more = gathered.relation.name, {}
        if name in (INODES.name, NAMES.name):
            more["differs"] = differences.differs(gathered)
        if name == INODES.name:
            linked = gathered.relation._replace(name="linked_inodes")
            self._store.create(gathered._replace(relation=linked), **more)
            self._store.create_view(name, "select * exclude (differs) from linked_inodes where differs")
            self._store.create_from("present", differences.present())
            return
        self._store.create(gathered, **more)

    def answers(self, rules: Sequence[Rule]) -> Iterator[tuple[Rule, dict[str, Any]]]:
        """Yield the rows that the queries of *rules* return, rule by rule."""
        # Most rules are about what is wrong, and on a sound image there is nothing in what they read.
        asked = [rule for rule in rules if not self._store.silent(rule.query, rule.of)]
        refused = rule_of("image-unreadable")
        yield from ((refused, {"detail": sentence}) for sentence in self._store.refused)
        for rule, answer in zip(asked, self._store.answers([each.query for each in asked]), strict=True):
            if isinstance(answer, QueryError):
                yield refused, {"detail": f"{rule.code} could not be judged: {answer}"}
                continue
            columns, several = answer
            for rows in several:
                if "name" in columns:
                    at = columns.index("name")
                    self._names.learn(row[at] for row in rows)
                for row in rows:
                    found = dict(zip(columns, row, strict=True))
                    yield rule, found | ({"name": self._names.text(found["name"])} if "name" in found else {})


def _scanned(words: set[str], names: set[str], whole: Iterable[Relation]) -> list[Relation]:
    """Return the relations to be made in the scan of all leaves, for *words*: *names*, with all columns of *whole*."""
    columns = words.union(*ENDS.values(), *([column.name for column in relation.columns] for relation in whole))
    if {"bad_blocks", "bad_items"} & words:  # what is wrong with items shows when rows are made of them
        names = names | RELATIONS.keys()
    if "bad_copies" in words:
        names, columns = names.union(relation.name for relation in _SCRUBBED), columns.union(*TELLING)
    return [relation.only(columns) for name, relation in RELATIONS.items() if name in names & TAKES.keys()]

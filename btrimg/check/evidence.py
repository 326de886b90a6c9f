"""The relations that rules judge, in a database of their own.

All trees are read once. Of subvolumes that share most of their inodes, what is shared is there once
(:mod:`btrimg.tables.differences`), and names are numbers, of which ``text`` makes names again for a finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.check import derived, disputes, freespace, quotas, rootfacts, superblocks
from btrimg.check.faults import bad_blocks, bad_items
from btrimg.check.itemfaults import ItemJudge
from btrimg.check.references import data_uses
from btrimg.filesystem.leafrows import LeafTable
from btrimg.tables.build import FEW, few
from btrimg.tables.differences import ENDS, Differences, versions
from btrimg.tables.hashes import fingerprints
from btrimg.tables.leafscan import TAKES, Gathered, LeafScan, deleted_trees, every_tree
from btrimg.tables.native import create_table
from btrimg.tables.query import connect
from btrimg.tables.schema import BACKREFS, EXTENTS, INODES, NAMES, RELATIONS, TREE_BLOCKS, XATTRS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from numpy.typing import NDArray

    from btrimg.check.rule import Rule
    from btrimg.errors import CorruptError
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.strings import Strings

    T = TypeVar("T")

_ROWS_AT_ONCE = 10_000
_NAMED = (NAMES.name, XATTRS.name)  # relations whose column "name" is a fingerprint


class Scanned(NamedTuple):
    """What the relations that only the checker has are made of."""

    image: Image
    scan: LeafScan
    tables: dict[str, LeafTable[Any]]  #: those of FURTHER, by name
    gathered: dict[str, Gathered]  #: the relations that NEEDS names, by name
    faults: list[CorruptError]  #: what scanning met
    made: dict[Any, Any]  #: what ``once`` has made

    def once(self, make: Callable[[Scanned], T]) -> T:
        """Return what *make* makes, which is made once for all relations that need it."""
        if make not in self.made:
            self.made[make] = make(self)
        found: T = self.made[make]
        return found


def _bad_blocks(scanned: Scanned) -> dict[str, NDArray[Any]]:
    for number in range(len(scanned.scan.trees)):
        scanned.scan.leaves_of(number)  # which tells of blocks that reach into the next one of their tree
    return bad_blocks(scanned.faults)


#: Tables that are filled in the scan of all leaves, each with the names of the relations that it is for.
FURTHER: dict[str, tuple[set[str], Callable[[Image], LeafTable[Any]]]] = {
    "item_faults": ({"bad_items"}, lambda image: LeafTable(ItemJudge(image.volume).faults)),
    "free_space_infos": ({"free_space_infos"}, lambda _image: LeafTable(freespace.infos)),
    "data_uses": ({"disputed", "unowned", "qgroup_counts"}, lambda _image: LeafTable(data_uses)),
}
#: Relations of leaves that relations of ``schema`` are made of.
NEEDS = dict.fromkeys(("disputed", "unowned", "recounted", "owner_refs", "qgroup_counts"), (EXTENTS, BACKREFS))
#: What makes the columns of each relation of ``schema`` once all leaves were scanned.
MAKERS: dict[str, Callable[[Scanned], dict[str, NDArray[Any]]]] = {
    "bad_blocks": _bad_blocks,
    "bad_items": lambda scanned: bad_items(scanned.faults, scanned.tables["item_faults"].rows),
    "disputed": disputes.disputed,
    "unowned": disputes.unowned,
    "recounted": disputes.recounted,
    "owner_refs": disputes.owner_refs,
    "free_space_infos": freespace.free_space_infos,
    "superblocks": superblocks.superblocks,
    "system_chunks": superblocks.system_chunks,
    **rootfacts.MAKERS,
    **quotas.MAKERS,
}


class Evidence:
    """The relations that some rules name; what making them met is evidence, too."""

    def __init__(self, image: Image, rules: Sequence[Rule]) -> None:
        self._con = connect()
        self._names: list[Strings] = []
        self._texts: dict[int, str] = {}
        self._faults: list[CorruptError] = []
        image.listen(self._faults.append)
        words = {word for rule in rules for word in derived.words_of(rule.query)}
        further = derived.needed(words)
        words |= {word for each in further for word in derived.words_of(each.query)}
        self._make(image, words)
        derived.make(self._con, further)

    def _make(self, image: Image, words: set[str]) -> None:
        """Make the relations that are among *words*, with the columns that are."""
        shown = words & RELATIONS.keys()
        if {INODES.name, "linked_inodes", "present"} & words:  # which inodes are linked is to be seen from names
            shown |= {INODES.name, NAMES.name}
        # What is wrong with items shows when rows are made of them.
        scanned = set(RELATIONS) if {"bad_blocks", "bad_items"} & words else shown
        for name in shown & FEW.keys():
            create_table(self._con, few(image, RELATIONS[name]), text=True)
        needed = {relation.name: relation for name in words & NEEDS.keys() for relation in NEEDS[name]}
        columns = words.union(*ENDS.values(), *([c.name for c in relation.columns] for relation in needed.values()))
        scanned = (scanned | needed.keys()) & TAKES.keys()
        leaves = [relation.only(columns) for name, relation in RELATIONS.items() if name in scanned]
        tables = {name: make(image) for name, (users, make) in FURTHER.items() if users & words}
        inodes = LeafTable(versions)
        scan = LeafScan(image, leaves, every_tree(image), [inodes, *tables.values()], deleted_trees(image))
        differences = Differences(scan, inodes)
        kept = {}
        for relation in sorted(leaves, key=lambda each: each.name != NAMES.name):
            if relation.name in shown | needed.keys():
                gathered = differences.gathered(relation)
            if relation.name in shown:
                self._create(differences, gathered)
            if relation.name in needed:
                kept[relation.name] = gathered
        if INODES.name in shown:
            self._con.execute("alter table inodes rename to linked_inodes")
            self._con.execute("create view inodes as select * exclude (differs) from linked_inodes where differs")
            self._con.register("present", differences.present())
        if TREE_BLOCKS.name in shown:
            blocks = scan.tree_blocks()
            rows = np.arange(len(blocks["logical"]))
            create_table(self._con, Gathered(TREE_BLOCKS, blocks, rows, np.empty(0, np.uint64)), text=True)
        everything = Scanned(image, scan, tables, kept, self._faults, {})
        for name in words & MAKERS.keys():
            self._con.register(name, MAKERS[name](everything))

    def _create(self, differences: Differences, gathered: Gathered) -> None:
        relation, more = gathered.relation, {}
        if relation.name in (INODES.name, NAMES.name):
            more["differs"] = differences.differs(gathered)
        if relation.name in _NAMED and "name" in gathered.different:
            self._names.append(gathered.different["name"])  # type: ignore[arg-type]
        create_table(self._con, gathered, text=relation.name not in _NAMED, **more)

    def rows_of(self, rule: Rule) -> Iterator[dict[str, Any]]:
        """Yield the rows that a rule's query returns."""
        answer = self._con.execute(rule.query)
        columns = [name for name, *_ in answer.description]
        while rows := answer.fetchmany(_ROWS_AT_ONCE):
            if "name" in columns:
                self._learn({row[columns.index("name")] for row in rows})
            for row in rows:
                found = dict(zip(columns, row, strict=True))
                if "name" in found:
                    found["name"] = self._texts.get(found["name"], found["name"])
                yield found

    def _learn(self, numbers: set[Any]) -> None:
        """Find the text of names by their fingerprints."""
        unknown = np.array([number for number in numbers - self._texts.keys() if isinstance(number, int)], np.uint64)
        if not len(unknown):
            return
        for names in self._names:
            found = fingerprints(names)
            at = np.flatnonzero(np.isin(found, unknown))
            for number, row in zip(found[at].tolist(), at.tolist(), strict=True):
                if number not in self._texts:
                    self._texts[number] = names.decode(row).decode("utf-8", "backslashreplace")

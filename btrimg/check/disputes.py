"""References that the trees make held against those that the extent tree records: where the two differ."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.references import EXTENT_DATA, KINDS, OWNER, SHARED_BLOCK, SHARED_DATA, TREE_BLOCK, references
from btrimg.filesystem.treepaths import find
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import Incompat
from btrimg.tables.hashes import mixed
from btrimg.tables.schema import BACKREFS, EXTENT_KINDS, EXTENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.check.makers import Scanned
    from btrimg.check.references import Made, References
    from btrimg.tables.leafscan import Gathered

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]
    Columns = dict[str, NDArray[Any]]

_DATA, _BLOCK = EXTENT_KINDS.index("data"), EXTENT_KINDS.index("tree block")
_REFERENCE = ("extent", "kind", "root", "parent", "inode", "offset")  # columns that tell references apart


class Records(NamedTuple):
    """What the extent tree says; words are indexes."""

    extents: Columns  #: of the relation, by address
    backrefs: Columns  #: of the relation, without owners
    item: Ints  #: of each of *backrefs* the number of its extent among *extents*, -1 for one that is not there
    owners: Columns  #: of the relation backrefs, owners only


def _records(scanned: Scanned) -> Records:
    extents, backrefs = (_columns(scanned.gathered[each.name]) for each in (EXTENTS, BACKREFS))
    owner = backrefs["kind"] == OWNER
    others = backrefs
    if owner.any():
        others = {name: column[~owner] for name, column in backrefs.items()}
    owners = {name: column[owner] for name, column in backrefs.items()}
    return Records(extents, others, find(extents["logical"], others["extent"]), owners)


def _columns(gathered: Gathered) -> Columns:
    """Return the columns of a relation that is in order, as ``Gathered.in_order`` makes it."""
    columns: Any = gathered.different
    return dict(columns)


def owner_refs(scanned: Scanned) -> Columns:
    """Return the columns of ``owner_refs`` of check/schema.py."""
    owners, extents = scanned.once(_records).owners, scanned.once(_records).extents
    item = find(extents["logical"], owners["extent"])
    kinds = np.array(EXTENT_KINDS, object)[np.append(extents["kind"], 0)[item]]
    simple = scanned.image.superblock.incompat_flags & Incompat.SIMPLE_QUOTA != 0
    columns = {"extent": owners["extent"], "root": owners["root"], "kind": kinds}
    return columns | {"simple_quotas": np.full(len(item), simple)}


def recounted(scanned: Scanned) -> Columns:
    """Return the columns of ``recounted`` of check/schema.py."""
    records = scanned.once(_records)
    extents = records.extents
    found = np.zeros(len(extents["logical"]) + 1, np.uint64)  # the last one is for number -1
    np.add.at(found, records.item, records.backrefs["count"].astype(np.uint64))
    wrong = np.flatnonzero(found[:-1] != extents["refs"])
    return {"extent": extents["logical"][wrong], "refs": extents["refs"][wrong], "recorded": found[wrong]}


def unaligned_backrefs(scanned: Scanned) -> Columns:
    """Return the columns of ``unaligned_backrefs`` of check/schema.py."""
    backrefs, size = _columns(scanned.gathered[BACKREFS.name]), scanned.image.superblock.sectorsize
    wrong = np.flatnonzero((backrefs["parent"] % np.uint64(size) != 0) | (backrefs["offset"] % np.int64(size) != 0))
    return {
        "extent": backrefs["extent"][wrong],
        "kind": np.array(KINDS, object)[backrefs["kind"][wrong]],
        "parent": backrefs["parent"][wrong],
        "offset": backrefs["offset"][wrong],
        "sectorsize": np.full(len(wrong), size, np.uint32),
    }


def _made(scanned: Scanned) -> Made:
    scan, extents = scanned.scan, scanned.once(_records).extents
    trees = [*scan.trees, *scan.deleted.trees]
    return references(scan.forest, trees, scanned.tables["data_uses"], extents, scanned.image.volume.nodesize)


def unowned(scanned: Scanned) -> Columns:
    """Return the columns of ``unowned`` of check/schema.py."""
    made = scanned.once(_made)
    return {"logical": made.unowned, "owner": made.owner}


def disputed(scanned: Scanned) -> Columns:
    """Return the columns of ``disputed`` of check/schema.py."""
    records, made = scanned.once(_records), scanned.once(_made).references
    extents, backrefs = records.extents, records.backrefs
    item = find(extents["logical"], made.extent)
    wrong = _wrong(made, item, extents)
    suspect = np.append(_unbalanced(made, item, records), True)  # the last one is for number -1
    suspect[item[wrong]] = True
    some, others = np.flatnonzero(suspect[item]), np.flatnonzero(suspect[records.item])
    return _compared(made.take(some), wrong[some], {name: column[others] for name, column in backrefs.items()})


def _wrong(made: References, item: Ints, extents: Columns) -> Truths:
    """Return which uses take the extent for what it is not: of another length, kind or level; or there is none."""
    if not len(extents["logical"]):
        return np.ones(len(made.extent), np.bool_)
    wrong: Truths = (item < 0) | (extents["length"][item] != made.length) | (extents["level"][item] != made.level)
    wrong |= extents["kind"][item] != np.where(made.kind < EXTENT_DATA, _BLOCK, _DATA)
    return wrong


def _unbalanced(made: References, item: Ints, records: Records) -> Truths:
    """Return of which extents uses and records may differ, or records may be double.

    The first where sums of a random number for each differ; the numbers are drawn anew each time, so that no image can
    be made to have equal sums of different references.
    """
    seeds = np.frombuffer(os.urandom(8 * 8), np.uint64) | np.uint64(1)
    backrefs = records.backrefs
    sums = np.zeros(len(records.extents["logical"]) + 1, np.uint64)  # the last one is for number -1
    np.add.at(sums, item, _mixed(made._asdict(), seeds))
    mixed = _mixed(backrefs, seeds)
    np.subtract.at(sums, records.item, mixed * backrefs["count"].astype(np.uint64))
    unbalanced: Truths = sums[:-1] != 0
    # Inline ones that are the same stand side by side; of the others there are few.
    double = np.flatnonzero((mixed[1:] == mixed[:-1]) & (records.item[1:] == records.item[:-1]))
    keyed = np.flatnonzero(~backrefs["inline"])
    suspect = np.concatenate([records.item[double], records.item[keyed]])
    unbalanced[suspect[suspect >= 0]] = True
    return unbalanced


def _mixed(columns: Columns, seeds: Unsigned) -> Unsigned:
    """Return a number for the reference in each row."""
    whose = columns["root"] + columns["parent"]  # one of them is 0
    return mixed(seeds, columns["kind"].astype(np.uint64), whose, columns["inode"], columns["offset"].view(np.uint64))


def _compared(made: References, wrong: Truths, backrefs: Columns) -> Columns:
    """Return a row for each different reference that is made and recorded unequally often, or wrongly, or twice."""
    uses = len(made.extent)
    both = np.empty(uses + len(backrefs["extent"]), [(name, ">u8") for name in _REFERENCE])
    for name in _REFERENCE:
        both[name] = np.concatenate([getattr(made, name), backrefs[name].astype(np.uint64)])
    whole = both.view(f"S{both.dtype.itemsize}")
    _, first, number = np.unique(whole, return_index=True, return_inverse=True)
    of_use, of_record = number[:uses], number[uses:]
    recorded = np.zeros(len(first), np.uint64)
    np.add.at(recorded, of_record, backrefs["count"].astype(np.uint64))
    used, records = (np.bincount(some, minlength=len(first)) for some in (of_use, of_record))
    length, level = np.zeros(len(first), np.uint64), np.zeros(len(first), np.uint8)
    for some in (np.arange(uses), np.flatnonzero(wrong)):  # the wrong ones of several last
        length[of_use[some]], level[of_use[some]] = made.length[some], made.level[some]
    kept = (used.astype(np.uint64) != recorded) | (records > 1)
    kept[of_use[wrong]] = True
    columns = {name: both[name][first[kept]].astype(np.uint64) for name in _REFERENCE}
    rows = zip(*(columns[name].tolist() for name in _REFERENCE[1:]), strict=True)
    return {
        **columns,
        "kind": np.array(KINDS, object)[columns["kind"].astype(np.intp)],
        "offset": columns["offset"].view(np.int64),
        "uses": used[kept],
        "recorded": recorded[kept],
        "records": records[kept],
        "length": length[kept],
        "level": level[kept],
        "user": np.array([_user(*row) for row in rows], object),
    }


def _user(kind: int, root: int, parent: int, inode: int, offset: int) -> str:
    """Return what people call what refers."""
    if kind in (SHARED_BLOCK, SHARED_DATA):
        return f"tree block {parent}"
    if kind == TREE_BLOCK:
        return f"tree {root}"
    return f"inode {inode} of tree {root} (data from {offset - (offset >> 63 << 64)} on)"

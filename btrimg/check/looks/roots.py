"""Looks at what queries read of the root tree: trees, subvolumes and where these hang."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.looks.rows import pairs
from btrimg.ondisk.constants import MAX_LEVEL, ItemType, TreeId
from btrimg.trees.block import is_subvolume
from btrimg.trees.distinct import among, different
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from btrimg.check.looks.rows import Look, Relations

    Ref = tuple[int, int, int, int, str, int]  # subvolume, parent, dirid, sequence, name and its number

_NONE = uuid_text(bytes(16))
_KNOWN_FLAGS = np.uint64(1 << 48 | 1)  # read-only and dead
_DIRECTORY = 4  # upper bits of a mode


def odd_roots(relations: Relations) -> bool:
    """Look for root items whose numbers cannot be."""
    rows, last = relations["roots"], relations["superblock"].only("generation")
    odd = (rows["level"] >= MAX_LEVEL) | (rows["drop_level"] >= MAX_LEVEL) | (rows["flags"] & ~_KNOWN_FLAGS > 0)
    for name in ("generation", "generation_v2", "last_snapshot"):
        odd |= rows[name] > last
    return bool(odd.any())


def root_duplicate(relations: Relations) -> bool:
    """Look for ids that several root items have."""
    ids = relations["roots"]["id"]
    return len(different(ids)) < len(ids)


def _refs(relations: Relations, source: str) -> list[Ref]:
    """Return what the items of one kind say, in order."""
    rows = relations["root_refs"]
    some = np.flatnonzero(rows.says("source", source))
    names = ("subvolume", "parent", "dirid", "sequence", "name", "name_number")
    return sorted(zip(*(rows[name][some].tolist() for name in names), strict=True))


def root_refs_differ(relations: Relations) -> bool:
    """Look for subvolumes of which parent and child do not say the same, or several things."""
    forth, back = (_refs(relations, source) for source in ("root_ref", "root_backref"))
    return forth != back or 2 * len({ref[:2] for ref in forth}) < len(relations["root_refs"])


def root_missing(relations: Relations) -> bool:
    """Look for subvolumes that hang somewhere without a root item."""
    return not among(relations["root_refs"]["subvolume"], relations["roots"]["id"]).all()


def root_refs(relations: Relations) -> bool:
    """Look for subvolumes that count other places than they hang at in the filesystem that is mounted."""
    forth = _refs(relations, "root_ref")
    children: dict[int, list[int]] = {}
    for subvolume, parent, *_ in forth:
        children.setdefault(parent, []).append(subvolume)
    counted: dict[int, int] = {}
    reached, new = {int(TreeId.FS_TREE)}, [int(TreeId.FS_TREE)]
    while new:
        for subvolume in children.get(new.pop(), ()):
            counted[subvolume] = counted.get(subvolume, 0) + 1
            if subvolume not in reached:
                reached.add(subvolume)
                new.append(subvolume)
    roots = zip(relations["roots"]["id"].tolist(), relations["roots"]["refs"].tolist(), strict=True)
    return any(refs != counted.get(tree, 0) for tree, refs in roots if is_subvolume(tree) and tree != TreeId.FS_TREE)


def root_entry(relations: Relations) -> bool:
    """Look for subvolumes without entries of both kinds in the directory that they hang in."""
    rows, forth = relations["names"], _refs(relations, "root_ref")
    of_subvolume = np.flatnonzero(rows["location_type"] == ItemType.ROOT_ITEM)
    names = ("inode", "subvolume", "parent", "name", "index")
    found = [*zip(*(rows[name][of_subvolume].tolist() for name in names), strict=True)]
    sources = [rows.says("source", kind)[of_subvolume].tolist() for kind in ("dir_item", "dir_index")]
    items = {row[:4] for row, is_item in zip(found, sources[0], strict=True) if is_item}
    indexes = {row for row, is_index in zip(found, sources[1], strict=True) if is_index}
    places = [(subvolume, parent, dirid, number, sequence) for subvolume, parent, dirid, sequence, _, number in forth]
    return not (items.issuperset(place[:4] for place in places) and indexes.issuperset(places))


def default_subvolume(relations: Relations) -> bool:
    """Look for a default that leads to no subvolume."""
    rows, roots = relations["root_entries"], relations["roots"]
    there = {*roots["id"][roots["refs"] > 0].tolist()}
    entries = zip(rows["name"].tolist(), rows["id"].tolist(), rows["location_type"].tolist(), strict=True)
    return any(
        kind != ItemType.ROOT_ITEM or not is_subvolume(tree) or tree not in there
        for name, tree, kind in entries
        if name == "default"
    )


def uuid_missing(relations: Relations) -> bool:
    """Look for subvolumes that the UUID tree does not have."""
    rows, uuids = relations["subvolumes"], relations["uuids"]
    kinds = uuids.says("kind", "subvolume").tolist()
    entries = zip(uuids["subvolume"].tolist(), uuids["uuid"].tolist(), kinds, strict=True)
    known = {(tree, uuid) for tree, uuid, is_own in entries if is_own}
    subvolumes = zip(rows["id"].tolist(), rows["uuid"].tolist(), strict=True)
    return len(uuids) > 0 and not known.issuperset(each for each in subvolumes if each[1] != _NONE)


def uuid_stale(relations: Relations) -> bool:
    """Look for entries of the UUID tree that lead to no such subvolume."""
    rows, uuids = relations["subvolumes"], relations["uuids"]
    ids = rows["id"].tolist()
    known = {
        *((tree, uuid, True) for tree, uuid in zip(ids, rows["uuid"].tolist(), strict=True)),
        *((tree, uuid, False) for tree, uuid in zip(ids, rows["received_uuid"].tolist(), strict=True)),
    }
    kinds = uuids.says("kind", "subvolume").tolist()
    return len({*ids}) < len(ids) or not known.issuperset(
        zip(uuids["subvolume"].tolist(), uuids["uuid"].tolist(), kinds, strict=True)
    )


def subvolume_received(relations: Relations) -> bool:
    """Look for subvolumes that were received and can be written."""
    rows = relations["subvolumes"]
    return bool((~rows["read_only"] & ~rows.says("received_uuid", _NONE)).any())


def root_orphan_missing(relations: Relations) -> bool:
    """Look for subvolumes that hang nowhere."""
    ids, refs = relations["roots"]["id"], relations["roots"]["refs"]
    return any(is_subvolume(tree) for tree in ids[refs == 0].tolist())


def root_directory(relations: Relations) -> bool:
    """Look for top directories that are not there, or are not as such have to be."""
    roots, inodes, names, known = (relations[name] for name in ("roots", "inodes", "names", "known_names"))
    linked = relations["linked_inodes"]
    tops = pairs(roots["id"], roots["root_dirid"])
    there, top, named = (pairs(each["subvolume"], each["inode"]) for each in (linked, inodes, names))
    if tops is None or there is None or top is None or named is None:
        return True
    ids, used = roots["id"].tolist(), (roots["refs"] > 0).tolist()
    needed = [number for number, tree in enumerate(ids) if is_subvolume(tree) and used[number]]
    if not among(tops[needed], there).all():
        return True
    some = np.flatnonzero(among(top, tops))
    if (inodes["mode"][some] >> 12 != _DIRECTORY).any() or (inodes["nlink"][some] != 1).any():
        return True
    refs = np.flatnonzero(among(named, tops) & (names["location_type"] != ItemType.ROOT_ITEM))
    if (names["parent"][refs] != names["inode"][refs]).any() or names["index"][refs].any():
        return True
    (dots,) = known["number"][known.says("text", "..")].tolist()
    return not among(top[some], named[refs[names["name"][refs] == dots]]).all()


LOOKS: dict[str, Look] = {
    "odd_roots": odd_roots,
    "root-duplicate": root_duplicate,
    "root-missing": root_missing,
    "root-ref-missing": root_refs_differ,
    "root-ref-mismatch": root_refs_differ,
    "root-refs": root_refs,
    "root-entry": root_entry,
    "default-subvolume": default_subvolume,
    "uuid-missing": uuid_missing,
    "uuid-stale": uuid_stale,
    "subvolume-received": subvolume_received,
    "root-orphan-missing": root_orphan_missing,
    "root-directory": root_directory,
}

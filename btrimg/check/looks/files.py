"""Looks at what queries read of the trees of files: inodes, names, extended attributes and file extents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.filedata import cannot_be
from btrimg.check.links import file_types
from btrimg.check.looks.rows import are_small, pairs
from btrimg.filesystem.treepaths import find
from btrimg.ondisk.constants import FILE_TYPES, NAME_MAX, Incompat, InodeFlag, ItemType, TreeId
from btrimg.trees.distinct import among, different

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.check.looks.rows import Look, Relations, Rows

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]

_DIRECTORY, _SYMLINK = 4, 10  # upper bits of a mode
_KINDS = np.array([mode >> 12 for mode in FILE_TYPES], np.uint32)
_UNCHANGEABLE = np.uint64(InodeFlag.IMMUTABLE | InodeFlag.APPEND)


def _inodes(rows: Rows) -> Unsigned | None:
    """Return a number for the inode that each row is about, None where that cannot be."""
    return pairs(rows["subvolume"], rows["inode"])


def odd_file_extents(relations: Relations) -> bool:
    """Look for file extents whose numbers cannot be, or that their inode should not have."""
    rows, inodes, superblock = relations["file_extents"], relations["inodes"], relations["superblock"]
    odd = cannot_be(rows, *(superblock.only(name) for name in ("sectorsize", "nodesize", "generation")))
    known, users = _inodes(inodes), _inodes(rows)
    if odd.any() or known is None or users is None:
        return True
    kind = inodes["mode"] >> 12
    inline = rows.says("kind", "inline")
    odd |= among(users, known[kind == _DIRECTORY]) | ~inline & among(users, known[kind == _SYMLINK])
    without_sums = inodes["flags"] & np.uint64(InodeFlag.NODATASUM) > 0
    return bool((odd | rows.says("kind", "compressed") & among(users, known[without_sums])).any())


def file_extent_overlap(relations: Relations) -> bool:
    """Look for file extents that reach into the next one of their file."""
    rows, sectorsize = relations["file_extents"], relations["superblock"].only("sectorsize")
    if not are_small(rows["offset"], rows["length"]):
        return True
    order = np.lexsort((rows["offset"], rows["inode"], rows["subvolume"]))
    tree, inode, start, length = (rows[name][order] for name in ("subvolume", "inode", "offset", "length"))
    whole = (length + sectorsize - 1) // sectorsize * sectorsize
    end = start + np.where(rows.says("kind", "inline")[order], whole, length)
    return bool(((tree[1:] == tree[:-1]) & (inode[1:] == inode[:-1]) & (end[:-1] > start[1:])).any())


def file_extent_gap(relations: Relations) -> bool:
    """Look for a filesystem in which all holes have file extents."""
    return not relations["superblock"].only("incompat_flags") & Incompat.NO_HOLES


def odd_inodes(relations: Relations) -> bool:
    """Look for inodes whose numbers cannot be, or are not those of the entries below them."""
    rows, directories, last = relations["inodes"], relations["directories"], relations["superblock"].only("generation")
    kind, nlink = rows["mode"] >> 12, rows["nlink"]
    odd = (nlink == 0) | ~among(kind, _KINDS) | (rows["inode"] == TreeId.FREE_INO)
    odd |= (rows["generation"] > last) | (rows["transid"] > last)
    odd |= (kind == _SYMLINK) & (rows["flags"] & _UNCHANGEABLE > 0)
    known, users = _inodes(directories), _inodes(rows)
    if odd.any() or known is None or users is None or len(different(known)) < len(known):
        return True
    order = np.argsort(known)
    at = find(known[order], users)
    entries, size = (np.append(directories[name][order], 0)[at] for name in ("entries", "names_size"))
    is_directory = kind == _DIRECTORY
    odd |= is_directory & ((nlink > 1) | (rows["size"] != size.astype(np.uint64)))
    return bool((odd | ~is_directory & (entries > 0)).any())


def odd_directories(relations: Relations) -> bool:
    """Look for directories whose names have to be looked at one by one."""
    return bool(relations["directories"]["odd"].any())


def _of_shared(names: Rows) -> Truths:
    """Return which names are of inodes that another subvolume has, and that are looked at there."""
    found: Truths = ~names["differs"] & (names["location_type"] != ItemType.ROOT_ITEM)
    return found


def wrong_names(relations: Relations) -> bool:
    """Look for names that cannot be so whatever they lead to."""
    rows = relations["names"]
    leads_to, size = rows["location_type"], rows["name_length"]
    to_subvolume = leads_to == ItemType.ROOT_ITEM
    odd = (rows["hash"] != rows["expected_hash"]) | (size == 0) | (size > NAME_MAX)
    odd |= rows.says("source", "dir_item", "dir_index") & (leads_to != ItemType.INODE_ITEM) & ~to_subvolume
    return bool((odd | to_subvolume & (rows["type"] != FILE_TYPES[_DIRECTORY << 12])).any())


def name_filetype(relations: Relations) -> bool:
    """Look for entries of another type than the inodes that they lead to."""
    names, inodes = relations["names"], relations["linked_inodes"]
    known, users = _inodes(inodes), _inodes(names)
    if wrong_names(relations) or len(relations["odd_ranges"]) or known is None or users is None:
        return True
    some = np.flatnonzero(_of_shared(names) & names.says("source", "dir_item", "dir_index"))
    order = np.argsort(known)
    at = find(known[order], users[some])
    file_type = np.append(file_types(inodes["mode"][order]), np.uint64(0))[at]
    return bool(((at >= 0) & (file_type != names["type"][some])).any())


def name_duplicate(relations: Relations) -> bool:
    """Look for names that come again in a directory."""
    rows = relations["names"]
    some = np.flatnonzero(rows.says("source", "dir_item"))
    key = [rows[name][some] for name in ("subvolume", "parent", "name")]
    order = np.lexsort(key)
    same = np.ones(max(len(some) - 1, 0), np.bool_)
    for column in key:
        same &= column[order][1:] == column[order][:-1]
    return bool(same.any())


def inode_missing(relations: Relations) -> bool:
    """Look for what there is of inodes that are not there."""
    names, directories = relations["names"], relations["directories"]
    several = (names, directories, relations["xattrs"], relations["file_extents"], relations["linked_inodes"])
    of_names, of_directories, of_xattrs, of_extents, known = map(_inodes, several)
    if of_names is None or of_directories is None or of_xattrs is None or of_extents is None or known is None:
        return True
    told = (of_names[_of_shared(names)], of_directories[directories["entries"] > 0], of_xattrs, of_extents)
    return len(relations["odd_ranges"]) > 0 or not among(np.concatenate(told), known).all()


def xattr_name(relations: Relations) -> bool:
    """Look for extended attributes whose names cannot be so."""
    rows = relations["xattrs"]
    size = rows["name_length"]
    return bool(((rows["hash"] != rows["expected_hash"]) | (size == 0) | (size > NAME_MAX)).any())


LOOKS: dict[str, Look] = {
    "odd_file_extents": odd_file_extents,
    "file-extent-overlap": file_extent_overlap,
    "file-extent-gap": file_extent_gap,
    "odd_inodes": odd_inodes,
    "odd_directories": odd_directories,
    "wrong_names": wrong_names,
    "name-filetype": name_filetype,
    "name-duplicate": name_duplicate,
    "inode-missing": inode_missing,
    "xattr-name": xattr_name,
}

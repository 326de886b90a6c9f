"""Looks at what queries read of the logical space: extents, block groups, free space and checksums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.looks.rows import are_small, has_free_space_tree, ordered, ordered_of, pairs
from btrimg.filesystem.treepaths import find
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.constants import (
    BACKREF_REV_SHIFT,
    FIRST_CHUNK_TREE_OBJECTID,
    BlockGroup,
    CsumType,
    ExtentFlag,
    FreeSpaceFlag,
    HeaderFlag,
    InodeFlag,
    TreeId,
)
from btrimg.trees.distinct import among
from btrimg.units import KIB

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.check.looks.rows import Look, Ordered, Relations, Rows

    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]

_BLOCKS = np.uint64(BlockGroup.SYSTEM | BlockGroup.METADATA)
_DATA, _SYSTEM, _METADATA = (np.uint64(flag) for flag in (BlockGroup.DATA, BlockGroup.SYSTEM, BlockGroup.METADATA))
_SUM_SIZES = {int(CsumType.CRC32C): 4, int(CsumType.XXHASH64): 8}
_OTHER_SUM_SIZE = 32
_NEGATIVE = np.uint64(1 << 63)
_ROW = 64 * KIB  # bytes, of which the kernel takes no tree block to reach over the end


def misplaced_extents(relations: Relations) -> bool:
    """Look for extents and tree blocks that are not within a block group for such as they are."""
    groups, extents = ordered_of(relations["block_groups"]), ordered_of(relations["extents"])
    if groups is None or extents is None:
        return True
    flags = np.append(relations["block_groups"]["flags"], np.uint64(0))  # the last is for extents outside
    holds = np.where(relations["extents"].says("kind", "data"), _DATA, _BLOCKS)
    if (flags[groups.holding(*extents)] & holds == 0).any():
        return True
    blocks = relations["tree_blocks"]
    of_block = flags[groups.holding(blocks["logical"], blocks["logical"] + np.uint64(1))]
    right = np.where(blocks["owner"] == TreeId.CHUNK_TREE, _SYSTEM, _METADATA)
    return bool(((of_block & right == 0) & (of_block & _BLOCKS > 0) & (blocks["owner"] < _NEGATIVE)).any())


def odd_groups(relations: Relations) -> bool:
    """Look for block groups that count other bytes than there are, or that chunks or free space tree do not have."""
    rows = relations["block_groups"]
    groups, extents = ordered_of(rows), ordered_of(relations["extents"])
    if groups is None or extents is None or (rows["used"] > rows["length"]).any():
        return True
    sums = np.append(np.uint64(0), np.cumsum(extents.end - extents.start))  # of what does not overlap: no overflow
    first = np.searchsorted(extents.start, groups.start)
    found = sums[np.append(first[1:], len(extents.start))[: len(first)]] - sums[first]
    odd = (found != rows["used"]) | (rows["chunk_objectid"] != FIRST_CHUNK_TREE_OBJECTID)
    odd |= ~among(groups.start, relations["chunks"]["logical"])
    if has_free_space_tree(relations):
        infos = relations["free_space_infos"]
        odd |= ~_among_pairs(groups.start, rows["length"], infos["logical"], infos["length"])
    return bool(odd.any())


def _among_pairs(start: Unsigned, length: Unsigned, starts: Unsigned, lengths: Unsigned) -> Truths:
    """Return which ranges there are among others, of which only one has the same start."""
    order = np.argsort(starts)
    at = find(starts[order], start)
    found: Truths = (at >= 0) & (np.append(lengths[order], np.uint64(0))[at] == length)
    return found


class _Free(NamedTuple):
    """Free ranges by the free space tree."""

    start: Unsigned
    end: Unsigned
    in_bitmap: Truths  #: whether a bitmap says so


def _free(relations: Relations) -> _Free | None:
    """Return the free ranges, None if some are too large to reckon with."""
    rows = relations["free_space"]
    some = np.flatnonzero(~rows.says("source", "cache"))
    start, length = rows["logical"][some], rows["length"][some]
    return _Free(start, start + length, rows.says("source", "bitmap")[some]) if are_small(start, length) else None


def seams(relations: Relations) -> bool:
    """Look for extents and free space that do not begin where what is before them ends."""
    extents = ordered_of(relations["extents"])
    if extents is None:
        return True
    if not has_free_space_tree(relations):
        return False
    free, first, length = _free(relations), relations["block_groups"]["logical"], relations["block_groups"]["length"]
    if free is None or (free.start == free.end).any() or not are_small(first, length):
        return True
    # At one address the end of a block group comes first, then the start of the next one, then what is in that.
    ends, starts, pieces = range(3)
    kind = np.repeat(np.arange(3, dtype=np.uint8), [len(first), len(first), len(extents.start) + len(free.start)])
    start = np.concatenate([first + length, first, extents.start, free.start])
    end = np.concatenate([first + length, first, extents.end, free.end])
    order = np.argsort(start, kind="stable")
    start, end, kind = start[order], end[order], kind[order]
    overlap = (start[1:] < end[:-1]) & (kind[1:] == pieces) & (kind[:-1] == pieces)
    gap = (start[1:] > end[:-1]) & (kind[1:] != starts) & (kind[:-1] != ends)
    return bool((overlap | gap).any())


def odd_free_space(relations: Relations) -> bool:
    """Look for heads of block groups in the free space tree that count other free space than there is."""
    infos, groups = relations["free_space_infos"], relations["block_groups"]
    if not has_free_space_tree(relations):
        return False
    heads, free = ordered_of(infos), _free(relations)
    if heads is None or free is None or ordered(free.start, free.end) is None:
        return True
    start, end, in_bitmap = free
    if not _among_pairs(heads.start, infos["length"], groups["logical"], groups["length"]).all():
        return True
    head = heads.holding(start, end)
    if (head < 0).any():
        return True
    goes_on = in_bitmap[1:] & (start[1:] == end[:-1]) & (head[1:] == head[:-1])
    counted = np.append(True, ~goes_on)[: len(start)]
    found = np.bincount(head[counted], minlength=len(infos))
    of_bitmaps = infos["flags"] & np.uint32(FreeSpaceFlag.USING_BITMAPS) > 0
    return bool((found != infos["extent_count"]).any() or (of_bitmaps[head] != in_bitmap).any())


def stray_free_space(relations: Relations) -> bool:
    """Look for free space outside all block groups and all that the free space tree has a head for."""
    if not has_free_space_tree(relations):
        return False
    groups, heads = ordered_of(relations["block_groups"]), ordered_of(relations["free_space_infos"])
    free = _free(relations)
    if groups is None or heads is None or free is None:
        return True
    return bool(((groups.holding(free.start, free.end) < 0) & (heads.holding(free.start, free.end) < 0)).any())


def _runs(csums: Rows) -> Ordered | None:
    """Return the ranges that have checksums, those that touch as one."""
    found = ordered_of(csums)
    return found and found.joined()


def csum_unused(relations: Relations) -> bool:
    """Look for checksums of what is no allocated data."""
    extents, runs = relations["extents"], _runs(relations["csums"])
    data = np.flatnonzero(extents.says("kind", "data"))
    start = extents["logical"][data]
    found = ordered(start, start + extents["length"][data])
    return runs is None or found is None or bool((found.joined().holding(*runs) < 0).any())


def odd_csums(relations: Relations) -> bool:
    """Look for items of checksums that overlap, or hold too many."""
    csums, superblock = relations["csums"], relations["superblock"]
    size = _SUM_SIZES.get(superblock.only("csum_type"), _OTHER_SUM_SIZE)
    most = (superblock.only("nodesize") - Header.SIZE - 2 * Item.SIZE) // size - 1
    return _runs(csums) is None or bool((csums["length"] // superblock.only("sectorsize") > most).any())


def csum_missing(relations: Relations) -> bool:
    """Look for file extents without checksums of inodes that should have them."""
    rows, inodes, runs = relations["file_extents"], relations["inodes"], _runs(relations["csums"])
    numbers = [rows[name] for name in ("extent", "extent_offset", "extent_length", "length")]
    if runs is None or not are_small(*numbers):
        return True
    extent, within, whole, length = (number.astype(np.uint64) for number in numbers)
    compressed = rows.says("kind", "compressed")
    start = np.where(compressed, extent, extent + within)
    uncovered = runs.holding(start, start + np.where(compressed, whole, length)) < 0
    uncovered &= compressed | rows.says("kind", "regular")
    known, users = (pairs(each["subvolume"], each["inode"]) for each in (inodes, rows))
    if known is None or users is None:
        return bool(uncovered.any())
    summed = known[inodes["flags"] & np.uint64(InodeFlag.NODATASUM) == 0]
    return bool((uncovered & (compressed | among(users, summed))).any())


def needless_csums(relations: Relations) -> bool:
    """Look for checksums of what should have none: data of inodes that have none, and what was only preallocated."""
    rows, inodes, runs = relations["file_extents"], relations["inodes"], _runs(relations["csums"])
    numbers = [rows[name] for name in ("extent", "extent_offset", "length")]
    if runs is None or not are_small(*numbers):
        return True
    extent, within, length = (number.astype(np.uint64) for number in numbers)
    start = extent + within
    # Whether a run begins before the end of what is used, and ends after its start.
    before = np.searchsorted(runs.start, start + length)
    summed = before > np.searchsorted(runs.end, start, "right")
    regular = rows.says("kind", "regular")
    unwritten = rows.says("kind", "prealloc") & ~among(extent, extent[regular])
    known, users = (pairs(each["subvolume"], each["inode"]) for each in (inodes, rows))
    if known is None or users is None:
        return bool((summed & (regular | unwritten)).any())
    without = regular & among(users, known[inodes["flags"] & np.uint64(InodeFlag.NODATASUM) > 0])
    return bool((summed & (without | unwritten)).any())


def odd_extents(relations: Relations) -> bool:
    """Look for extents whose items cannot be so."""
    rows, superblock = relations["extents"], relations["superblock"]
    flags, start, length = rows["flags"], rows["logical"], rows["length"]
    block = rows.says("kind", "tree block")
    right = np.array([ExtentFlag.DATA, ExtentFlag.TREE_BLOCK, ExtentFlag.TREE_BLOCK | ExtentFlag.FULL_BACKREF], "u8")
    odd = ~among(flags, right) | (block != (flags & np.uint64(ExtentFlag.TREE_BLOCK) > 0))
    odd |= rows["generation"] > superblock.only("generation")
    odd |= block & ((length != superblock.only("nodesize")) | (start % np.uint64(_ROW) + length > _ROW))
    return bool(odd.any())


def odd_blocks(relations: Relations) -> bool:
    """Look for tree blocks whose extent items are of other transactions, or wrong about how they are referred to."""
    blocks, extents, roots = relations["tree_blocks"], relations["extents"], relations["roots"]
    if ordered_of(extents) is None:
        return True
    at = find(extents["logical"], blocks["logical"])
    some = np.flatnonzero(at >= 0)
    at, owner, generation, flags = at[some], blocks["owner"][some], blocks["generation"][some], blocks["flags"][some]
    if (extents["generation"][at] != generation).any():
        return True
    full = extents["flags"][at] & np.uint64(ExtentFlag.FULL_BACKREF) > 0
    moved = flags & np.uint64(HeaderFlag.RELOC) > 0
    of_files = (owner == TreeId.FS_TREE) | (owner >= TreeId.FIRST_FREE)
    order = np.argsort(roots["id"], kind="stable")
    root = find(roots["id"][order], owner)
    newer = generation > np.append(roots["last_snapshot"][order], np.uint64(0))[root]
    return bool(((moved & ~full) | (full & (~of_files | ~moved & newer))).any())


def odd_heads(relations: Relations) -> bool:
    """Look for heads of tree blocks that cannot be so."""
    rows, superblock = relations["tree_blocks"], relations["superblock"]
    flags, owner = rows["flags"], rows["owner"]
    odd = (flags & np.uint64(HeaderFlag.WRITTEN) == 0) | (flags >> np.uint64(BACKREF_REV_SHIFT) != 1)
    odd |= rows["generation"] > superblock.only("generation")
    odd |= rows["logical"] % np.uint64(superblock.only("sectorsize")) > 0
    empty = owner[rows["items"] == 0]
    never = (TreeId.ROOT_TREE, TreeId.EXTENT_TREE, TreeId.CHUNK_TREE, TreeId.DEV_TREE, TreeId.FS_TREE)
    return bool(odd.any() or among(empty, np.array([*never, TreeId.DATA_RELOC_TREE], np.uint64)).any())


LOOKS: dict[str, Look] = {
    "misplaced_extents": misplaced_extents,
    "odd_groups": odd_groups,
    "seams": seams,
    "odd_free_space": odd_free_space,
    "stray_free_space": stray_free_space,
    "csum-unused": csum_unused,
    "odd_csums": odd_csums,
    "csum-missing": csum_missing,
    "needless_csums": needless_csums,
    "odd_extents": odd_extents,
    "odd_blocks": odd_blocks,
    "odd_heads": odd_heads,
}

"""Looks at what queries read of devices: superblocks, chunks and where these lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.looks.rows import are_small, has_free_space_tree, ordered_of
from btrimg.errors import CorruptError
from btrimg.filesystem.treepaths import find
from btrimg.ondisk.constants import (
    FIRST_CHUNK_TREE_OBJECTID,
    STRIPE_LEN,
    U64_MAX,
    BlockGroup,
    CompatRo,
    Incompat,
    SuperFlag,
    TreeId,
)
from btrimg.trees.distinct import among, different
from btrimg.volume.profiles import PROFILES, data_columns, profile_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.check.looks.rows import Look, Relations, Rows

    Unsigned = NDArray[np.uint64]

_PROFILES = {profile.name: profile for profile in PROFILES.values()}
_LONGEST = 0xFFFFFFFF << 16  # chunk: a kernel counts its stripe elements in 32 bits
_USUAL = SuperFlag.WRITTEN | SuperFlag.RELOC | SuperFlag.SEEDING  # flags of a superblock


def odd_chunks(relations: Relations) -> bool:
    """Look for chunks that cannot be so, alone or beside others and their block groups."""
    rows, superblock, groups = relations["chunks"], relations["superblock"], relations["block_groups"]
    if ordered_of(rows) is None or ordered_of(groups) is None:
        return True
    sectorsize, length = superblock.only("sectorsize"), rows["length"]
    odd = (rows["stripe_len"] != STRIPE_LEN) | (rows["owner"] != TreeId.EXTENT_TREE)
    odd |= (rows["logical"] | length) % np.uint64(STRIPE_LEN) > 0
    odd |= (length % np.uint64(sectorsize) > 0) | (length >= _LONGEST) | (rows["sector_size"] != sectorsize)
    group = find(groups["logical"], rows["logical"])
    if odd.any() or (group < 0).any() or (groups["length"][group] != length).any():
        return True
    mixed = superblock.only("incompat_flags") & Incompat.MIXED_GROUPS > 0
    if (groups["flags"][group] != rows["flags"]).any():
        return True
    kinds = {*zip(rows["flags"].tolist(), rows["num_stripes"].tolist(), rows["sub_stripes"].tolist(), strict=True)}
    return not all(_may_be(flags, width, sub_stripes, mixed) for flags, width, sub_stripes in kinds)


def _may_be(flags: int, width: int, sub_stripes: int, mixed: bool) -> bool:
    """Return whether a chunk may be of such a type, with so many stripes."""
    try:
        profile = profile_of(flags)
    except CorruptError:
        return False
    holds = flags & (BlockGroup.DATA | BlockGroup.SYSTEM | BlockGroup.METADATA)
    both = BlockGroup.DATA | BlockGroup.METADATA
    if holds == 0 or (holds & BlockGroup.SYSTEM and holds != BlockGroup.SYSTEM) or (holds == both and not mixed):
        return False
    if flags & BlockGroup.RAID10 and (width % profile.copies or sub_stripes != profile.copies):
        return False
    return profile.min_stripes <= width <= profile.max_stripes


def odd_dev_extents(relations: Relations) -> bool:
    """Look for device extents and stripes that cannot be so, alone or beside each other, chunks and devices."""
    rows, stripes, devices = relations["dev_extents"], relations["stripes"], relations["devices"]
    places = ("devid", "physical", "chunk")
    order, expected = (np.lexsort((each["physical"], each["devid"])) for each in (rows, stripes))
    if not all(np.array_equal(rows[name][order], stripes[name][expected]) for name in places):
        return True
    devid, start, length = (rows[name][order] for name in ("devid", "physical", "length"))
    lengths = _lengths(relations["chunks"], stripes)
    if lengths is None or not np.array_equal(length, lengths[expected]) or not are_small(start, length):
        return True
    device = np.argsort(devices["devid"], kind="stable")
    ids = devices["devid"][device]
    at = find(ids, devid)
    if len(different(ids)) < len(ids) or (at < 0).any():
        return True
    odd = start + length > devices["total_bytes"][device][at]
    odd[1:] |= (devid[1:] == devid[:-1]) & (start[1:] < start[:-1] + length[:-1])
    odd |= (rows["chunk_tree"] != TreeId.CHUNK_TREE) | (rows["chunk_objectid"] != FIRST_CHUNK_TREE_OBJECTID)
    uuids = {*zip(devices["devid"].tolist(), devices["uuid"].tolist(), strict=True)}
    return bool(odd.any()) or not {*zip(stripes["devid"].tolist(), stripes["dev_uuid"].tolist(), strict=True)} <= uuids


def _lengths(chunks: Rows, stripes: Rows) -> Unsigned | None:
    """Return how long each stripe should be, None where that is not known of all."""
    kinds = zip(chunks.texts("profile"), chunks["num_stripes"].tolist(), strict=True)
    divisors = np.array([data_columns(width, _PROFILES[name]) if name else 0 for name, width in kinds], np.int64)
    if ordered_of(chunks) is None or (divisors < 1).any():
        return None
    chunk = find(chunks["logical"], stripes["chunk"])
    if (chunk < 0).any():
        return None
    lengths: Unsigned = (chunks["length"] // divisors.astype(np.uint64))[chunk]
    return lengths


def odd_devices(relations: Relations) -> bool:
    """Look for devices whose numbers cannot be, or are not those of their extents and of what was opened for them."""
    rows, extents, copies = relations["devices"], relations["dev_extents"], relations["superblocks"]
    order = np.argsort(rows["devid"], kind="stable")
    ids, total, used = (rows[name][order] for name in ("devid", "total_bytes", "bytes_used"))
    odd = (used > total) | (rows["devid"] != rows["key_devid"])
    odd |= total % np.uint64(relations["superblock"].only("sectorsize")) > 0
    length = extents["length"]
    if odd.any() or len(different(ids)) < len(ids) or int(length.max(initial=0)) * len(length) > U64_MAX:
        return True
    found = np.zeros(len(ids) + 1, np.uint64)
    np.add.at(found, find(ids, extents["devid"]), length)  # the last one is for number -1
    opened = find(ids, copies["devid"])
    cut_short = copies["device_size"] < np.append(total, np.uint64(0))[opened]
    return bool((found[:-1] != used).any() or cut_short.any())


def odd_superblocks(relations: Relations) -> bool:
    """Look for superblocks that are not as they should be, or not as the item of their device."""
    rows, devices = relations["superblocks"], relations["devices"]
    odd = ~rows.says("state", "sound") | ~rows["ours"] | ~rows.says("differs", "")
    odd |= rows["generation"] != relations["superblock"].only("generation")
    odd |= rows["flags"] & ~np.uint64(_USUAL) > 0
    names = ("devid", "uuid", "fsid", "total_bytes", "bytes_used")
    items = [*zip(*(devices[name].tolist() for name in names), strict=True)]
    told = zip(*(rows[f"item_{name}"].tolist() for name in names), strict=True)
    return bool(odd.any()) or len({devid for devid, *_ in items}) < len(items) or not {*items}.issuperset(told)


def odd_totals(relations: Relations) -> bool:
    """Look for what the superblock says of the whole filesystem, and the trees do not."""
    superblock, devices = relations["superblock"], relations["devices"]
    total = superblock.only("total_bytes")
    if superblock.only("bytes_used") != sum(relations["block_groups"]["used"].tolist()):
        return True
    if total % superblock.only("sectorsize") or total != sum(devices["total_bytes"].tolist()):
        return True
    valid = superblock.only("compat_ro_flags") & CompatRo.FREE_SPACE_TREE_VALID > 0
    if valid and not (has_free_space_tree(relations) and TreeId.FREE_SPACE_TREE in relations["roots"]["id"]):
        return True
    return superblock.only("num_devices") != len(devices)


def super_system_chunks(relations: Relations) -> bool:
    """Look for system chunks that are not the same in the superblock and in the chunk tree."""
    rows, copies, stripes = relations["chunks"], relations["system_chunks"], relations["stripes"]
    if ordered_of(rows) is None:
        return True
    chunk = find(rows["logical"], stripes["chunk"])
    system = np.flatnonzero((chunk >= 0) & (rows["flags"][chunk] & np.uint64(BlockGroup.SYSTEM) > 0))
    of_chunk, of_stripe = ("logical", "length", "flags", "num_stripes"), ("number", "devid", "physical", "dev_uuid")
    originals = [rows[name][chunk[system]].tolist() for name in of_chunk]
    originals += [stripes[name][system].tolist() for name in of_stripe]
    found = sorted(zip(*(copies[name].tolist() for name in (*of_chunk, *of_stripe)), strict=True))
    return found != sorted(zip(*originals, strict=True))


def block_group_feature(relations: Relations) -> bool:
    """Look for a block group tree where the superblock has none, or the other way round."""
    said = relations["superblock"].only("compat_ro_flags") & CompatRo.BLOCK_GROUP_TREE > 0
    return said != bool(among(np.array([TreeId.BLOCK_GROUP_TREE], np.uint64), relations["roots"]["id"]).any())


LOOKS: dict[str, Look] = {
    "odd_chunks": odd_chunks,
    "odd_dev_extents": odd_dev_extents,
    "odd_devices": odd_devices,
    "odd_superblocks": odd_superblocks,
    "odd_totals": odd_totals,
    "super-system-chunks": super_system_chunks,
    "block-group-feature": block_group_feature,
}

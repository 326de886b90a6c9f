"""Names for the numbers of btrfs, as btrfs-progs writes them: keys, flags, escaped bytes, uuids, dates."""

from __future__ import annotations

from functools import lru_cache

from btrimg.ondisk.constants import (
    DEV_ITEMS_OBJECTID,
    DEV_STATS_OBJECTID,
    FIRST_CHUNK_TREE_OBJECTID,
    PROFILE_MASK,
    U64_MAX,
    BlockGroup,
    ItemType,
    TreeId,
)
from btrimg.ondisk.inodes import Timespec
from btrimg.render.text import utc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.enums import IntFlag
    from btrimg.ondisk.blocks import DiskKey, Key

_QGROUP_LEVEL_SHIFT = 48  # BTRFS_QGROUP_LEVEL_SHIFT

_ESCAPES = {
    0x07: "a",
    0x08: "b",
    0x1B: "e",
    0x0C: "f",
    0x0A: "n",
    0x0D: "r",
    0x09: "t",
    0x0B: "v",
    0x20: " ",
    0x5C: "\\",
}
_ESCAPED = [f"\\{_ESCAPES[c]}" if c in _ESCAPES else chr(c) if 32 < c < 127 else f"\\{c:03o}" for c in range(256)]

_TYPE_NAMES = {int(t): t.name for t in ItemType if t is not ItemType.UNTYPED}

_OBJECTID_NAMES = {int(t): t.name for t in TreeId if t not in (TreeId.FIRST_FREE, TreeId.LAST_FREE)}
_OBJECTID_NAMES |= {int(TreeId.TREE_LOG_FIXUP): "LOG_FIXUP", U64_MAX: "-1"}

#: Objectids that mean something else in keys of one type.
_OBJECTID_NAMES_IN: dict[tuple[int, int], str] = {
    (DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM): "DEV_ITEMS",
    (FIRST_CHUNK_TREE_OBJECTID, ItemType.CHUNK_ITEM): "FIRST_CHUNK_TREE",
    (DEV_STATS_OBJECTID, ItemType.PERSISTENT_ITEM): "DEV_STATS",
}
_UUID_TYPES = (ItemType.UUID_KEY_SUBVOL, ItemType.UUID_KEY_RECEIVED_SUBVOL)
_PLAIN_TYPES = (ItemType.PERSISTENT_ITEM, ItemType.DEV_EXTENT)  # their objectid is a number or a device, no tree
_QGROUP_OFFSET_TYPES = (ItemType.QGROUP_RELATION, ItemType.QGROUP_INFO, ItemType.QGROUP_LIMIT)


def escape(name: bytes) -> str:
    r"""Return *name* in printable ASCII: C escapes, ``\ `` for a space, three octal digits for other bytes."""
    return "".join([_ESCAPED[byte] for byte in name])


def printable(text: bytes) -> str:
    """Return *text* up to its first NUL with a dot for whatever is not printable ASCII."""
    return dotted(text.partition(b"\0")[0])


def dotted(text: bytes) -> str:
    """Return *text* with a dot for whatever is not printable ASCII."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in text)


def date_text(seconds: int) -> str:
    """Return the date and time in UTC, *seconds* after 1970 began."""
    return utc(Timespec(seconds, 0)).partition(".")[0]


def qgroup_id(number: int) -> str:
    """Return a quota group's id as LEVEL/SUBVOLUME."""
    return f"{number >> _QGROUP_LEVEL_SHIFT}/{number & (1 << _QGROUP_LEVEL_SHIFT) - 1}"


def type_name(key_type: int, objectid: int = 0) -> str:
    """Return the name of a key type; type 0 has one beside FREE_SPACE only."""
    if key_type == ItemType.UNTYPED and objectid == TreeId.FREE_SPACE:
        return "UNTYPED"
    return _TYPE_NAMES.get(key_type) or f"UNKNOWN.{key_type}"


def objectid_name(objectid: int, key_type: int = 0) -> str:
    """Return what *objectid* is called in keys of *key_type*; with type 0, as a tree's id."""
    if (objectid, key_type) in _OBJECTID_NAMES_IN:
        return _OBJECTID_NAMES_IN[objectid, key_type]
    if key_type in _PLAIN_TYPES:
        return str(objectid)
    if key_type in _UUID_TYPES:
        return f"0x{objectid:016x}"
    if key_type == ItemType.QGROUP_RELATION:
        return qgroup_id(objectid)
    return _OBJECTID_NAMES.get(objectid) or str(objectid)


def key_text(key: Key | DiskKey) -> str:
    """Return ``key (OBJECTID TYPE OFFSET)``."""
    objectid, key_type, offset = key
    where = _offset_text(objectid, key_type, offset)
    return f"key ({objectid_name(objectid, key_type)} {type_name(key_type, objectid)} {where})"


def _offset_text(objectid: int, key_type: int, offset: int) -> str:
    if key_type in _QGROUP_OFFSET_TYPES:
        return qgroup_id(offset)
    if key_type in _UUID_TYPES:
        return f"0x{offset:016x}"
    if key_type == ItemType.ROOT_ITEM:  # of a reloc tree: the tree that it copies
        return objectid_name(offset, key_type) if objectid == TreeId.TREE_RELOC else str(offset)
    return "-1" if offset == U64_MAX else str(offset)


def flag_names(flags: int, kind: type[IntFlag], unknown: str = "UNKNOWN: {:#x}") -> list[str]:
    """Return the names of the bits that are set, and *unknown* filled in with those that have none."""
    names = [member.name or "" for member in kind if flags & member]
    rest = flags & ~sum(kind)
    return [*names, unknown.format(rest)] if rest else names


@lru_cache(256)  # few values, many items
def flags_text(flags: int, kind: type[IntFlag], none: str = "none") -> str:
    """Return the names of the bits that are set, joined by bars, or *none*."""
    return "|".join(flag_names(flags, kind)) or none


@lru_cache(256)
def block_group_text(flags: int) -> str:
    """Return what a chunk holds and its profile, as in ``METADATA|DUP``; no profile bit means single."""
    return "|".join([*flag_names(flags & ~PROFILE_MASK, BlockGroup), profile_name(flags)])


def profile_name(flags: int) -> str:
    """Return the profile of a chunk: ``single``, ``DUP``, ``RAID1``; several joined by bars where they are wrong."""
    return "|".join(flag_names(flags & PROFILE_MASK, BlockGroup)) or "single"

"""Trees and keys as words: numbers, or the names that btrfs-progs gives them."""

from __future__ import annotations

from contextlib import suppress

from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.ondisk.constants import ItemType, TreeId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.blocks import DiskKey

# What btrfs-progs takes for -t (common/parse-utils.c); "-" may stand for "_", _TREE and _OBJECTID may follow.
_TREES = {
    "ROOT": TreeId.ROOT_TREE,
    "EXTENT": TreeId.EXTENT_TREE,
    "CHUNK": TreeId.CHUNK_TREE,
    "DEVICE": TreeId.DEV_TREE,
    "DEV": TreeId.DEV_TREE,
    "FS": TreeId.FS_TREE,
    "CSUM": TreeId.CSUM_TREE,
    "CHECKSUM": TreeId.CSUM_TREE,
    "QUOTA": TreeId.QUOTA_TREE,
    "UUID": TreeId.UUID_TREE,
    "FREE_SPACE": TreeId.FREE_SPACE_TREE,
    "TREE_LOG_FIXUP": TreeId.TREE_LOG_FIXUP,
    "TREE_LOG": TreeId.TREE_LOG,
    "TREE_RELOC": TreeId.TREE_RELOC,
    "DATA_RELOC": TreeId.DATA_RELOC_TREE,
    "BLOCK_GROUP": TreeId.BLOCK_GROUP_TREE,
    "RAID_STRIPE": TreeId.RAID_STRIPE_TREE,
    "REMAP": TreeId.REMAP_TREE,
}

_HIGH = {int(each): each.name for each in TreeId if each >> 63 and each.name != "FREE_SPACE"}
_TYPES = frozenset(map(int, ItemType))


def tree_id(text: str) -> int:
    """Return the id of the tree that *text* names or is the number of; negative as in the kernel's headers.

    Raises ValueError.
    """
    name = text.upper().replace("-", "_").removeprefix("BTRFS_").removesuffix("_OBJECTID").removesuffix("_TREE")
    if name in _TREES:
        return int(_TREES[name])
    return number(text, f"none of {', '.join(_TREES).lower()}")


def lowest_key(text: str) -> Key:
    """Return the lowest key that *text*, OBJECTID[,TYPE[,OFFSET]] in numbers or names, stands for."""
    return _key(text, KEY_MIN)


def highest_key(text: str) -> Key:
    """Return the highest key that *text*, OBJECTID[,TYPE[,OFFSET]] in numbers or names, stands for."""
    return _key(text, KEY_MAX)


def _key(text: str, rest: Key) -> Key:
    parts = text.split(",")
    if len(parts) > len(rest):
        raise ValueError(f"{text!r} has more parts than OBJECTID,TYPE,OFFSET")
    given = [read(part.strip()) for read, part in zip((tree_id, item_type, number), parts, strict=False)]
    return Key(*given, *rest[len(given) :])


def key_words(key: Key | DiskKey) -> str:
    """Return a key as OBJECTID.TYPE.OFFSET, in names where there are any: what :func:`objectid` and others read."""
    number, key_type, offset = key
    first = str(number)
    if number >> 63:  # those of the kernel's headers are negative
        first = _HIGH.get(number) or str(number - (1 << 64))
    return f"{first}.{ItemType(key_type).name if key_type in _TYPES else key_type}.{offset}"


def objectid(text: str) -> int:
    """Return the objectid that *text* names or is; names are those of trees and of TreeId.

    Raises ValueError.
    """
    name = text.upper()
    return int(TreeId[name]) if name in TreeId.__members__ and name != "FREE_SPACE" else tree_id(text)


def item_type(text: str) -> int:
    """Return the key type that *text* names or is the number of; raise ValueError."""
    name = text.upper()
    value = int(ItemType[name]) if name in ItemType.__members__ else number(text, "no key type")
    if value > KEY_MAX.type:
        raise ValueError(f"{text!r} does not fit the 8 bits of a key type")
    return value


def number(text: str, what_else: str = "no name") -> int:
    """Return the number of 64 bits that *text* is, a negative one modulo 2**64; raise ValueError with *what_else*."""
    with suppress(ValueError):
        value = int(text, 0)
        if -(1 << 63) <= value < 1 << 64:
            return value % (1 << 64)
    raise ValueError(f"{text!r} is no number and {what_else}")

"""POSIX access control lists: what new files inherit of those of their directory, and how they go with permissions.

A list is the value of an xattr (include/uapi/linux/posix_acl_xattr.h): a version, and entries of tag, permissions and
id. The rules are those of fs/posix_acl.c, with which btrfs keeps its lists.
"""

from __future__ import annotations

import struct

from btrimg.errors import RefusedError
from btrimg.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NO_ID = 0xFFFF_FFFF
_ONCE = (_USER_OBJ, _GROUP_OBJ, _OTHER)  # these three are in every list
_BITS = 0o777


class Entry(NamedTuple):
    """What a list says of somebody."""

    tag: int
    perm: int  #: of 7
    id: int  #: of a user or group; _NO_ID for the others


def parse(payload: bytes) -> list[Entry]:
    """Return the entries of a list, none for one that removes the list (``posix_acl_from_xattr``, ``posix_acl_valid``).

    Raises RefusedError when it is none.
    """
    body = payload[len(_VERSION) :]
    if not payload:
        return []
    if payload[: len(_VERSION)] != _VERSION or len(body) % _ENTRY.size:
        raise RefusedError(f"{payload[:40].hex()} is no access control list: it has version 2, and entries of 8 bytes")
    entries = [Entry(*each) for each in _ENTRY.iter_unpack(body)]
    tags = [entry.tag for entry in entries]
    named = any(tag in (_USER, _GROUP) for tag in tags)
    once = (*_ONCE, _MASK) if named or _MASK in tags else _ONCE
    if entries and (
        tags != sorted(tags)
        or sorted(tag for tag in tags if tag not in (_USER, _GROUP)) != sorted(once)
        or any(entry.perm > 7 or (entry.tag in (_USER, _GROUP) and entry.id == _NO_ID) for entry in entries)
    ):
        raise RefusedError(
            f"{payload[:40].hex()} is no access control list: it has one entry each for owner, group and others, a mask"
            " if it names users or groups, and is in their order"
        )
    return entries


def inherited(default: bytes, mode: int) -> tuple[int, bytes | None]:
    """Return what the DEFAULT list of a directory makes of the *mode* of what is new in it, and its ACCESS list.

    It has none where permissions say the same (``posix_acl_create``). Raises RefusedError when the list is none.
    """
    entries = parse(default)
    if not entries:
        return mode, None
    limits = {_USER_OBJ: mode >> 6, _OTHER: mode, _group_tag(entries): mode >> 3}
    masked = [entry._replace(perm=entry.perm & limits.get(entry.tag, 7)) for entry in entries]
    return mode & ~_BITS | _mode(masked), _packed(masked) if _is_needed(masked) else None


def with_mode(access: bytes, mode: int) -> bytes:
    """Return an ACCESS list after chmod (``posix_acl_chmod``). Raises RefusedError when it is none."""
    entries = parse(access)
    said = {_USER_OBJ: mode >> 6 & 7, _OTHER: mode & 7, _group_tag(entries): mode >> 3 & 7}
    return _packed([entry._replace(perm=said.get(entry.tag, entry.perm)) for entry in entries])


def mode_of(access: bytes, mode: int) -> tuple[int, bool]:
    """Return what setting an ACCESS list makes of a *mode*, and whether the list says more (``posix_acl_update_mode``).

    Raises RefusedError when it is none.
    """
    entries = parse(access)
    return (mode & ~_BITS | _mode(entries), _is_needed(entries)) if entries else (mode, False)


def _group_tag(entries: Sequence[Entry]) -> int:
    """Return the tag of the entry that the permissions of the group show."""
    return _MASK if any(entry.tag == _MASK for entry in entries) else _GROUP_OBJ


def _mode(entries: Sequence[Entry]) -> int:
    perms = {entry.tag: entry.perm for entry in entries}
    return perms[_USER_OBJ] << 6 | perms[_group_tag(entries)] << 3 | perms[_OTHER]


def _is_needed(entries: Sequence[Entry]) -> bool:
    return any(entry.tag not in _ONCE for entry in entries)


def _packed(entries: Sequence[Entry]) -> bytes:
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)

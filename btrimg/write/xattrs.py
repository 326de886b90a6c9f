"""Extended attributes set and removed (fs/btrfs/xattr.c), with what the property ``btrfs.compression`` entails."""

from __future__ import annotations

import stat

from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem.edit_names import put_records, records_at
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.constants import U64_MAX, FileType, Incompat, InodeFlag, ItemType
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.items import records_of
from btrimg.write import inodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from btrimg.write.files import Files

COMPRESSION = b"btrfs.compression"  #: the property that says how a file, or what is new in a directory, is compressed
_NAME_MAX, _SIZE_MAX = 255, 65536  # include/uapi/linux/limits.h XATTR_NAME_MAX, XATTR_SIZE_MAX
_NAMESPACES = (b"user.", b"trusted.", b"security.")
_KNOWN = (b"system.posix_acl_access", b"system.posix_acl_default", COMPRESSION)  # of others there are only these
_UNCOMPRESSED = (b"no", b"none")
_ALGORITHMS: dict[bytes, int] = {b"zlib": 0, b"lzo": Incompat.COMPRESS_LZO, b"zstd": Incompat.COMPRESS_ZSTD}
_FLAGS = InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS


def put_all(files: Files, ino: int, xattrs: Mapping[bytes, bytes]) -> None:
    """Put *xattrs*, in their order, of a new inode; nothing is looked up, and the inode item is the caller's.

    With COMPRESSION among them its flags must have :func:`compression_flags`. Raises RefusedError when one cannot be.
    """
    items: dict[int, bytes] = {}
    for name, value in xattrs.items():
        check(files, name, value)
        if name == COMPRESSION:
            files.txn.set_incompat(_algorithm_bit(value))
        code = name_hash(name)
        items[code] = items.get(code, b"") + _entry(files, name, value).pack()
    for code, payload in items.items():
        _refuse_full(files, ino, payload)
        files.tree.put(Key(ino, ItemType.XATTR_ITEM, code), payload)


def read(files: Files, ino: int, name: bytes) -> bytes | None:
    """Return the value of an attribute, None if there is none."""
    entries = records_at(files.tree, DirItem, _key(ino, name))
    return next((entry.data for entry in entries if entry.name == name), None)


def read_all(files: Files, ino: int) -> dict[bytes, bytes]:
    """Return all attributes with their values, in the order of their hashes."""
    first = Key(ino, ItemType.XATTR_ITEM, 0)
    return {
        record.name: record.data
        for _, payload in files.tree.items(first, first._replace(offset=U64_MAX))
        for record in records_of(DirItem, ItemType.XATTR_ITEM, payload)
    }


def set_value(files: Files, ino: int, name: bytes, value: bytes) -> None:
    """Set an attribute, new or in place of its old value (``btrfs_setxattr``).

    Raises NotFoundError when there is no such inode, RefusedError when it cannot have that attribute.
    """
    check(files, name, value)
    item = inodes.read(files, ino)
    flags = item.flags
    if name == COMPRESSION:
        if stat.S_ISREG(item.mode) and flags & (InodeFlag.NODATACOW | InodeFlag.NODATASUM):
            raise RefusedError(f"inode {ino} has no checksums, or is not copied on write: it cannot be compressed")
        flags = flags & ~int(_FLAGS) | compression_flags(value)
        files.txn.set_incompat(_algorithm_bit(value))
    key = _key(ino, name)
    others = [entry for entry in records_at(files.tree, DirItem, key) if entry.name != name]
    entries = [*others, _entry(files, name, value)]
    _refuse_full(files, ino, b"".join(entry.pack() for entry in entries))
    put_records(files.tree, key, entries)
    inodes.change(files, ino, ctime=files.now, flags=flags)


def remove(files: Files, ino: int, name: bytes) -> None:
    """Remove an attribute.

    Raises NotFoundError when the inode, or the attribute, is not there.
    """
    flags = inodes.read(files, ino).flags
    key = _key(ino, name)
    entries = records_at(files.tree, DirItem, key)
    kept = [entry for entry in entries if entry.name != name]
    if len(kept) == len(entries):
        raise NotFoundError(f"inode {ino} of subvolume {files.id} has no attribute {quoted(name)}")
    put_records(files.tree, key, kept)
    inodes.change(files, ino, ctime=files.now, flags=flags & ~int(_FLAGS) if name == COMPRESSION else flags)


def check(files: Files, name: bytes, value: bytes) -> None:
    """Raise RefusedError when no inode can have this attribute; its inode may still have no room for it."""
    if not 0 < len(name) <= _NAME_MAX or b"\0" in name:
        what = quoted(name) if name else "''"
        raise RefusedError(f"no attribute can be called {what}: a name has 1 to {_NAME_MAX} bytes and no NUL")
    room = min(files.room - DirItem.SIZE - len(name), _SIZE_MAX)
    if len(value) > room:
        raise RefusedError(
            f"{len(value)} bytes are too many for the attribute {quoted(name)}: there is room for {room}"
        )
    if name == COMPRESSION:
        compression_flags(value)


def refuse_unknown(name: bytes) -> None:
    """Raise RefusedError for a name that the kernel sets for nobody (fs/btrfs/xattr.c ``btrfs_xattr_handlers``)."""
    namespace = next((each for each in _NAMESPACES if name.startswith(each)), b"")
    if name in _KNOWN or (namespace and name != namespace):
        return
    if name.startswith((b"system.", b"btrfs.")):
        known = ", ".join(quoted(each) for each in _KNOWN)
        raise RefusedError(f"no attribute is called {quoted(name)}: of these names there are {known}")
    raise RefusedError(
        f"no attribute can be called {quoted(name)}: names begin with user., trusted., security., system. or btrfs.,"
        " and go on"
    )


def compression_flags(value: bytes) -> int:
    """Return the flags of an inode with this COMPRESSION (fs/btrfs/props.c ``prop_compression_apply``).

    Raises RefusedError when there is no such algorithm.
    """
    if not value:
        return 0
    if value in _UNCOMPRESSED:
        return InodeFlag.NOCOMPRESS
    if value.partition(b":")[0] not in _ALGORITHMS:
        raise RefusedError(f"no compression is called {quoted(value)}: there are none, zlib, lzo and zstd")
    return InodeFlag.COMPRESS


def _algorithm_bit(value: bytes) -> int:
    return _ALGORITHMS.get(value.partition(b":")[0], 0)


def _key(ino: int, name: bytes) -> Key:
    return Key(ino, ItemType.XATTR_ITEM, name_hash(name))


def _entry(files: Files, name: bytes, value: bytes) -> DirItem:
    return DirItem(DiskKey(0, 0, 0), files.generation, len(value), len(name), FileType.XATTR, name, value)


def _refuse_full(files: Files, ino: int, payload: bytes) -> None:
    if len(payload) > files.room:
        raise RefusedError(f"inode {ino} has no room for all attributes of one hash: give one of them another name")

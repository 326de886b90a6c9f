"""What is new in a directory of a mounted filesystem inherits from it: group, access control lists, compression.

fs/inode.c ``inode_init_owner``, fs/posix_acl.c ``posix_acl_create``, fs/btrfs/props.c ``inode_inherit_props``.
"""

from __future__ import annotations

import stat

from btrimg.build import acls, values
from btrimg.build.paths import Spot
from btrimg.build.values import Compression, Content, Storage
from btrimg.ondisk.constants import Compression as Algorithm
from btrimg.ondisk.constants import InodeFlag
from btrimg.write import inodes, xattrs
from btrimg.write.subvolumes import TOP_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from btrimg.build.entries import Entry
    from btrimg.build.paths import Paths
    from btrimg.build.values import Operation

    Made = TypeVar("Made", values.MakeDirectory, values.MakeFile, values.MakeSymlink, values.MakeNode)

_KINDS = {values.MakeDirectory: stat.S_IFDIR, values.MakeFile: stat.S_IFREG, values.MakeSymlink: stat.S_IFLNK}
_COMPRESSED = int(InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS)
_NO_SUMS = int(InodeFlag.NODATACOW | InodeFlag.NODATASUM)


def inherited(operation: Operation, paths: Paths) -> Operation:
    """Return *operation* with what it does not say said as the kernel would have it.

    Raises NotFoundError when the directory of what is new, or what is written to, is not there.
    """
    if isinstance(operation, values.MakeFile):
        return _file(_made(operation, paths), paths)
    if isinstance(operation, values.MakeSymlink):
        return _made(operation, paths)
    if isinstance(operation, values.MakeNode):
        return _made(operation, paths)
    if isinstance(operation, values.MakeDirectory):
        return _made(operation, paths)
    if isinstance(operation, values.MakeSubvolume):
        return _subvolume(operation, paths)
    if isinstance(operation, values.Write):
        return operation._replace(storage=stored(operation.storage, property_of(paths.find(operation.path))))
    return operation


def inherited_file(path: bytes, said: values.Attributes, paths: Paths) -> values.Attributes:
    """Return the attributes of a new file at *path*, with what it inherits."""
    return _made(values.MakeFile(path, (), None, Storage(), said), paths).attributes


def property_of(spot: Spot) -> bytes | None:
    """Return the property that says how an inode, or what is new in a directory, is compressed."""
    return xattrs.read(*spot, xattrs.COMPRESSION) if inodes.read(*spot).flags & _COMPRESSED else None


def stored(storage: Storage, value: bytes | None) -> Storage:
    """Return *storage* compressed as the property *value* says, unless it says itself how."""
    if storage.compress is not None or not value:
        return storage
    name, _, level = value.partition(b":")
    kinds = {kind.name.lower().encode(): kind for kind in Algorithm}
    kind = kinds.get(name, Algorithm.NONE)
    return storage._replace(compress=Compression(kind, int(level) if kind and level.isdigit() else None))


def with_property(entry: Entry, value: bytes) -> Entry:
    """Return a file or directory of the host with the property *value* that it inherits, unless it has its own."""
    is_compressed = stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode)
    if not is_compressed or any(name == xattrs.COMPRESSION for name, _ in entry.xattrs):
        return entry
    return entry._replace(xattrs=tuple(sorted((*entry.xattrs, (xattrs.COMPRESSION, value)))))


def _made(do: Made, paths: Paths) -> Made:
    parent, _ = paths.parent(do.path)
    above, kind = inodes.read(*parent), _KINDS.get(type(do), 0)
    said: values.Attributes = do.attributes
    default = xattrs.read(*parent, acls.DEFAULT)
    if default and kind != stat.S_IFLNK:
        said = _listed(said, default, kind)
    if above.mode & stat.S_ISGID:
        if said.gid is None:
            said = said._replace(gid=above.gid)
        if kind == stat.S_IFDIR:
            said = said._replace(mode=(0o755 if said.mode is None else said.mode) | stat.S_ISGID)
    value = property_of(parent) if kind in (stat.S_IFDIR, stat.S_IFREG) else None
    plain = isinstance(do, values.MakeFile) and (inodes.inherited_flags(above.flags, kind) | _flags(do)) & _NO_SUMS
    return do._replace(attributes=_compressed(said, value) if value and not plain else said)


def _compressed(said: values.Attributes, value: bytes) -> values.Attributes:
    """Return what is *said* with the property *value*, unless it has its own."""
    given = {xattrs.COMPRESSION: Content("bytes", value, len(value))} | dict(said.xattrs)
    return said._replace(xattrs=tuple(sorted(given.items())))


def _listed(said: values.Attributes, default: bytes, kind: int) -> values.Attributes:
    """Return what is *said* with the access control lists that the *default* of the directory gives."""
    mode, access = acls.inherited(default, 0o777 if kind == stat.S_IFDIR else 0o666)
    if said.mode is not None and access:
        access = acls.with_mode(access, said.mode)
    lists = {acls.ACCESS: access, acls.DEFAULT: default if kind == stat.S_IFDIR else None}
    given = {name: Content("bytes", value, len(value)) for name, value in lists.items() if value} | dict(said.xattrs)
    return said._replace(mode=mode if said.mode is None else said.mode, xattrs=tuple(sorted(given.items())))


def _subvolume(do: values.MakeSubvolume, paths: Paths) -> values.MakeSubvolume:
    """Return what makes a subvolume.

    It inherits permissions, no list and no flags, and properties from the subvolume that it is in, wherever it is there
    (fs/btrfs/inode.c ``btrfs_create_new_inode``).
    """
    parent, _ = paths.parent(do.path)
    said = do.attributes
    default = xattrs.read(*parent, acls.DEFAULT)
    if said.mode is None and default:
        said = said._replace(mode=acls.inherited(default, 0o755)[0])
    value = property_of(Spot(parent.files, TOP_DIRECTORY))
    return do._replace(attributes=_compressed(said, value) if value else said)


def _flags(do: values.MakeFile) -> int:
    flags = int(do.attributes.flags or 0)
    return flags | (_NO_SUMS if do.storage.nodatacow or do.storage.nodatasum else 0)


def _file(do: values.MakeFile, paths: Paths) -> values.MakeFile:
    content = dict(do.attributes.xattrs).get(xattrs.COMPRESSION)
    value = content.data if content and content.kind == "bytes" else None
    parts = tuple(part._replace(storage=stored(part.storage, value)) for part in do.parts)
    return do._replace(parts=parts, storage=stored(do.storage, value))

"""Attributes of a recipe on inodes of a transaction: modes, owners, flags, times and xattrs."""

from __future__ import annotations

import stat
from functools import cache

from btrimg.build import acls
from btrimg.build.content import content_bytes
from btrimg.errors import RefusedError
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.constants import InodeFlag
from btrimg.write import inodes, xattrs
from btrimg.write.inodes import Times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.build.content import Surroundings
    from btrimg.build.paths import Spot
    from btrimg.build.values import Attributes
    from btrimg.ondisk.record import Value

_USUAL_MODE = {stat.S_IFDIR: 0o755, stat.S_IFLNK: 0o777}
_OTHERS = 0o644
_STORED = InodeFlag.NODATASUM | InodeFlag.NODATACOW
_COMPRESSED = InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS
_CHOSEN = InodeFlag.NODATACOW | InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS
_XATTR_SIZE_MAX = 65536  # include/uapi/linux/limits.h


_inherited = cache(inodes.inherited_flags)


def times_of(attributes: Attributes, spot: Spot) -> Times:
    """Return the times of a new inode: those that are said, else the clock."""
    now = spot.files.now
    given = (attributes.atime, attributes.ctime, attributes.mtime, attributes.otime)
    return Times(*(now if time is None else time for time in given))


def flags_of(parent: Spot, kind: int, attributes: Attributes, around: Surroundings) -> int:
    """Return the flags of a new inode of type *kind* in the directory *parent*."""
    flags = _inherited(inodes.read(*parent).flags, kind) | (attributes.flags or 0)
    if not attributes.xattrs:
        return flags
    compression = xattr_values(attributes, around).get(xattrs.COMPRESSION, b"")
    return flags | xattrs.compression_flags(compression)


def hands_on(directory: Spot) -> bool:
    """Return whether what is new in a *directory* inherits more from it than flags."""
    item = inodes.read(*directory)
    return bool(item.mode & stat.S_ISGID or item.flags & _COMPRESSED or xattrs.read(*directory, acls.DEFAULT))


def kept_by_reflink(flags: int) -> int:
    """Return which *flags* of its source a new file gets that is to share its data: with others it could not."""
    return int(flags & _STORED)


def create(
    parent: Spot,
    kind: int,
    attributes: Attributes,
    around: Surroundings,
    *,
    ino: int | None = None,
    flags: int | None = None,
    size: int = 0,
    nbytes: int = 0,
    rdev: int = 0,
) -> int:
    """Make an inode of type *kind* in the directory *parent*, with xattrs, but without names; return its number."""
    files = parent.files
    ino = inodes.create(
        files,
        kind | (_USUAL_MODE.get(kind, _OTHERS) if attributes.mode is None else attributes.mode),
        ino=ino,
        uid=attributes.uid or 0,
        gid=attributes.gid or 0,
        rdev=rdev,
        size=size,
        nbytes=nbytes,
        flags=flags_of(parent, kind, attributes, around) if flags is None else flags,
        times=times_of(attributes, parent),
    )
    if attributes.xattrs:
        xattrs.put_all(files, ino, xattr_values(attributes, around))
    return ino


def create_symlink(parent: Spot, target: bytes, attributes: Attributes, around: Surroundings) -> int:
    """Make a symlink in the directory *parent*, with xattrs, but without names; return its number."""
    files = parent.files
    ino = inodes.create_symlink(
        files,
        target,
        uid=attributes.uid or 0,
        gid=attributes.gid or 0,
        flags=attributes.flags or 0,
        times=times_of(attributes, parent),
    )
    if attributes.mode is not None:
        inodes.change(files, ino, mode=stat.S_IFLNK | attributes.mode)
    if attributes.xattrs:
        xattrs.put_all(files, ino, xattr_values(attributes, around))
    return ino


def xattr_values(attributes: Attributes, around: Surroundings) -> dict[bytes, bytes]:
    """Return the xattrs with their values.

    Raises RefusedError where a name is one that btrfs does not know, or a value longer than any filesystem has it.
    """
    values: dict[bytes, bytes] = {}
    for name, content in attributes.xattrs:
        xattrs.refuse_unknown(name)
        try:
            values[name] = content_bytes(content, around, _XATTR_SIZE_MAX)
        except RefusedError as error:
            raise RefusedError(f"xattr {quoted(name)}: {error}") from None
    return values


def change(spot: Spot, attributes: Attributes, around: Surroundings, *, in_step: bool = False) -> None:
    """Change the attributes that are said of an inode that is there; its ctime, unless said, is the clock's.

    Permissions and access control lists are kept *in step*, as they are on a mounted filesystem, or set as they stand.
    """
    files, ino = spot
    given = xattr_values(attributes, around)
    if in_step:
        attributes = attributes._replace(mode=_in_step(spot, given, attributes.mode))
    for name, value in given.items():
        xattrs.set_value(files, ino, name, value)
    item = inodes.read(files, ino)
    new_flags = (attributes.flags or 0) & ~item.flags & int(InodeFlag.NODATASUM | InodeFlag.NODATACOW)
    if new_flags and item.size and stat.S_ISREG(item.mode):
        raise RefusedError("nodatacow and nodatasum must be said when a file is made: this one has content")
    fields: dict[str, Value] = {"ctime": files.now}
    if attributes.mode is not None:
        fields["mode"] = stat.S_IFMT(item.mode) | attributes.mode
    if attributes.flags is not None:
        fields["flags"] = _changed_flags(item.flags, attributes.flags)
    for field in ("uid", "gid", "atime", "mtime", "ctime", "otime"):
        value = getattr(attributes, field)
        if value is not None:
            fields[field] = value
    inodes.change(files, ino, **fields)


def _in_step(spot: Spot, given: dict[bytes, bytes], mode: int | None) -> int | None:
    """Let the lists among the xattrs that are *given* follow the *mode*, or it them; return it, None when it stays.

    Lists that say nothing go (``btrfs_set_acl``). Raises RefusedError when the inode cannot have them.
    """
    known = inodes.read(*spot).mode
    if acls.DEFAULT in given and not stat.S_ISDIR(known):
        raise RefusedError("only directories have default access control lists")
    if acls.ACCESS in given and stat.S_ISLNK(known):
        raise RefusedError("symbolic links have no access control lists")
    if not (stat.S_ISREG(known) or stat.S_ISDIR(known)):
        named = [name for name in given if name.startswith(b"user.")]
        if named:
            raise RefusedError(f"only files and directories have attributes of users, as {quoted(named[0])}")
    useless = [acls.DEFAULT] if acls.DEFAULT in given and not acls.parse(given[acls.DEFAULT]) else []
    access = xattrs.read(*spot, acls.ACCESS)
    if acls.ACCESS in given:
        access = given[acls.ACCESS]
        said, is_needed = acls.mode_of(access, known)
        mode = stat.S_IMODE(said) if mode is None else mode
        if not is_needed:
            access = None
            useless.append(acls.ACCESS)
    for name in useless:
        del given[name]
        if xattrs.read(*spot, name) is not None:
            xattrs.remove(*spot, name)
    if access and mode is not None:
        given[acls.ACCESS] = acls.with_mode(access, mode)
    return mode


def change_flags(spot: Spot, add: int, remove: int) -> None:
    """Set and take away flags of an inode that is there, as chattr does (fs/btrfs/ioctl.c ``btrfs_fileattr_set``).

    Compression is a property, too. Raises RefusedError for what the kernel refuses, or would not do.
    """
    files, ino = spot
    item = inodes.read(files, ino)
    if not stat.S_ISREG(item.mode):
        no_sums = int(InodeFlag.NODATASUM)  # is of files only: those made in a directory get it with NODATACOW
        add, remove = add & ~no_sums, remove & ~no_sums
    flags = item.flags & ~remove | add
    if item.size and stat.S_ISREG(item.mode) and (flags ^ item.flags) & int(_STORED):
        raise RefusedError("nodatacow and nodatasum change only while a file is empty: this one has content")
    chosen = flags & (add or flags) & int(_CHOSEN)
    if chosen & (chosen - 1) or (flags & _STORED and add & InodeFlag.COMPRESS):
        raise RefusedError("compress, nocompress and nodatacow exclude each other")
    if (add | remove) & int(_COMPRESSED):
        has_property = xattrs.read(files, ino, xattrs.COMPRESSION) is not None
        if add & InodeFlag.COMPRESS:
            xattrs.set_value(files, ino, xattrs.COMPRESSION, b"zlib")
        elif has_property and (add | remove & item.flags) & int(_COMPRESSED):
            xattrs.remove(files, ino, xattrs.COMPRESSION)
        if add & int(_COMPRESSED):
            flags = flags & ~int(_COMPRESSED) | add & int(_COMPRESSED)
    inodes.change(files, ino, flags=flags, ctime=files.now)


def _changed_flags(old: int, new: int) -> int:
    """Return the flags that a user sees replaced, those that say how data are stored kept (FS_IOC_SETFLAGS)."""
    kept = InodeFlag.NODATACOW | InodeFlag.NODATASUM | InodeFlag.PREALLOC | InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS
    return old & int(kept) | new

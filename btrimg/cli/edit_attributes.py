"""Verbs of ``btrimg edit`` about attributes: chmod, chown, touch, chattr, xattr."""

from __future__ import annotations

import os

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.edit_parameters import PATH, PATHS, parse_time
from btrimg.edit.words import Flags, parse_flags, parse_mode, parse_owner
from btrimg.errors import BtrimgError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.cli.verbs import Context
    from btrimg.edit.words import Mode, Owner
    from btrimg.ondisk.inodes import Timespec

_NAME = Argument("name", "NAME", os.fsencode)


@command(Argument("mode", "MODE", parse_mode), PATHS, takes_dashes=True)
def chmod(context: Context, mode: Mode, paths: tuple[bytes, ...]) -> int:
    """Change permissions to MODE: octal, or as in u=rwx,g+s,o-w,+X.

    \b
      btrimg edit disk.img chmod 4755 /usr/bin/su
      btrimg edit disk.img chmod go-w,a+X /srv /etc/passwd
    """
    context.files.change_mode(paths, mode)
    return 0


@command(Argument("owner", "UID[:GID]", parse_owner), PATHS)
def chown(context: Context, owner: Owner, paths: tuple[bytes, ...]) -> int:
    """Change owners, by numbers: UID:GID, UID, or :GID.

    \b
      btrimg edit disk.img chown 1000:100 /home/me
      btrimg edit disk.img chown :100 /srv/shared

    As the kernel does, what is no directory loses setuid, setgid and security.capability.
    """
    context.files.change_owner(paths, *owner)
    return 0


@command(
    PATHS,
    Option("time", ("-t", "--time"), "Times of access and of change of content.  [default: now]", parse_time, "TIME"),
    Option("atime", ("--atime",), "Time of access.", parse_time, "TIME"),
    Option("mtime", ("--mtime",), "Time of change of content.", parse_time, "TIME"),
    Option("ctime", ("--ctime",), "Time of change of the inode.  [default: now]", parse_time, "TIME"),
    Option("otime", ("--otime",), "Time of creation.", parse_time, "TIME"),
    Option("no_create", ("-c", "--no-create"), "Make no files that are not there."),
)
def touch(
    context: Context,
    paths: tuple[bytes, ...],
    time: Timespec | None,
    atime: Timespec | None,
    mtime: Timespec | None,
    ctime: Timespec | None,
    otime: Timespec | None,
    no_create: bool,
) -> int:
    """Change times; make files that are not there, empty.

    \b
      btrimg edit disk.img touch /etc/stamp
      btrimg edit disk.img touch --otime 2001-02-03T04:05:06.789012345Z /etc/passwd
      btrimg edit disk.img touch --atime 0 --mtime 1700000000.000000001 /a /b

    TIME is in seconds since 1970, with up to nine decimals, or a date with an offset.
    """
    from btrimg.build.values import Attributes

    times = Attributes(atime=atime, mtime=mtime, ctime=ctime, otime=otime)
    context.files.touch(paths, time, times, no_create=no_create)
    return 0


@command(Argument("changes", "CHANGE,...", parse_flags), PATHS, takes_dashes=True)
def chattr(context: Context, changes: Flags, paths: tuple[bytes, ...]) -> int:
    """Change flags and properties: +FLAG, -FLAG, PROPERTY=VALUE.

    \b
      btrimg edit disk.img chattr +nodatacow /vm
      btrimg edit disk.img chattr compression=zstd /srv /srv/log
      btrimg edit disk.img chattr -immutable,+noatime /etc/passwd
      btrimg edit disk.img chattr readonly=true /snapshots/monday

    Flags, and what chattr(1) calls them: append a, immutable i, nodump d, noatime A, sync S, dirsync D, compress c,
    nocompress m, nodatacow C. Properties: compression = zlib, lzo, zstd, with :LEVEL, none, or nothing for what is
    usual; readonly = true or false, of a subvolume. As in the kernel, nodatacow of a file changes only while it is
    empty.
    """
    context.files.change_flags(paths, changes)
    return 0


@command(
    PATH,
    _NAME,
    Argument("value", "VALUE", os.fsencode, optional=True),
    Option("digits", ("--hex",), "The value, in hexadecimal digits.", str, "DIGITS"),
    Option("file", ("--from",), "Take the value from this file of the host.", str, "FILE", is_path=True),
    name="set",
)
def xattr_set(
    context: Context, path: bytes, name: bytes, value: bytes | None, digits: str | None, file: str | None
) -> int:
    """Set an extended attribute.

    \b
      btrimg edit disk.img xattr set /etc/passwd user.origin installer
      btrimg edit disk.img xattr set /bin/ping security.capability --hex 0100000200200000000000000000000000000000
    """
    if (value is not None) + (digits is not None) + (file is not None) != 1:
        raise BtrimgError("xattr set: say one of VALUE, --hex DIGITS and --from FILE")
    if file is not None:
        try:
            with open(file, "rb") as stream:
                value = stream.read()
        except OSError as error:
            raise BtrimgError(f"{file!a} cannot be read: {error.strerror}") from None
    elif digits is not None:
        from btrimg.build.readers import read_hex

        try:
            value = read_hex(digits)
        except ValueError as error:
            raise BtrimgError(f"xattr set: --hex {error}") from None
    context.files.set_xattr(path, name, value or b"")
    return 0


@command(PATH, Argument("name", "NAME", os.fsencode, optional=True), name="get")
def xattr_get(context: Context, path: bytes, name: bytes | None) -> int:
    """Show the value of an extended attribute, or all of them.

    \b
      btrimg edit disk.img xattr get /bin/ping
      btrimg edit disk.img --json xattr get /bin/ping security.capability

    JSON, one object: names and values, in hexadecimal digits.
    """
    from btrimg.render import answers
    from btrimg.render.text import printable

    found = context.files.xattrs(path)
    if name is not None:
        if name not in found:
            raise NotFoundError(f"there is no xattr {printable(name)} at {printable(path)}")
        found = {name: found[name]}
    if context.as_json:
        print(answers.json_line({answers.name(key): value.hex() for key, value in found.items()}))
        return 0
    for key, value in found.items():
        print(f"{printable(key)} = {printable(value)}")
    return 0


@command(PATH, Argument("names", "NAME...", os.fsencode, many=True), name="remove")
def xattr_remove(context: Context, path: bytes, names: tuple[bytes, ...]) -> int:
    """Remove extended attributes.

    \b
      btrimg edit disk.img xattr remove /bin/ping security.capability
    """
    context.files.remove_xattrs(path, names)
    return 0

"""Verbs of ``btrimg edit`` about names: put, mkdir, rm, mv, ln."""

from __future__ import annotations

import os

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.edit_parameters import (
    COMPRESS,
    OWNER,
    PATH,
    PATHS,
    parse_host,
    parse_path,
    sources_and_target,
    stdin,
    storage_of,
)
from btrimg.errors import BtrimgError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.build.values import Compression
    from btrimg.cli.verbs import Context


def parse_mode(text: str) -> int:
    """Return permission bits, in octal."""
    from btrimg.build.readers import read_mode

    return read_mode(text)


@command(Argument("names", "SRC... PATH", str, many=True, is_path=True), OWNER, COMPRESS)
def put(context: Context, names: tuple[str, ...], owner: tuple[int, int] | None, compress: Compression | None) -> int:
    """Copy files of the host into the image, directories with all that is in them, as cp -a does.

    \b
      btrimg edit disk.img put passwd /etc/passwd
      btrimg edit disk.img put ./site /srv/www --owner 33:33
      btrimg edit disk.img put site/. /srv/www
      date | btrimg edit disk.img put - /etc/stamp

    Where PATH is a directory, SRC goes into it; SRC/. is what is in a directory, and goes there without it. A file
    takes the place of a file, directories stay and get the attributes and what is in SRC; when a file would take the
    place of a directory, or the other way round, anywhere below SRC, all of it is refused. Kept are permissions,
    owners (unless --owner), times of access and change, xattrs, hard links and holes. SRC - is standard input.
    """
    sources, path = sources_and_target(names, parse_host, "put")
    if sources.count(b"-") > 1:
        raise BtrimgError("put: standard input holds one file")
    context.files.put(sources, path, storage_of(compress), owner, stdin() if b"-" in sources else None)
    return 0


@command(
    PATHS,
    Option("parents", ("-p", "--parents"), "Make those that lead there, too; no error for one that is there."),
    Option("mode", ("-m", "--mode"), "Permissions.", parse_mode, "MODE"),
    OWNER,
)
def mkdir(
    context: Context, paths: tuple[bytes, ...], parents: bool, mode: int | None, owner: tuple[int, int] | None
) -> int:
    """Make directories.

    \b
      btrimg edit disk.img mkdir /srv
      btrimg edit disk.img mkdir -p /srv/www/logs -m 750 --owner 33:33
    """
    context.files.make_directories(paths, parents=parents, mode=mode, owner=owner)
    return 0


@command(
    PATHS,
    Option("recursive", ("-r", "--recursive"), "Remove directories and subvolumes with all that is in them."),
    Option("missing", ("-f",), "No error for what is not there."),
)
def rm(context: Context, paths: tuple[bytes, ...], recursive: bool, missing: bool) -> int:
    """Remove files, directories, subvolumes.

    \b
      btrimg edit disk.img rm /etc/passwd-
      btrimg edit disk.img rm -r /var/cache /snapshots/old
    """
    context.files.remove(paths, recursive=recursive, missing=missing)
    return 0


@command(Argument("names", "SRC... PATH", str, many=True))
def mv(context: Context, names: tuple[str, ...]) -> int:
    """Move files, directories and subvolumes; what has that name is replaced.

    \b
      btrimg edit disk.img mv /etc/fstab /etc/fstab.old
      btrimg edit disk.img mv /a /b /directory

    No file can move into another subvolume: as mv(1) does, it is copied there, with all attributes and hard links, and
    removed. The copies share its data. Subvolumes in a directory that moves so are moved themselves.
    """
    sources, path = sources_and_target(names, parse_path, "mv")
    context.files.move(sources, path)
    return 0


@command(
    Argument("to", "TO", str),
    PATH,
    Option("symbolic", ("-s", "--symbolic"), "Make a symbolic link, which says TO as it stands."),
)
def ln(context: Context, to: str, path: bytes, symbolic: bool) -> int:
    """Give the file TO another name; or make a symbolic link.

    \b
      btrimg edit disk.img ln /etc/hosts /etc/hosts.same
      btrimg edit disk.img ln -s ../usr/bin /bin
    """
    try:
        target = os.fsencode(to) if symbolic else parse_path(to)
    except ValueError as error:
        raise BtrimgError(f"ln: {error}") from None
    context.files.link(target, path, symbolic=symbolic)
    return 0

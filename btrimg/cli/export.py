"""``btrimg export``: copy files out of an image."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import NO_VERIFY, OPENING, SUBVOLUME, TARGET, open_inode, open_target, take_directory
from btrimg.cli.progress import counting
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.errors import BtrimgError, CorruptError
from btrimg.volume.replacing import replacing

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target
    from btrimg.filesystem.inode import Inode


@command(
    TARGET,
    Argument("output", "OUTPUT", str, is_path=True),
    Option("as_tar", ("--tar",), "Write a tar archive; implied by a name that ends in .tar, and by -."),
    NO_VERIFY,
    SUBVOLUME,
    *OPENING,
)
def export(target: Target, output: str, as_tar: bool, no_verify: bool, subvolume: int, **opening: Any) -> int:
    """Copy a file, or all that is below a directory, to the directory OUTPUT or into a tar archive.

    \b
      btrimg export disk.img:/home ./home
      btrimg export disk.img backup.tar
      btrimg export disk.img:/etc - | tar -tvf -

    Keeps modes, owners (as root), times, xattrs, hard links, holes, symlinks and special files; subvolumes become
    directories. OUTPUT must be new or an empty directory; nothing is written outside it, whatever the image says.
    A file that cannot be read whole is named in a warning and left out; the exit code is then 1. Stopped by a signal,
    a directory keeps the files that are whole; an archive is not made then.
    """
    clean_up_when_stopped()
    as_tar = as_tar or output == "-" or output.endswith(".tar")
    with open_target(target, **opening) as image:
        top = open_inode(image, target, subvolume)
        with counting("exporting", "files") as progress:
            if as_tar:
                _to_tar(top, output, progress, verify=not no_verify)
            else:
                _to_directory(top, output, progress, verify=not no_verify)
        return 1 if image.faults else 0


def _each(top: Inode, writer: Any, progress: Any, spared: tuple[type[Exception], ...]) -> None:
    """Hand *top*, or all that is below it, to *writer*; a file that fails with a *spared* error is left out."""
    from btrimg.filesystem.walk import walk

    skip = len(top.path) + 1 if top.is_directory else len(top.path.rpartition(b"/")[0]) + 1
    for inode in walk(top) if top.is_directory else [top]:
        try:
            writer.add(inode.path[skip:], inode)
            progress(1, inode.item.nbytes)
        except spared as error:
            inode.image.report(CorruptError(f"{inode.quoted} is left out: {error}"))


def _to_directory(top: Inode, output: str, progress: Any, *, verify: bool) -> None:
    from btrimg.cli.export_directory import HOST_REFUSES, DirectoryWriter

    take_directory(output)
    with DirectoryWriter(output, top, verify=verify) as writer:
        _each(top, writer, progress, (BtrimgError, *HOST_REFUSES))  # it may refuse one file, and take the next


def _to_tar(top: Inode, output: str, progress: Any, *, verify: bool) -> None:
    from btrimg.cli.export_tar import TarWriter

    spared = (BtrimgError, ValueError)  # tarfile's word for a number that no header can hold
    if output == "-":
        with TarWriter(sys.stdout.buffer, verify=verify) as writer:
            _each(top, writer, progress, spared)
        return
    with replacing([output]) as [partial], open(partial, "wb") as stream, TarWriter(stream, verify=verify) as writer:
        _each(top, writer, progress, spared)

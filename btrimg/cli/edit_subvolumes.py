"""Verbs of ``btrimg edit`` about subvolumes."""

from __future__ import annotations

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.edit_parameters import PATH, PATHS, parse_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.cli.verbs import Context


@command(PATHS)
def create(context: Context, paths: tuple[bytes, ...]) -> int:
    """Make empty subvolumes.

    \b
      btrimg edit disk.img subvolume create /home /srv
    """
    context.files.create_subvolumes(paths)
    return 0


@command(PATHS, Option("recursive", ("-r", "--recursive"), "Delete subvolumes in them, too."))
def delete(context: Context, paths: tuple[bytes, ...], recursive: bool) -> int:
    """Delete subvolumes with all that is in them.

    \b
      btrimg edit disk.img subvolume delete /snapshots/monday
      btrimg edit disk.img subvolume delete -r /home
    """
    context.files.delete_subvolumes(paths, recursive=recursive)
    return 0


@command(
    Argument("subvolume", "SUBVOLUME", parse_path),
    PATH,
    Option("read_only", ("-r", "--read-only"), "Let nobody change it."),
)
def snapshot(context: Context, subvolume: bytes, path: bytes, read_only: bool) -> int:
    """Make a snapshot of a subvolume; into PATH, if that is a directory.

    \b
      btrimg edit disk.img snapshot -r /home /snapshots/monday
      btrimg edit disk.img snapshot / /copy
    """
    context.files.snapshot(subvolume, path, read_only=read_only)
    return 0


@command(PATH, name="set-default")
def set_default(context: Context, path: bytes) -> int:
    """Make a subvolume the one that is mounted by default; / is the top-level one.

    \b
      btrimg edit disk.img set-default /root
    """
    context.files.set_default(path)
    return 0

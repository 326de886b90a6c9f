"""Parameters that commands share: naming an image and a file in it, how to open it, JSON."""

from __future__ import annotations

import os

from btrimg.cli.command import Argument, Option
from btrimg.cli.terminal import say
from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem.image import open_image
from btrimg.named import NamedTuple
from btrimg.units import parse_size
from btrimg.volume.device import Device
from btrimg.volume.superblocks import has_superblock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

TOP_LEVEL = 5


class Target(NamedTuple):
    """What an argument names: a filesystem and, maybe, a path in it."""

    devices: tuple[str, ...]
    path: bytes | None
    image: Image | None = None  #: that filesystem, where it is open already


def parse_target(text: str) -> Target:
    """Return what IMAGE, IMAGE:PATH (split at the first ``:/`` whose left side exists) or a mounted path names.

    Raises ValueError when there is no such file, or it is neither an image nor on a mounted btrfs.
    """
    at = text.find(":/")
    while at >= 0:
        if os.path.exists(text[:at]):
            return Target((text[:at],), os.fsencode(text[at + 1 :]))
        at = text.find(":/", at + 1)
    if not os.path.lexists(text):
        image, colon, _ = text.partition(":/")
        if colon:
            raise ValueError(f"{image!a} does not exist")
        raise ValueError(f"{text!a} does not exist; name a file in an image as IMAGE:/PATH")
    if has_superblock(text):
        return Target((text,), None)
    from btrimg.volume.mounted import find_mounted

    try:
        found = find_mounted(os.fsencode(text))
    except BtrimgError as error:
        raise ValueError(f"{text!a} is no btrfs image, and no file on a mounted btrfs: {error}") from None
    return Target(found.devices, found.path)


def parse_subvolume(text: str) -> int:
    """Return the id of a subvolume, 256 or 0x100; raise ValueError with a sentence that says what is accepted."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{text!a} is no number; write the id of a subvolume, as `btrimg ls -l` shows it") from None


def parse_number(text: str) -> int:
    """Return a number, 7 or 0x7; raise ValueError with a sentence."""
    try:
        number = int(text, 0)
    except ValueError:
        raise ValueError(f"{text!a} is no number") from None
    if number < 0:
        raise ValueError(f"{text!a} is negative")
    return number


TARGET = Argument("target", "IMAGE[:PATH]", parse_target, is_path=True)
JSON = Option("as_json", ("--json",), "Write JSON; many results, one object a line.")
SUBVOLUME = Option("subvolume", ("--subvolume",), "Start at this subvolume.", parse_subvolume, "ID", TOP_LEVEL)
VERBOSE = Option("verbose", ("-v",), "Accepted; there is no call of the kernel to tell of.")
NO_VERIFY = Option("no_verify", ("--no-verify",), "Do not check checksums: rescue what a damaged image still holds.")
FURTHER_DEVICES = Option(
    *("device", ("-d", "--device"), "Further device of the filesystem; may be repeated."),
    convert=str,
    metavar="PATH",
    many=True,
    is_path=True,
)
FORCE = Option("force", ("--force",), "Open in spite of unknown features.")
OPENING = (
    FURTHER_DEVICES,
    FORCE,
    Option("replay_log", ("--replay-log",), "Show files as after a replay of the log tree."),
)


#: The values of what says how an image is opened, for who has opened it.
DEFAULTS_OF_OPENING = {"device": (), "force": False, "replay_log": False}


def source_date_epoch() -> int | None:
    """Return the seconds since 1970 that SOURCE_DATE_EPOCH names: the clock of builds that are to be reproducible.

    None where it is not set (https://reproducible-builds.org/specs/source-date-epoch/).
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        seconds = int(text)
        if not -(1 << 63) <= seconds < 1 << 63:
            raise ValueError
    except ValueError:
        raise BtrimgError(f"SOURCE_DATE_EPOCH is {text[:40]!a}: it must be a number of seconds since 1970") from None
    return seconds


def size_option(name: str, flag: str, text: str, default: int | None = None) -> Option:
    """Return an option that takes a number of bytes: 4096, 0x1000, 4K, 1MiB."""
    return Option(name, (flag,), text, parse_size, "SIZE", default)


def refuse_image(devices: Iterable[str], output: str) -> None:
    """Raise BtrimgError when *output*, which will be replaced, is one of the *devices* that are read, or holds one."""
    there = os.path.realpath(output)
    for device in devices:
        if f"{os.path.realpath(device)}/".startswith(f"{there}/") or (
            os.path.exists(there) and os.path.samefile(device, there)
        ):
            raise BtrimgError(f"{output} would be replaced, and is the image or holds it; name another file")


def take_directory(path: str) -> None:
    """Make a directory, or take an empty one that is there; raise BtrimgError for anything else at *path*."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise BtrimgError(f"{path!a} is no directory; name a new or an empty one")
    os.makedirs(path, exist_ok=True)
    if os.listdir(path):
        raise BtrimgError(f"{path!a} is not empty; name a new or an empty directory")


def warn(message: str) -> None:
    """Tell the person at the terminal what was bad and got by."""
    say("warning", "yellow", message)


class CannotOpenError(BtrimgError):
    """Report an image, or another file, that is too damaged to open: exit code 2, where damage met later is 1."""


def open_target(
    target: Target,
    *,
    device: tuple[str, ...] = (),
    force: bool = False,
    replay_log: bool | None = None,
    opener: Callable[[str], Device] = Device,
) -> Image:
    """Open the filesystem that *target* names, with further devices, by *opener*; warnings go to stderr.

    Raises CannotOpenError when it is too damaged, other BtrimgErrors as ``open_image`` does.
    """
    if target.image is not None:
        return target.image
    paths = (*target.devices, *device)
    try:
        return open_image(paths, force=force, replay_log=replay_log, warn=warn, opener=opener)
    except CorruptError as error:
        raise CannotOpenError(f"cannot open {', '.join(paths)}: {error}") from None


def open_inode(image: Image, target: Target, subvolume: int, *, follow: bool = True) -> Inode:
    """Return the inode that *target* names, the top directory without a path."""
    return image.open(target.path or b"/", subvolume=subvolume, follow=follow)

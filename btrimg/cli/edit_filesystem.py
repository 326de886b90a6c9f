"""Verbs of ``btrimg edit`` about the filesystem as a whole: its names, features, size, log, superblocks and copies."""

from __future__ import annotations

import os

from btrimg.cli.command import Argument, Option, command
from btrimg.edit.sizes import parse_new_size
from btrimg.render.text import printable
from btrimg.volume.superblocks import uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from btrimg.cli.verbs import Context
    from btrimg.edit.session import Session
    from btrimg.edit.sizes import NewSize
    from btrimg.ondisk.superblock import Superblock

_RANDOM, _ORIGINAL = "random", "original"


def _uuid(text: str) -> bytes | str:
    """Return a uuid; raise ValueError."""
    from btrimg.build.readers import read_uuid

    return text if text in (_RANDOM, _ORIGINAL) else read_uuid(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!a}: write {' or '.join(words)}")
        return text

    return convert


def _number(text: str) -> int:
    """Return a small number; raise ValueError."""
    if not text.isdecimal():
        raise ValueError(f"{text!a} is no number")
    return int(text)


@command(Argument("text", "TEXT", os.fsencode, optional=True))
def label(context: Context, text: bytes | None) -> int:
    """Set the label, or show it; '' is none.

    \b
      btrimg edit disk.img label 'my disk'
      btrimg edit disk.img label
    """
    from btrimg.edit.filesystem import label_pieces

    if text is None:
        from btrimg.render.answers import name

        known = context.session.image.superblock.label.partition(b"\0")[0]
        context.tell(printable(known), label=name(known))
    else:
        context.session.write_pieces(label_pieces(context.session.image, text))
    return 0


@command(Argument("uuid", "UUID|random", _uuid, optional=True))
def fsid(context: Context, uuid: bytes | str | None) -> int:
    """Give the filesystem another fsid, written into every tree block: a random one, if none is named.

    \b
      btrimg edit copy.img fsid
      btrimg edit copy.img fsid 01234567-89ab-cdef-0123-456789abcdef

    As `btrfstune -u` does it, in place. Cut off, the image is no longer mounted; the same command finishes it, and
    `btrimg undo` takes it back. Two images of one fsid must never be mounted at once: give the copy another.
    """
    from btrimg.cli.progress import counting
    from btrimg.edit.identity import rewrite_fsid

    session = context.session
    new = uuid if isinstance(uuid, bytes) else session.uuids()
    chunk_tree_uuid = session.uuids()
    with counting("writing tree blocks anew", ""):
        rewritten = session.in_order(lambda: rewrite_fsid(session.image, session.sink, new, chunk_tree_uuid))
    context.tell(uuid_text(rewritten), fsid=uuid_text(rewritten))
    return 0


@command(Argument("uuid", "UUID|random|original", _uuid), name="metadata-uuid")
def metadata_uuid(context: Context, uuid: bytes | str) -> int:
    """Let the filesystem be known by another fsid, while its tree blocks keep the one that they have.

    \b
      btrimg edit copy.img metadata-uuid random
      btrimg edit copy.img metadata-uuid original

    As `btrfstune -m` does it: only superblocks change. "original" goes back to the fsid of the tree blocks. Linux 5.0
    mounts it.
    """
    from btrimg.edit.identity import change_fsid

    session = context.session
    original = session.image.volume.metadata_fsid
    new = uuid if isinstance(uuid, bytes) else original if uuid == _ORIGINAL else session.uuids()
    session.in_order(lambda: change_fsid(session.image, session.sink, new))
    context.tell(uuid_text(new), fsid=uuid_text(new))
    return 0


@command(Argument("state", "on|off", _one_of("on", "off")))
def seed(context: Context, state: str) -> int:
    """Make the filesystem a seed, which is mounted read-only and on which others are put; or make it none.

    \b
      btrimg edit disk.img seed on

    With "off" it can be changed again: filesystems that were put on top of it are lost when it is.
    """
    from btrimg.edit.filesystem import seed_pieces

    context.session.write_pieces(seed_pieces(context.session.image, state == "on"))
    return 0


@command(
    Argument("name", "NAME", str, optional=True),
    Argument("state", "on|off|rebuild", _one_of("on", "off", "rebuild"), optional=True),
)
def feature(context: Context, name: str | None, state: str | None) -> int:
    """Switch a feature on or off; without NAME, show those that can be switched.

    \b
      btrimg edit disk.img feature
      btrimg edit disk.img feature no-holes on
      btrimg edit disk.img feature block-group-tree off
      btrimg edit disk.img feature free-space-tree rebuild

    NAME is no-holes, block-group-tree, free-space-tree, space-cache-v1 (both ways), extref or skinny-metadata (on
    only). "rebuild" makes the free space tree anew from the extent tree, as the kernel's clear_cache does.
    """
    from btrimg.edit.features import SWITCHED, is_on, switch_feature
    from btrimg.errors import BtrimgError

    if name is None:
        for each in SWITCHED:
            known = "on" if is_on(context.session, each) else "off"
            context.tell(f"{each:17}{known}", feature=each, state=known)
        return 0
    if state is None:
        raise BtrimgError(f"say what {name} is to be: on, or off")
    if not switch_feature(context.session, name, state):
        context.tell(f"{name} is {state} already", feature=name, state=state)
    return 0


@command(Argument("size", "[DEVID:]SIZE|+N|-N|max", parse_new_size), takes_dashes=True)
def resize(context: Context, size: NewSize) -> int:
    """Make a device larger or smaller; DEVID is needed where there are several.

    \b
      btrimg edit disk.img resize 10G
      btrimg edit disk.img resize -512M
      btrimg edit disk1.img -d disk2.img resize 2:+1G
      btrimg edit disk.img resize max

    What lies behind the new end is moved first; when there is no room for it, nothing is changed. Image files become
    as long as the filesystem; "max" takes all that the file or block device has.
    """
    from btrimg.cli.progress import counting
    from btrimg.edit.resize import resize as resize_device

    with counting("moving what is in the way", ""):
        devid, end = resize_device(context.session, size)
    context.tell(f"device {devid} has {end} bytes", devid=devid, bytes=end)
    return 0


@command(
    Option("mirror", ("--from-mirror",), "Take this copy; 0 is the primary.  [default: the newest]", _number, "N"),
    Option("backup", ("--backup-root",), "Go back to the roots of this backup, 0 to 3.", _number, "N"),
    name="repair",
)
def super_repair(context: Context, mirror: int | None, backup: int | None) -> int:
    """Write all superblocks of every device anew from the newest sound one of it.

    \b
      btrimg edit disk.img super repair
      btrimg edit disk.img super repair --from-mirror 1
      btrimg edit disk.img super repair --backup-root 2

    A device that has none left gets that of another one, with its own item from the chunk tree; what lies on it tells
    which one it was. Otherwise trees are not needed.

    A superblock keeps the roots of the last four commits: to go back to one of these loses what came later, and helps
    where the newest root cannot be read; `item get super super_roots` shows them.
    """
    from btrimg.edit.rescue import repaired_superblocks

    session = context.session
    made = _made_superblocks(session, mirror)
    session.write_pieces(repaired_superblocks(session.sink.devices, mirror, backup, made))
    return 0


def _made_superblocks(session: Session, mirror: int | None) -> Mapping[int, Superblock]:
    """Return superblocks for devices that have lost theirs, which the session writes to from now on, by devid."""
    devices = session.lost_devices()
    if not devices:
        return {}
    from btrimg.edit.lost import known_again, superblocks_of
    from btrimg.errors import RefusedError

    if mirror is not None:
        raise RefusedError(f"{devices[0].path} has no sound superblock, not mirror {mirror} either; leave it out")
    lost = known_again(session.image, devices, force=session.force)
    session.take_in(lost)
    return superblocks_of(session.image, list(lost))


@command(name="replay")
def log_replay(context: Context) -> int:
    """Replay the log tree, in a commit: what was fsynced after the last one becomes part of the filesystem.

    \b
      btrimg edit disk.img log replay

    Mounting would do the same. Other edits are refused as long as there is a log tree.
    """
    from btrimg.edit.logs import replay_log

    replay_log(context.session)
    return 0


@command(name="zero")
def log_zero(context: Context) -> int:
    """Forget the log tree: what was fsynced after the last commit is lost.

    \b
      btrimg edit disk.img log zero

    For a log tree that cannot be replayed, which keeps the kernel from mounting.
    """
    from btrimg.edit.logs import forgotten_log

    context.session.write_pieces(forgotten_log(context.session.image))
    return 0


@command()
def scrub(context: Context) -> int:
    """Write every bad copy of tree blocks and data anew from a good one, and parity from data.

    \b
      btrimg edit disk.img scrub

    As `btrfs scrub` does on a mounted filesystem. Data without checksums stay as they are. The exit code is 1 when
    something has no good copy, and is lost, or when trees cannot be read that say what should be there.
    """
    from btrimg.cli.progress import counting
    from btrimg.cli.terminal import say
    from btrimg.edit.mend import mend
    from btrimg.units import format_size

    session = context.session
    with counting("reading", "tree blocks", forking=True) as progress:
        mended = mend(session.image, session.sink, progress, session.in_place)
    unread = session.image.faults
    if mended.bytes:
        session.written()
    for sentence in mended.lost:
        say("lost", "red", sentence)
    text = (
        f"{format_size(mended.bytes)} of bad copies written anew"
        if mended.bytes
        else "no bad copies that good ones could mend"
    )
    context.tell(text + (", in what can be read" if unread else ""), mended=mended.bytes, lost=mended.lost)
    return 1 if mended.lost or unread else 0

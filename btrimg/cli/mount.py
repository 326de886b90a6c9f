"""``btrimg mount``: an image as a mount whose files share pages."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from btrimg.cli.cache_options import DOMAINS, domains_of
from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_target, size_option
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.errors import OptionError

if TYPE_CHECKING:
    from btrimg.cli.cache_options import NamedDomain
    from btrimg.cli.parameters import Target
    from btrimg.mount.session import Session

_PATIENCE = 10  #: seconds that a server may take to end
_SHARES = ("auto", "passthrough", "cache", "none")


def _share(text: str) -> str:
    if text not in _SHARES:
        raise ValueError(f"{text!a} is none of {', '.join(_SHARES)}")
    return text


@command(
    TARGET._replace(metavar="IMAGE"),
    Argument("mountpoint", "MOUNTPOINT", str, is_path=True),
    SUBVOLUME._replace(help="Show this subvolume, and what hangs below it."),
    DOMAINS,
    Option("share", ("--share",), f"How to share: {', '.join(_SHARES)}.", _share, "HOW", "auto"),
    size_option(
        "cache_size",
        "--cache-size",
        "Bytes of the cache, if it is one that shares; else 256 MiB, or half of what the control group allows.",
    ),
    Option("allow_other", ("--allow-other",), "Let everybody in, as far as permissions go."),
    Option("foreground", ("--foreground",), "Serve here, and stop at Ctrl-C, instead of in the background."),
    Option(
        "stats_socket", ("--stats-socket",), "Tell statistics to whoever connects there.", str, "PATH", is_path=True
    ),
    JSON,
    *OPENING,
)
def mount(
    target: Target,
    mountpoint: str,
    subvolume: int,
    domains: tuple[NamedDomain, ...],
    share: str,
    cache_size: int | None,
    allow_other: bool,
    foreground: bool,
    stats_socket: str | None,
    as_json: bool,
    **opening: Any,
) -> int:
    """Mount an image read-only, with files that share extents sharing memory.

    \b
      btrimg mount disk.img /mnt
      btrimg mount disk.img /mnt --subvolume 256 --allow-other
      btrimg umount /mnt

    Snapshots and reflinks of a file are read and mapped through one set of pages: by FUSE passthrough (root, Linux
    6.9), or else by a cache of btrimg's own, which shares what is read but not what is mapped. Which of the two, is
    said. Everything that is read is verified; what fails is an I/O error. Only the user who mounts may enter, without
    --allow-other. With --domain, subvolumes share within a domain only; one that is in none shares with no other.
    """
    from btrimg.mount import background

    if target.path is not None:
        raise OptionError("mount takes an image; to start at a subvolume, give --subvolume")
    server = None if foreground else background.fork()
    if server and server.child:
        return server.outcome()
    clean_up_when_stopped()
    from btrimg.mount import system
    from btrimg.mount.session import Session
    from btrimg.volume.device import SharedDevice

    with ExitStack() as stack:
        # What was read is remembered: nobody shall write to it.
        image = stack.enter_context(open_target(target, **opening, opener=SharedDevice))
        system.occupy(mountpoint)  # until this process and its workers have ended: umount waits for that
        session = Session(
            image,
            mountpoint,
            subvolume=subvolume,
            domains=domains_of(domains, [image]),
            share=share,
            cache_size=cache_size,
            allow_other=allow_other,
            stats_socket=stats_socket,
        )
        stack.enter_context(session)
        _stop_on_signals(session)
        session.start()
        _say(target, mountpoint, session, as_json=as_json)
        if server:
            server.serving()
        session.wait()
    return 0


def _say(target: Target, mountpoint: str, session: Session, *, as_json: bool) -> None:
    """Print what is mounted, where and how."""
    from btrimg.render.answers import json_line

    if as_json:
        facts = {"devices": target.devices, "mountpoint": session.point, "share": session.sharing.name}
        print(json_line(facts), flush=True)
    else:
        print(f"{', '.join(target.devices)} is mounted at {mountpoint}: {session.sharing.sentence}", flush=True)


def _stop_on_signals(session: Session) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda _number, _frame: session.stop())


@command(
    Argument("mountpoint", "MOUNTPOINT", str, is_path=True),
    Option("lazy", ("--lazy",), "Also while files there are in use: unmount for good when the last is closed."),
)
def umount(mountpoint: str, lazy: bool) -> int:
    """Unmount what ``btrimg mount`` has mounted, and wait until its server has ended.

    \b
      btrimg umount /mnt

    Then the image is free. With --lazy nobody waits: the server ends when the last file there is closed.
    """
    from btrimg.mount import system

    point = system.find(mountpoint).point
    system.detach(point, lazy=lazy)
    if not lazy:
        system.wait_until_left(point, _PATIENCE)
    return 0

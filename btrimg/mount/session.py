"""A mount from its beginning to its end: connections, threads, and which way of sharing there is."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from btrimg.errors import UnsupportedError
from btrimg.mount import system
from btrimg.mount.channel import Channel
from btrimg.mount.content import Backings, Contents
from btrimg.mount.hidden import HiddenFiles
from btrimg.mount.reading import Reader
from btrimg.mount.server import Server
from btrimg.mount.sharing import COMMON, NotShared, PassedThrough
from btrimg.mount.statistics import StatisticsSocket, encoded, summary
from btrimg.mount.tree import Files
from btrimg.mount.wire import BACKING_OPEN, BackingMap, InitFlag
from btrimg.mount.workers import ProcessLock, Workers
from btrimg.mount.xattrs import Absent, ask_hidden
from btrimg.pagecache.schemes import Domains
from btrimg.units import MIB

if TYPE_CHECKING:
    from btrimg.filesystem.image import Image
    from btrimg.mount.sharing import Sharing

_READERS = 4  #: threads, and processes that give out data if there are as many processors
_FEW = 2  #: processors, of which a single reader takes one: there, several of ours are in each other's way
_READ_AHEAD = 4 * MIB
_TOLD_AGAIN = 0.2  #: seconds for which statistics are good: who asks for an xattr asks for its length first
_MESSAGES = 20  #: of what went wrong, that are kept


class Session:
    """An image mounted at a directory (context manager); it is served from ``start`` on, and unmounted at the end.

    Raises MountError when it cannot be mounted, or not with that way of sharing.
    """

    def __init__(
        self,
        image: Image,
        point: str,
        *,
        subvolume: int,
        share: str = "auto",
        domains: Domains | None = None,
        allow_other: bool = False,
        cache_size: int | None = None,
        stats_socket: str | None = None,
    ) -> None:
        if not point:
            raise system.MountError("cannot mount at '': there is no directory without a name")
        self.image, self.point = image, os.path.realpath(point)
        self.messages: deque[str] = deque(maxlen=_MESSAGES)
        self._lock = threading.RLock()
        self._files = Files(image, subvolume, self._lock)
        self._reader = Reader(image, self._lock)
        self._domains, self._cache_size = domains or Domains(), cache_size
        self._contents = Contents(self._files, self._domains)
        self._workers: Workers | None = None
        self._socket: StatisticsSocket | None = None
        self._descriptors: list[int] = []
        self._woken, self._wake = os.pipe()
        self._mounted: system.Mounted | None = None
        self._telling, self._told = threading.Lock(), (0.0, b"")
        try:
            if stats_socket is not None:
                self._socket = StatisticsSocket(os.path.abspath(stats_socket), self.statistics)
            self._mount(share, allow_other)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mount(self, share: str, allow_other: bool) -> None:
        if sys.byteorder != "little":
            raise UnsupportedError("the mount is not made for big-endian machines")
        source = os.path.abspath(next(iter(self.image.volume.devices.values())).path)
        privileged = os.geteuid() == 0
        if share == "passthrough" and not privileged:
            raise system.MountError("passthrough needs root; --share cache shares what is read without mapping")
        # Before the visible mount, of which the processes behind the hidden one must not hold anything.
        hidden = None
        if privileged and share in ("auto", "passthrough"):
            with suppress(system.MountError):  # what is wrong, the visible mount will say
                hidden = self._hide()
        if privileged:
            fd = system.open_fuse()
            self._descriptors.append(fd)
            system.attach(fd, self.point, source, allow_other=allow_other)
        else:
            fd = system.attach_by_helper(self.point, source, allow_other=allow_other)
            self._descriptors.append(fd)
        self._mounted = system.top_mount(self.point)
        self._channel = Channel(fd, self.messages.append, eager=True)
        wanted = (
            COMMON
            | InitFlag.EXPORT_SUPPORT
            | (InitFlag.POSIX_ACL | InitFlag.ALLOW_IDMAP if allow_other else InitFlag(0))
        )
        if hidden is not None:
            wanted |= InitFlag.PASSTHROUGH
        agreed = self._channel.negotiate(wanted, read_ahead=_READ_AHEAD)
        self.sharing = self._sharing(share, hidden)
        ask = None if hidden is None else partial(ask_hidden, hidden)
        absent = Absent(ask, obeyed=InitFlag.POSIX_ACL in agreed.flags)
        self._handlers = Server(self._channel, self._files, self.sharing, absent, self.statistics).handlers

    def _sharing(self, share: str, hidden: int | None) -> Sharing:
        if hidden is not None and _passes_through(self._channel.fd):
            backings = Backings(self._channel, hidden, self._contents)
            return PassedThrough(self._files, self._reader, backings)
        if share == "passthrough":
            raise UnsupportedError("files cannot be passed through; it takes Linux 6.9 with CONFIG_FUSE_PASSTHROUGH")
        if share == "none":
            return NotShared(self._files, self._reader)
        from btrimg.mount.cached import Cached
        from btrimg.mount.limits import usual_cache_size

        size = usual_cache_size() if self._cache_size is None else self._cache_size
        return Cached(self._files, self._domains, size)

    def _hide(self) -> int | None:
        """Mount and serve the hidden files; return a descriptor of their directory, None if it would be of no use."""
        lead = ProcessLock() if len(os.sched_getaffinity(0)) <= _FEW else None
        fd = system.open_fuse()
        try:
            top = system.attach_nowhere(fd)
            self._descriptors.append(top)
            channel = Channel(fd, self.messages.append, lead=lead)
            if InitFlag.PASSTHROUGH not in channel.negotiate(COMMON, read_ahead=_READ_AHEAD).offered:
                return None
            handlers = HiddenFiles(self._files, self._reader, channel).handlers
            self._workers = Workers(
                channel, handlers, min(os.cpu_count() or 1, _READERS), (top, self._woken, self._wake)
            )
        finally:
            os.close(fd)  # if we held it too, the mount would not end with those who serve it
            if lead:
                lead.close()
        device = os.fstat(top).st_dev
        system.read_ahead(f"{os.major(device)}:{os.minor(device)}", _READ_AHEAD)
        return top

    def _serve(self) -> None:
        try:
            self._channel.serve(self._handlers)
        finally:
            self.stop()

    def statistics(self) -> bytes:
        """Return how much memory there is and how much it saves, and what went wrong, as JSON."""
        with self._telling:
            at, told = self._told
            if not told or time.monotonic() - at > _TOLD_AGAIN:
                told = encoded(self._take_statistics())
                self._told = time.monotonic(), told
        return told

    def _take_statistics(self) -> dict[str, Any]:
        self.messages += self._workers.messages() if self._workers else []
        return {
            "devices": [device.path for device in self.image.volume.devices.values()],
            "mountpoint": self.point,
            "share": self.sharing.name,
            **summary(self._files, self.sharing.in_memory()),
            "messages": list(self.messages),
        }

    def start(self) -> None:
        """Serve: from now on the mount is usable."""
        if self._workers:
            self._workers.watch(self.messages.append, self.stop)
        if self._socket:
            self._socket.start()
        for _ in range(_READERS):
            threading.Thread(target=self._serve, daemon=True).start()
        if self.sharing.name == "none" and self._mounted:
            system.read_ahead(self._mounted.device, _READ_AHEAD)

    def wait(self) -> None:
        """Wait until somebody unmounts, or calls ``stop``."""
        os.read(self._woken, 1)

    def stop(self) -> None:
        """Let ``wait`` return; may be called by a signal handler."""
        os.write(self._wake, b"\0")

    def close(self) -> None:
        """Unmount; whoever still has files open gets errors from now on."""
        mounted, self._mounted = self._mounted, None
        if mounted and mounted == system.top_mount(self.point):  # neither unmounted already nor below another
            with suppress(system.MountError):
                system.detach(self.point, lazy=True)
        if self._socket:
            self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.pop())
        if self._workers:
            self._workers.close()
        self._reader.close()


def _passes_through(fd: int) -> bool:
    """Return whether files may be passed through: the kernel can, and we may ask it to."""
    probe = os.memfd_create("btrimg")
    try:
        fcntl.ioctl(fd, BACKING_OPEN, bytearray(BackingMap(probe, 0, 0).pack()))
    except OSError:
        return False
    finally:
        os.close(probe)
    return True

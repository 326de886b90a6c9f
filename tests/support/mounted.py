"""Mount images with ``btrimg mount``, and leave nothing behind whatever becomes of the test."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

import pytest

from .program import btrimg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2

PATIENCE = 120  #: seconds that anything may take which is sure to come, however busy the machine is


@contextmanager
def mounted(devices: Sequence[str], *options: object) -> Iterator[str]:
    """Mount the filesystem on *devices*; give the directory."""
    where = tempfile.mkdtemp(prefix="btrimg-fuse-")
    try:
        further = [word for device in devices[1:] for word in ("-d", device)]
        done = btrimg("mount", devices[0], where, *further, *options)
        if done.returncode == 2 and "cannot be passed through" in done.stderr:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stderr
        yield where
    finally:
        clean_up(where)


def clean_up(where: str) -> None:
    """Unmount what is at *where*, also when its server hangs: then the connection is cut. Its processes end."""
    number = _connection(where)
    if number is not None:
        _libc.umount2(os.fsencode(where), _MNT_DETACH)
        if not within(5, lambda: not os.path.exists(f"/sys/fs/fuse/connections/{number}")):
            with suppress(OSError), open(f"/sys/fs/fuse/connections/{number}/abort", "w", encoding="ascii") as file:
                file.write("1")
    ended = within(PATIENCE, lambda: not servers(where))
    os.rmdir(where)
    assert ended, f"the server of {where} has not ended"


def _connection(where: str) -> int | None:
    """Return the number of the FUSE connection mounted at *where*: the minor of its device."""
    return next((int(line.split()[2].partition(":")[2]) for line in mounts(where)), None)


def mounts(where: str) -> list[str]:
    """Return the lines of mountinfo of what is mounted at *where*."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [line for line in lines if line.split()[4] == where]


def servers(where: str) -> list[int]:
    """Return the ids of the processes that serve *where*."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
            if b"mount" in words and os.fsencode(where) in words:
                found.append(int(name))
    return found


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait until *condition* is true, or the time is over; return which."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def require_fuse() -> None:
    """Skip the running test unless we can mount; fail it where BTRIMG_REQUIRE_ORACLES=1 and we are root."""
    missing = _why_not()
    if missing:
        pytest.skip(missing)


@cache
def _why_not() -> str | None:
    if os.geteuid():
        return "mounting needs root"
    return None if os.path.exists("/dev/fuse") else "this kernel has no FUSE"


def has_helper() -> bool:
    """Return whether fusermount3 is there, by which others than root mount."""
    return shutil.which("fusermount3") is not None

"""Owners of a mount of ours can be mapped to others, as runtimes of containers do with their images."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.mounted import mounted, require_fuse

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN_TREE, _MOUNT_SETATTR = 428, 442
_NEWUSER, _CLONE, _EMPTY_PATH, _IDMAP, _AT_FDCWD = 0x1000_0000, 1, 0x1000, 0x10_0000, -100
_FIRST = 10000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int | bytes) -> int:
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@contextmanager
def _user_namespace() -> Iterator[int]:
    """Give a descriptor of a user namespace in which owner 0 is *_FIRST*."""
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        os.write(told, b"\0" if not _libc.unshare(_NEWUSER) else b"\1")
        signal.pause()
    try:
        assert os.read(ready, 1) == b"\0"
        for kind in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{kind}", "w", encoding="ascii") as file:
                file.write(f"0 {_FIRST} 1000")
        fd = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
        yield fd
        os.close(fd)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(told)


@pytest.mark.kernel
def test_owners_are_mapped(demo_image: str) -> None:
    require_fuse()
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12):
        pytest.skip("Linux maps owners of FUSE mounts since 6.12")
    with mounted([demo_image], "--allow-other", "--share", "passthrough") as top, _user_namespace() as namespace:
        tree = _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(top), _CLONE)
        try:
            _call(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, struct.pack("<4Q", _IDMAP, 0, 0, namespace), 32)
            path = "files/inline.txt"
            plain, mapped = os.stat(f"{top}/{path}"), os.stat(f"/proc/self/fd/{tree}/{path}")
            assert (mapped.st_uid, mapped.st_gid) == (plain.st_uid + _FIRST, plain.st_gid + _FIRST)
            with open(f"{top}/{path}", "rb") as one, open(f"/proc/self/fd/{tree}/{path}", "rb") as other:
                assert one.read() == other.read() != b""
        finally:
            os.close(tree)

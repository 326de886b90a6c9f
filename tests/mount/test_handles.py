"""Handles of files lead to the same files when the kernel has forgotten them, and when the image is mounted again."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.mounted import mounted, require_fuse

from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import KernelImage

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

_libc = ctypes.CDLL(None, use_errno=True)
_MOST, _NODEID = 128, 8  # bytes of a handle; where a FUSE handle has the number of the file
_FORGED = ((2, 256), (3, 256), (5, 1), (5, 9), (5, 255), (5, (1 << 40) - 1), ((1 << 24) - 1, 257), (200, 257))


@pytest.fixture(autouse=True)
def _fuse() -> None:
    require_fuse()


def handle_of(path: str) -> bytes:
    """Return the handle of what is at *path*."""
    room = ctypes.create_string_buffer(struct.pack("=Ii", _MOST, 0) + bytes(_MOST))
    if _libc.name_to_handle_at(-100, os.fsencode(path), room, ctypes.byref(ctypes.c_int()), 0):
        raise OSError(ctypes.get_errno(), path)
    return room.raw


@contextmanager
def opened_by(handle: bytes, top: str, flags: int = os.O_PATH) -> Iterator[int]:
    """Open the file that a handle leads to, in the filesystem that is mounted at *top*."""
    mount = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = _libc.open_by_handle_at(mount, ctypes.create_string_buffer(handle), flags)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "no file of that handle")
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(mount)


def everything(top: str) -> Iterator[str]:
    for where, directories, files in os.walk(top):
        yield from (os.path.join(where, name) for name in [*directories, *files])


def test_a_handle_leads_to_its_file_when_the_image_is_mounted_again(kernel_image: Callable[..., KernelImage]) -> None:
    devices = kernel_image().devices
    with mounted(devices) as top:
        before = {path.removeprefix(top): (handle_of(path), os.lstat(path)) for path in [*everything(top)][::5]}
    assert any(stat.S_ISDIR(found.st_mode) for _, found in before.values())
    with mounted(devices) as top:
        for path, (handle, then) in before.items():
            if then.st_ino >= 1 << 63:  # an empty directory instead of a subvolume: they look all the same
                continue
            with opened_by(handle, top) as fd:
                now = os.fstat(fd)
                assert (now.st_ino, now.st_mode, now.st_mtime_ns) == (then.st_ino, then.st_mode, then.st_mtime_ns)
                if stat.S_ISDIR(then.st_mode):  # which the kernel looks for from there to the top
                    assert os.readlink(f"/proc/self/fd/{fd}") == top + path
                elif stat.S_ISREG(then.st_mode) and then.st_size:
                    with opened_by(handle, top, os.O_RDONLY) as file:
                        assert os.read(file, 1)


def test_a_handle_that_was_made_up_leads_nowhere(kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image()
    with open_image(written.devices) as image:
        inside = next(found.id for found in image.subvolumes() if image.parent_of(found.id))
        top_path = image.path_of_subvolume(inside) or b""
        paths = {found.id: image.path_of_subvolume(found.id) for found in image.subvolumes()}
        outside = [number for number, path in paths.items() if path is None or not path.startswith(top_path)]
    with mounted(written.devices, "--subvolume", inside) as top:
        handle = handle_of(top)
        entries = [entry for entry in written.truth.entries.values() if entry.subvolume in outside]
        files = [(entry.subvolume, entry.stat.ino) for entry in entries if stat.S_ISREG(entry.stat.mode)]
        assert len(files) > 9
        places = [*_FORGED, *((number, 256) for number in outside), (inside, 256), (0, 256), (1 << 23, 0), *files[::9]]
        for subvolume, ino in places:
            forged = bytearray(handle)
            struct.pack_into("=II", forged, _NODEID, *divmod(subvolume << 40 | ino, 1 << 32))
            with pytest.raises(OSError, match="no file") as error, opened_by(bytes(forged), top):
                pass
            assert error.value.errno == errno.ESTALE, (subvolume, ino)
        assert os.listdir(top)

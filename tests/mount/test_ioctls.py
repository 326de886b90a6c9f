"""Flags, generations and the label, as ``lsattr`` and others ask for them, are the kernel's."""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.mounted import mounted, require_fuse

from btrimg.mount.ioctls import GET_FLAGS, GET_LABEL, GET_VERSION, GET_XFLAGS, shown_flags
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import KernelImage

_SIZES = {GET_FLAGS: 4, GET_XFLAGS: 28, GET_VERSION: 4, GET_LABEL: 256}


def test_each_flag_is_the_one_that_lsattr_knows() -> None:
    expected = {
        InodeFlag.NODATASUM: 0,
        InodeFlag.NODATACOW: 0x800000,
        InodeFlag.READONLY: 0,
        InodeFlag.NOCOMPRESS: 0x400,
        InodeFlag.PREALLOC: 0,
        InodeFlag.SYNC: 0x8,
        InodeFlag.IMMUTABLE: 0x10,
        InodeFlag.APPEND: 0x20,
        InodeFlag.NODUMP: 0x40,
        InodeFlag.NOATIME: 0x80,
        InodeFlag.DIRSYNC: 0x10000,
        InodeFlag.COMPRESS: 0x4,
        InodeFlag.ROOT_ITEM_INIT: 0,
        InodeFlag.VERITY: 0x100000,
    }
    assert {flag: shown_flags(flag) for flag in InodeFlag} == expected
    assert shown_flags(InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS | InodeFlag.SYNC) == 0x408


def asked(path: bytes, number: int) -> bytes:
    with kernel.opened(path) as fd:
        return bytes(fcntl.ioctl(fd, number, bytes(_SIZES[number])))


@pytest.mark.kernel
@pytest.mark.progs
def test_every_file_answers_as_in_the_kernels_mount(kernel_image: Callable[..., KernelImage]) -> None:
    require_fuse()
    written = kernel_image()
    with mounted(written.devices, "--share", "passthrough") as ours, written.mount() as theirs:
        paths = [
            path
            for path, entry in written.truth.entries.items()
            if stat.S_IFMT(entry.stat.mode) in (stat.S_IFREG, stat.S_IFDIR) and not entry.is_placeholder
            if path.count(b"/") == 1 or b"/nocow/" in path
        ]
        found = [[asked(os.fsencode(ours) + path, number) for number in _SIZES] for path in paths]
        assert found == [[asked(os.fsencode(theirs) + path, number) for number in _SIZES] for path in paths]
        assert len({flags for flags, *_ in found}) > 1
        with pytest.raises(OSError, match="Inappropriate ioctl"), kernel.opened(os.fsencode(ours)) as fd:
            fcntl.ioctl(fd, 0x80081234, bytes(8))

"""Who asks for what no file has is told so once, and not of every file; and only when that is known."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from support.mounted import PATIENCE, mounted, require_fuse, within

from btrimg.errors import CorruptError
from btrimg.filesystem.image import open_image
from btrimg.mount import xattrs
from btrimg.mount.xattrs import Absent, all_names

if TYPE_CHECKING:
    from pathlib import Path

LABEL, ACL, CAPABILITY = b"security.selinux", b"system.posix_acl_access", b"security.capability"
IN_DEMO = b"btrfs.compression\0user.origin\0"


def test_all_names_are_found(demo_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xattrs, "_PATIENCE", PATIENCE)
    with open_image([demo_image]) as image:
        assert all_names(image) == IN_DEMO


def test_they_are_not_known_when_a_leaf_is_lost(demo_image: str, tmp_path: Path) -> None:
    bad = shutil.copy(demo_image, str(tmp_path))
    with open_image([bad], warn=lambda _: None) as image:
        pointer = image.blocks.read(image.subvolume(5).tree.root).header.bytenr
        with open(bad, "r+b") as device:
            for copy in image.volume.chunk_map.find(pointer).locate(pointer).copies:
                device.seek(copy.physical)
                device.write(b"\xff" * 200)
    with open_image([bad], warn=lambda _: None) as image, pytest.raises(CorruptError):
        all_names(image)


@pytest.mark.parametrize("obeyed", [False, True])
def test_nobody_looks_for_them_until_asked_in_vain(obeyed: bool) -> None:
    asked: list[bool] = []
    absent = Absent(lambda: bytes(asked.append(True) or IN_DEMO), obeyed=obeyed)  # type: ignore[func-returns-value]
    assert {absent.errno(LABEL) for _ in range(31)} == {errno.ENODATA}
    assert not asked
    assert absent.errno(LABEL) == errno.ENODATA
    assert within(PATIENCE, lambda: LABEL in absent)
    assert (absent.errno(LABEL), absent.errno(CAPABILITY)) == (errno.EOPNOTSUPP, errno.ENODATA)
    assert absent.errno(ACL) == (errno.ENODATA if obeyed else errno.EOPNOTSUPP)
    assert b"user.origin" not in absent
    assert len(asked) == 1


def test_a_label_that_no_file_has_is_not_supported(demo_image: str) -> None:
    require_fuse()
    with mounted([demo_image], "--share", "passthrough") as top:

        def error_of(name: bytes) -> int | None:
            with pytest.raises(OSError, match=r".") as failure:
                os.getxattr(top, name)
            return failure.value.errno

        assert error_of(LABEL) == errno.ENODATA
        assert within(PATIENCE, lambda: error_of(LABEL) == errno.EOPNOTSUPP)
        assert [error_of(name) for name in (ACL, CAPABILITY, b"user.none")] == [errno.EOPNOTSUPP] + [errno.ENODATA] * 2
        assert os.getxattr(f"{top}/files/inline.txt", b"user.origin") == b"fixtures/demo.sh"


def test_names_that_btrfs_has_no_place_for_are_the_errors_that_the_kernel_has() -> None:
    absent = Absent(None, obeyed=False)
    expected = {
        b"user.none": errno.ENODATA,
        b"btrfs.none": errno.ENODATA,
        b"trusted.none": errno.ENODATA,
        ACL: errno.ENODATA,
        b"user.": errno.EINVAL,
        b"btrfs.": errno.EINVAL,
        b"system.none": errno.EOPNOTSUPP,
        ACL + b"s": errno.EOPNOTSUPP,
        b"none": errno.EOPNOTSUPP,
    }
    assert {name: absent.errno(name) for name in expected} == expected

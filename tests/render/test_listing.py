"""Special files in listings: their device number is the kernel's dev_t, of 12 and 20 bits."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.demo import SPARSE, change_inode
from support.forge import edit_leaf

from btrimg.cli.main import run
from btrimg.ondisk.constants import TreeId
from btrimg.render.listing import device_number


@given(st.integers(0, (1 << 12) - 1), st.integers(0, (1 << 20) - 1))
def test_a_device_number_is_twelve_bits_over_twenty(major: int, minor: int) -> None:
    assert device_number(major * 1048576 + minor) == (major, minor)


@pytest.mark.parametrize(("kind", "letter"), [(stat.S_IFCHR, "c"), (stat.S_IFBLK, "b")])
def test_a_device_is_listed_by_its_number(kind: int, letter: str, forged: str, capsys: Any) -> None:
    rdev = 259 << 20 | 300_001  # more than 8 bits each
    edit_leaf(forged, TreeId.FS_TREE, lambda items: change_inode(items, SPARSE, mode=kind | 0o640, rdev=rdev))
    path = f"{forged}:/files/sparse.raw"
    assert run(["ls", "-l", f"{forged}:/files"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.endswith("sparse.raw"))
    assert line.startswith(f"{letter}rw-r-----")
    assert " 259, 300001 " in line
    assert run(["stat", "--json", path]) == 0
    assert json.loads(capsys.readouterr().out)["rdev"] == [259, 300_001]
    assert run(["stat", path]) == 0
    assert "device:        259, 300001\n" in capsys.readouterr().out

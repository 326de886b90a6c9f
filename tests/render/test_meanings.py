"""Numbers are explained as the declarations say, each kind by its own names."""

from __future__ import annotations

import re
from pathlib import Path

from btrimg import ondisk
from btrimg.ondisk import constants
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import BACKREF_REV_SHIFT
from btrimg.ondisk.inodes import DirItem, InodeItem
from btrimg.ondisk.superblock import Superblock
from btrimg.render.meanings import KINDS, meaning

_DECLARED = re.compile(r"    (\w+): U\d+  #: (\w+)")


def test_every_field_that_is_declared_to_be_of_a_kind_is_explained_by_it() -> None:
    declared, within = {}, ""
    for path in sorted(Path(next(iter(ondisk.__path__))).glob("*.py")):
        for line in path.read_text().splitlines():
            if line.startswith("class "):
                within = line.removeprefix("class ").partition("(")[0]
            found = _DECLARED.match(line)
            if found and isinstance(getattr(constants, found[2], None), type):
                declared[within, found[1]] = getattr(constants, found[2])
    assert {(of.__name__, field): kind for (of, field), kind in KINDS.items()} == declared


def test_names_of_numbers() -> None:
    assert meaning(InodeItem, "flags", 3) == "NODATASUM|NODATACOW"
    assert meaning(InodeItem, "flags", 0) == ""
    assert meaning(InodeItem, "mode", 0o104755) == "0o104755"
    assert meaning(InodeItem, "nlink", 3) == ""
    assert meaning(Superblock, "incompat_flags", 1 << 40 | 1) == f"MIXED_BACKREF|{1 << 40}"
    assert meaning(Header, "flags", 1 << BACKREF_REV_SHIFT | 1) == "WRITTEN"
    assert meaning(DirItem, "type", 2) == "DIR"
    assert meaning(DirItem, "type", 200) == ""
    assert meaning(Superblock, "label", b"x") == ""

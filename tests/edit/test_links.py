"""Link counts against names, before an edit counts: made up wrong, and in images that are wrong already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.images import copy_sparse
from support.program import btrimg

from btrimg.build.image import build_image
from btrimg.build.recipe import parse_recipe
from btrimg.errors import WorseError
from btrimg.filesystem.edit_names import change_inode, inode_key, put_records, records_at
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.inodes import InodeItem, InodeRef

from .sessions import begun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from btrimg.trees.overlay import OverlayTree

    Edit = Callable[[OverlayTree], None]

RECIPE = b"""
filesystem.size = "64M"
do = [
    {subvolume = "/home"},
    {file = "/once", text = "1"},
    {file = "/twice", text = "2"},
    {link = "/again", to = "/twice"},
    {mkdir = "/directory"},
    {file = "/often", text = "3"},
    {link = "/a-name-long-enough-for-extended-references-to-be-needed-{n}", to = "/often", repeat = 300},
]
"""
TOP = 256
ONCE, TWICE, DIRECTORY, OFTEN = range(257, 261)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an image that stays as it is."""
    path, recipe = str(tmp_path_factory.mktemp("links") / "disk.img"), parse_recipe(RECIPE, "links")
    build_image(recipe.filesystem, recipe.operations(), [path])
    return path


@pytest.fixture(scope="module")
def wrong(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make one in which files count more and fewer links than they have names."""
    (path,) = copy_sparse([base], str(tmp_path_factory.mktemp("wrong")))
    for ino, links in ((ONCE, 0), (TWICE, 7), (OFTEN, 300)):
        done = btrimg("edit", path, "--force", "item", "set", "fs", f"{ino}.INODE_ITEM", f"nlink={links}")
        assert done.returncode == 0, done.stderr
    return path


def commit(path: str, edit: Edit) -> None:
    """Make an *edit* of the files that the engine vouches for, so that nothing but its own judge looks at it."""
    undo = f"{path}.{len(os.listdir(os.path.dirname(path)))}"
    with begun([path], undo) as session:
        session.force = False
        edit(session.transaction().tree(TreeId.FS_TREE))
        session.commit()


def last_name(ino: int) -> Edit:
    """Take the last of an inode's names out of its INODE_REF."""
    key = Key(ino, ItemType.INODE_REF, TOP)
    return lambda tree: put_records(tree, key, records_at(tree, InodeRef, key)[:-1])


def extended_name(tree: OverlayTree) -> None:
    first = Key(OFTEN, ItemType.INODE_EXTREF, 0)
    key, _ = next(iter(tree.items(first, first._replace(type=ItemType.INODE_EXTREF + 1))))
    tree.delete(key)


def nameless(tree: OverlayTree) -> None:
    tree.put(inode_key(1000), InodeItem.patch(tree.get(inode_key(ONCE)), nlink=1))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda tree: change_inode(tree, ONCE, nlink=2), f"inode {ONCE} of subvolume 5 has 2 links, but 1 names"),
        (lambda tree: change_inode(tree, TWICE, nlink=1), f"inode {TWICE} of subvolume 5 has 1 links, but 2 names"),
        (lambda tree: change_inode(tree, DIRECTORY, nlink=2), f"inode {DIRECTORY} .* has 2 links, but 1 names"),
        (lambda tree: tree.delete(inode_key(DIRECTORY)), f"inode {DIRECTORY} of subvolume 5 has 0 links, but 1 names"),
        (last_name(ONCE), f"inode {ONCE} of subvolume 5 has 1 links, but 0 names"),
        (last_name(TWICE), f"inode {TWICE} of subvolume 5 has 2 links, but 1 names"),
        (extended_name, f"inode {OFTEN} of subvolume 5 has 301 links, but 300 names"),
        (nameless, "inode 1000 of subvolume 5 has 1 links, but 0 names"),
    ],
)
def test_an_edit_is_refused_that_counts_links_wrong(base: str, tmp_path: Path, edit: Edit, sentence: str) -> None:
    (path,) = copy_sparse([base], str(tmp_path))
    with pytest.raises(WorseError, match=f"worse: {sentence}"):
        commit(path, edit)


def test_what_was_counted_wrong_before_can_be_put_right(wrong: str, tmp_path: Path) -> None:
    (path,) = copy_sparse([wrong], str(tmp_path))
    commit(path, lambda tree: change_inode(tree, TWICE, nlink=2))
    commit(path, lambda tree: change_inode(tree, ONCE, nlink=5))
    with open_image(path) as image:
        assert [image.open(name).item.nlink for name in (b"/twice", b"/once")] == [2, 5]


@pytest.mark.parametrize(
    "line",
    [
        "chmod 600 /twice",
        "ln /twice /home-made",
        "rm /twice",
        "rm /once /twice /again",
        "rm /often",
        "mv /again /directory",
        "mv /once /twice",
        "mv /twice /home",
        "mv /directory /home",
        "snapshot / /home/of-all",
        "truncate --size 100K /often",
    ],
)
def test_other_edits_leave_wrong_counts_to_who_repairs_them(wrong: str, tmp_path: Path, line: str) -> None:
    (path,) = copy_sparse([wrong], str(tmp_path))
    done = btrimg("edit", path, *line.split())
    assert done.returncode == 0, done.stderr


def test_a_snapshot_counts_as_what_it_was_made_of(wrong: str, tmp_path: Path) -> None:
    """A leaf of it that is written anew has inodes of which the names, or the items, are in one that is not."""
    (path,) = copy_sparse([wrong], str(tmp_path))
    lines = (
        "begin\nsnapshot / /home/of-all\nchmod 600 /home/of-all/twice\nln /home/of-all/often /home/of-all/more\ncommit"
    )
    done = btrimg("shell", path, stdin=lines)
    assert done.returncode == 0, done.stderr

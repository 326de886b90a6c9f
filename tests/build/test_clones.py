"""Reflinks of whole files, which are done together where they follow each other: as if they were done one by one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.judges import complaints
from support.program import btrimg

from btrimg.build.image import build_image
from btrimg.build.recipe import parse_recipe
from btrimg.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 300_001

# Names that are there already, two with one hash, sources with holes and inline ones; a source among the new names.
DO = """
    {file = "/source", parts = [{random = "100K"}, {hole = "64K"}, {random = %(last)d}]},
    {file = "/small", text = "inline"},
    {mkdir = "/d"},
    {file = "/d/c-3", text = "was here"},
    {file = "/d/c-5", random = "8K"},
    {reflink = "/d/c-{n}", from = "/source"%(length)s, repeat = 40},
    {reflink = "/d/s-{n}", from = "/small"%(length_small)s, repeat = 3},
    {reflink = "/d/\\\\xd3\\\\xe5\\\\xf2", from = "/d/c-1"%(length)s},
    {reflink = "/d/last", from = "/d/c-1"%(length)s},
    {reflink = "/d/last", from = "/d/c-2"%(length)s},
"""


def dumped(path: Path, *, together: bool, extra: str = "") -> str:
    """Build; return all trees as text. A length that says no more than is so keeps reflinks from being batched."""
    words = {"last": SIZE - (164 << 10), "length": "", "length_small": ""}
    if not together:
        words |= {"length": f", length = {SIZE}", "length_small": ", length = 6"}
    text = f'filesystem.seed = "s"\nfilesystem.size = "128M"\nfilesystem.features = ["{extra}"]\ndo = [{DO % words}]'
    if not extra:
        text = text.replace('filesystem.features = [""]\n', "")
    recipe = parse_recipe(text.encode(), "x.toml")
    image = path / f"{together}{extra}.img"
    build_image(recipe.filesystem, recipe.operations(), [str(image)])
    assert complaints([str(image)]) == []
    done = btrimg("inspect", "dump-tree", image)
    assert done.returncode == 0
    return re.sub(r"csum 0x\w+|sequence \d+", "", done.stdout)  # that counts changes, which are fewer


@pytest.mark.parametrize("extra", ["", "^no-holes"])
def test_together_they_become_what_they_become_one_by_one(extra: str, tmp_path: Path) -> None:
    together, alone = (dumped(tmp_path, together=each, extra=extra) for each in (True, False))
    assert together == alone
    assert together.count("location key") > 90


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('{reflink = "/c-{n}", from = "/nowhere", repeat = 3}', "line 3: reflink '/c-0': '/nowhere' is not there"),
        ('{reflink = "/d/c-{n}", from = "/source", repeat = 3}', "line 3: reflink '/d/c-0': '/d' is not there"),
        ('{mkdir = "/d", flags = ["nodatacow"]}, {reflink = "/d/c-{n}", from = "/source", repeat = 2}', "checksums"),
    ],
)
def test_what_cannot_be_is_told_with_its_entry(entry: str, told: str, tmp_path: Path) -> None:
    text = f'filesystem.size = "128M"\ndo = [{{file = "/source", random = "8K"}},\n{entry}]'
    recipe = parse_recipe(text.encode(), "x.toml")
    with pytest.raises(RecipeError, match=re.escape(told)):
        build_image(recipe.filesystem, recipe.operations(), [str(tmp_path / "image")])
    assert list(tmp_path.iterdir()) == []

"""The public face: what ``import btrimg`` promises, and what it costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import btrimg


@pytest.mark.parametrize("name", btrimg.__all__)
def test_public_name_and_its_members_have_docstrings_of_their_own(name: str) -> None:
    value = getattr(btrimg, name)
    members = {name: value}
    if inspect.isclass(value):
        members |= {f"{name}.{member}": object_ for member, object_ in vars(value).items() if member[0] != "_"}
    described = {
        member: object_.__doc__
        for member, object_ in members.items()
        if callable(object_) or isinstance(object_, (property, classmethod))
    }
    assert [member for member, text in described.items() if not text] == []
    assert not described[name].startswith(f"{name}("), "collections.namedtuple wrote it"


def test_type_checkers_and_python_see_the_same_names() -> None:
    typed = {
        alias.asname or alias.name
        for block in ast.parse(inspect.getsource(btrimg)).body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert typed == set(btrimg.__all__)


@pytest.mark.parametrize("name", ["opne", "__path_of__", "image"])
def test_another_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(btrimg, name)


def test_import_loads_no_other_module_of_btrimg() -> None:
    code = "import sys, btrimg; print([name for name in sys.modules if name.startswith('btrimg.')])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_open_takes_one_path_or_several_of_any_kind(demo_image: str) -> None:
    for paths in (demo_image, Path(demo_image), [demo_image], (Path(demo_image),)):
        with btrimg.open(paths) as fs:
            assert fs.open(b"/files/inline.txt").read(0, 100) == b"a file this short lies in the metadata\n"

"""Random recipes, judged by everybody: checks, a plain model, and the kernel, which goes on with what was built.

``BTRIMG_RECIPES=200`` says how many.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from support import kernel
from support.afterlife import live_on, rewrite
from support.judges import complaints
from support.program import btrimg
from support.recipes import Model, recipes

if TYPE_CHECKING:
    from collections.abc import Sequence

MANY = int(os.environ.get("BTRIMG_RECIPES", "3"))


@pytest.mark.kernel
@settings(
    max_examples=MANY,
    phases=(Phase.explicit, Phase.generate),  # a smaller recipe takes as long to judge
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(recipes())
def test_all_judges_agree_on_a_random_recipe(drawn: tuple[str, int, Model]) -> None:
    text, devices, model = drawn
    with tempfile.TemporaryDirectory(prefix="btrimg-recipe-", dir=os.environ.get("TMPDIR")) as directory:
        built = _build(directory, text, devices)
        assert complaints(built) == [], text
        with kernel.mount(built) as top:
            _compare(top, model, text)
            live_on(top)
            writable = [path.encode() for path in model.all_files() if _may_write(path, model)]
            rewrite(top, writable[:5])
            for path, file in model.all_files().items():
                if path.encode() not in writable[:5]:
                    assert _read(top, path) == file.content, (path, text)
        assert complaints(built) == [], text


def _build(directory: str, text: str, devices: int) -> Sequence[str]:
    recipe = os.path.join(directory, "random.toml")
    with open(recipe, "w", encoding="utf-8") as file:
        file.write(text)
    built = [os.path.join(directory, f"dev{number}.img") for number in range(1, devices + 1)]
    done = btrimg("build", recipe, *(word for device in built for word in ("-o", device)))
    assert done.returncode == 0, (done.stderr, text)
    return built


def _compare(top: str, model: Model, text: str) -> None:
    found = set()
    for directory, _, names in os.walk(top):
        found |= {os.path.join(directory, name).removeprefix(top) for name in names}
    assert found == model.all_files().keys(), text
    for path, file in model.all_files().items():
        assert _read(top, path) == file.content, (path, text)
        status = os.stat(top + path)
        assert status.st_mode & 0o7777 == file.mode, (path, text)
        assert os.getxattr(top + path, "user.x") == file.xattrs[b"user.x"], (path, text)


def _may_write(path: str, model: Model) -> bool:
    return not any(path.startswith(f"{subvolume}/") for subvolume in model.read_only)


def _read(top: str, path: str) -> bytes:
    with open(top + path, "rb") as file:
        return file.read()

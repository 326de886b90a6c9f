"""Of what subvolumes share, one copy is judged: judging all of them finds the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.broken import broken, findings, load_all

from btrimg.check import derived
from btrimg.check.rule import rules
from btrimg.tables import differences
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from support.broken import Broken


def reads_files(recipe: Broken) -> bool:
    words = derived.words_of(rules()[recipe.rule].query)
    words |= {word for each in derived.needed(words) for word in derived.words_of(each.query)}
    return bool(words & {*differences.ENDS, "linked_inodes", "present"})


RECIPES = [recipe for recipe in load_all() if recipe.base == "rich" and reads_files(recipe)]


def nothing_shared(scan: Any, leaves_of: Callable[[int], Any]) -> Iterator[tuple[int, Any, None]]:
    """Stand in for what finds subvolumes that share leaves."""
    for number, (tree, _) in enumerate(scan.trees):
        if is_subvolume(tree):
            yield number, leaves_of(number), None


def test_there_are_recipes_of_files() -> None:
    assert len(RECIPES) > 40


@pytest.mark.kernel
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_what_is_left_out_hides_nothing(
    recipe: Broken, base_image: Callable[[str], Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "_with_bases", nothing_shared)
    devices = base_image(recipe.base)
    with broken(devices, recipe.edits):
        assert findings(devices, data=recipe.data) == set(recipe.findings)

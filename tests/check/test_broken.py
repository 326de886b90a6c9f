"""Every rule fires on an image that breaks it, and on no good one; ``btrfs check`` stands beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.bases import BASES
from support.broken import broken, findings, load_all, progs_verdict, progs_version

from btrimg.check.rule import rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.broken import Broken

    Base = Callable[[str], Sequence[str]]

RECIPES = load_all()
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def test_every_rule_has_a_broken_image_and_every_image_a_rule() -> None:
    assert {recipe.rule for recipe in RECIPES} == set(rules())


@each_recipe
def test_a_recipe_names_its_rule_and_others_that_are_there(recipe: Broken) -> None:
    assert recipe.rule in recipe.findings
    assert set(recipe.findings) <= set(rules())
    assert recipe.base in BASES
    assert recipe.data or not any(rules()[code].needs_data for code in recipe.findings)
    verdicts = [recipe.progs] if isinstance(recipe.progs, str) else recipe.progs.values()
    assert set(verdicts) <= {"clean", "errors", "refused", "crashed"}


@pytest.mark.kernel
@pytest.mark.parametrize("name", BASES)
def test_a_base_is_clean(name: str, base_image: Base) -> None:
    assert findings(base_image(name), data=True) == set()


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("name", BASES)
def test_progs_find_a_base_clean(name: str, base_image: Base) -> None:
    verdict, said = progs_verdict(base_image(name))
    assert verdict == "clean", said


@pytest.mark.kernel
@pytest.mark.progs
@each_recipe
def test_the_rule_fires_and_only_what_follows_from_it(recipe: Broken, base_image: Base) -> None:
    devices = base_image(recipe.base)
    with broken(devices, recipe.edits):
        assert findings(devices, data=recipe.data) == set(recipe.findings)
        verdict, said = progs_verdict(devices)
    assert verdict == recipe.verdict(progs_version()), said

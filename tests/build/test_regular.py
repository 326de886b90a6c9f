"""Recipes that are written regularly, read as tomllib reads them."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from btrimg.build.recipe import parse_recipe
from btrimg.build.regular import parse_regular
from btrimg.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from hypothesis.strategies import DrawFn

    Table = dict[str, str]

_KEYS = st.sampled_from(("put", "from", "a-1", "0", "_x", "True", "do"))
_TEXT = st.text(st.characters(exclude_characters='"\\\x7f', exclude_categories=("Cs", "Cc")), max_size=12)
_STRINGS = (_TEXT | st.sampled_from(("a = 3", "{x = 1},", "[[do]]", "# no", "]", "é", "{0: 1}"))).map(
    lambda text: f'"{text}"'
)
_NUMBERS = st.integers(0, 10**18 - 1).map(str)
_VALUES = _STRINGS | _NUMBERS | st.sampled_from(("true", "false", "0"))
_TABLES = st.lists(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4), min_size=1, max_size=5)
_BEFORE = st.sampled_from(
    ("", 'about = "[[do]]"\n', "about = '''x'''\n", "# do = [\n", "[filesystem]\nlabel = 'x'\n", "x = [\n")
)


@st.composite
def _arrays(draw: DrawFn) -> str:
    blanks = st.sampled_from(("", " ", "    "))

    def row(table: Table) -> str:
        pairs = [f"{draw(blanks)}{key}{draw(blanks)}={value}" for key, value in table.items()]
        return f"{draw(blanks)}{{{f'{draw(blanks)},'.join(pairs)} }}"

    rows = [row(table) for table in draw(_TABLES)]
    end = draw(st.sampled_from(("]\n", "]", "] # end\n\n[filesystem]\nsize = 1\n", "]\nabout = 'x'\n", "]\ndo = []\n")))
    between = draw(st.sampled_from((",\n", ", \n", ",\n\n", ",\n# é\n", "\n")))
    return draw(_BEFORE) + "do = [\n" + between.join(rows) + draw(st.sampled_from((",\n", "\n"))) + end


@st.composite
def _in_tables(draw: DrawFn) -> str:
    tables: Sequence[Table] = draw(_TABLES)
    head = draw(st.sampled_from(("[[do]]\n", "[[do]]\n", " [[do]]\n", "[[do]] # x\n")))
    between = draw(st.sampled_from(("", "\n", "# x\n", "\n\n")))
    parts = [head + "".join(f"{key} = {value}\n" for key, value in table.items()) for table in tables]
    return draw(_BEFORE) + between.join(parts) + draw(st.sampled_from(("", "\n", "[x]\ny = 1\n")))


def _reference(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


@settings(max_examples=50)
@given(_arrays() | _in_tables())
@example("do = [\n{a = 1}\n{a = 2}\n]\n")  # no comma
@example("do = [\n{a = 1, a = 2},\n]\n")  # a key twice
@example("[[do]]\na = 1\na = 2\n")
@example("[x]\ndo = [\n{a = 1},\n]\n")  # of another table
@example("about = '''\ndo = [\n{a = 1},\n]\n'''\ndo = []\n")  # in a string
@example("about = '''\n[[do]]\na = 1\n'''\n")
@example("do = [\n{a = 01},\n]\n")
@example("do = [\n{a = 1},,\n]\n")
def test_what_is_regular_is_read_as_by_tomllib(text: str) -> None:
    found = parse_regular(text)
    assert found is None or found == _reference(text)


@settings(max_examples=50)
@given(_TABLES)
def test_plain_entries_are_regular(tables: Sequence[Table]) -> None:
    rows = [", ".join(f"{key} = {value}" for key, value in table.items()) for table in tables]
    array = (
        'about = "x"\n# rows\ndo = [\n' + "".join(f"    {{{row}}},\n" for row in rows) + "]\n\n[filesystem]\nsize = 1\n"
    )
    entries = 'about = "x"\n\n' + "\n".join(
        "[[do]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()) for table in tables
    )
    for text in (array, entries):
        found = parse_regular(text)
        assert found is not None
        assert found == tomllib.loads(text)
        assert [list(table) for table in found["do"]] == [list(table) for table in tables]  # in that order


def _in_rows(wrong: str) -> str:
    return "do = [\n" + "".join(f'    {{mkdir = "/{n}"}},\n' for n in range(4000)) + f"    {wrong},\n]\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('{mkdir = "x"}', "must begin with /"),
        ('{mkdir = "/x", moed = "755"}', "did you mean mode"),
        ('{mkdir = "/x" mode = "755"}', "is no TOML"),
        ('{mkdir = "/x", mkdir = "/y"}', "is no TOML"),
    ],
)
def test_errors_of_long_recipes_name_their_line(wrong: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(_in_rows(wrong).encode(), "long", is_edit=True)
    assert caught.value.line == 4002
    assert said in str(caught.value)


def test_a_long_recipe_is_not_left_to_tomllib(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    loads: Callable[[str], dict[str, Any]] = tomllib.loads

    def note(text: str) -> dict[str, Any]:
        read.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", note)
    recipe = parse_recipe(_in_rows('{rename = "/1", to = "/one"}').encode(), "long", is_edit=True)
    assert len(recipe.steps) == 4001
    assert read == ["do = [\n]\n"]

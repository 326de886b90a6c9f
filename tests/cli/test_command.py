"""The fast parser and click agree on every command line that the fast one takes."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.cli.click_group import click_command
from btrimg.cli.command import Argument, Command, Option, command


def _even(text: str) -> int:
    number = int(text)
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


@command(
    Argument("first", "FIRST", str),
    Argument("number", "EVEN", _even),
    Option("flag", ("-f", "--flag"), "A flag."),
    Option("size", ("--size",), "A value.", _even, "EVEN", 8),
    Option("bare", ("--bare",), "A value without default.", str, "TEXT"),
    Option("many", ("-m", "--many"), "A repeated value.", _even, "EVEN", many=True),
)
def two(**values: Any) -> int:
    """Take two arguments."""
    return len(values)


@command(Argument("targets", "TARGET...", _even, many=True), Option("flag", ("-f",), "A flag."))
def several(**values: Any) -> int:
    """Take one or more arguments."""
    return len(values)


def parsed_by_click(wanted: Command, words: list[str]) -> dict[str, Any] | None:
    seen: dict[str, Any] = {}
    built = click_command(wanted._replace(run=lambda **values: len(seen.update(values) or seen)))
    try:
        built.main(words, prog_name="x", standalone_mode=False)
    except click.ClickException:
        return None
    return seen


WORDS = st.lists(
    st.sampled_from(
        ["2", "4", "3", "x", "-f", "--flag", "--size", "--bare", "-m", "--many", "--", "-", "--size=2", "-fm"]
    ),
    max_size=9,
)


@pytest.mark.parametrize("wanted", [two, several], ids=["two", "several"])
@given(words=WORDS)
def test_what_the_fast_parser_takes_click_takes_alike(wanted: Command, words: list[str]) -> None:
    fast = wanted.parse(words)
    if fast is not None:
        assert fast == parsed_by_click(wanted, words)


def test_plain_command_lines_are_taken_by_the_fast_parser() -> None:
    assert two.parse(["a", "--size", "2", "6", "-m", "4", "-f", "--many", "0"]) == {
        "first": "a",
        "number": 6,
        "flag": True,
        "size": 2,
        "bare": None,
        "many": (4, 0),
    }
    assert several.parse(["2", "4", "6"]) == {"targets": (2, 4, 6), "flag": False}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a"],
        ["a", "3"],
        ["a", "2", "4"],
        ["--help"],
        ["a", "2", "--size"],
        ["a", "2", "--size=2"],
        ["a", "2", "-x"],
    ],
    ids=" ".join,
)
def test_what_is_not_plain_is_left_to_click(words: list[str]) -> None:
    assert two.parse(words) is None

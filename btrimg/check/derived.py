"""Relations that several rules share: files ``derived/NAME.sql``, comments and one query over other relations.

A derived relation is made once for each check, and only where a rule names it. The large ones among the others are read
here, once, so that the rules themselves have few rows to look at where nothing is wrong.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.trees.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_DIRECTORY = os.path.join(os.path.dirname(__file__), "derived")
_COMMENTS = re.compile(r"(?:--.*\n)*")


class Derived(NamedTuple):
    """A relation that a query makes of others."""

    name: str
    comment: str
    query: str


class Made(NamedTuple):
    """What came of making a derived relation."""

    name: str
    rows: int  #: how many there are
    refusal: str = ""  #: a sentence where DuckDB refused to make it


@cache
def derived() -> dict[str, Derived]:
    """Return every derived relation by its name, in order."""
    found = {}
    for file_name in sorted(os.listdir(_DIRECTORY)):
        name, extension = os.path.splitext(file_name)
        if extension == ".sql":
            with open(os.path.join(_DIRECTORY, file_name), "rb") as file:
                found[name] = _parsed(name, file.read().decode())
    return found


def _parsed(name: str, text: str) -> Derived:
    header = _COMMENTS.match(text)
    end = header.end() if header else 0
    comment = " ".join(line.lstrip("- ") for line in text[:end].splitlines())
    return Derived(name, comment, text[end:].strip())


@cache
def words_of(query: str) -> frozenset[str]:
    """Return the words of a query; those that are names of relations are the relations that it reads."""
    return frozenset(re.findall(r"\w+", query))


def needed(words: Collection[str]) -> list[Derived]:
    """Return the derived relations among *words*, and those that they are made of, first those that others need."""
    found: dict[str, Derived] = {}

    def need(some: Collection[str]) -> None:
        for name in sorted(derived().keys() & set(some) - found.keys()):
            need(words_of(derived()[name].query) - {name})
            found[name] = derived()[name]

    need(words)
    return list(found.values())


def make(con: Any, relations: Collection[Derived]) -> Iterator[Made]:
    """Make *relations* in the database, those that are made of others after these and the rest side by side.

    One that numbers on the image make DuckDB refuse is left empty.
    """
    left = {relation.name: words_of(relation.query) - {relation.name} for relation in relations}
    while left:
        ready = [relation for relation in relations if relation.name in left and not left[relation.name] & left.keys()]
        yield from (made for _, made in ahead(_make, ready, con.cursor))
        for relation in ready:
            del left[relation.name]


def _make(relation: Derived, cursor: Any) -> Made:
    import duckdb

    try:
        cursor.execute(f"create table {relation.name} as {relation.query}")
        return Made(relation.name, *cursor.fetchone())
    except duckdb.Error as error:
        cursor.execute(f"create table {relation.name} as from ({relation.query}) limit 0")
        return Made(relation.name, 0, f"{relation.name} could not be made: {str(error).partition(chr(10))[0]}")

"""Relations that several rules share: files ``derived/NAME.sql``, comments and one query over other relations.

A derived relation is made once for each check, and only where a rule names it. The large ones among the others are read
here, once, so that the rules themselves have few rows to look at where nothing is wrong.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.check.sqlfiles import split, texts_in
from btrimg.tables.database import engine

if TYPE_CHECKING:
    from collections.abc import Collection


class Derived(NamedTuple):
    """A relation that a query makes of others."""

    name: str
    comment: str
    of: frozenset[str]  #: relations, without rows in any of which it has none and is not even made
    query: str


class Made(NamedTuple):
    """What came of making a derived relation."""

    name: str
    rows: int  #: how many there are
    refusal: str = ""  #: a sentence where DuckDB refused to make it


@cache
def derived() -> dict[str, Derived]:
    """Return every derived relation by its name, in order."""
    return {name: _parsed(name, *split(text)) for name, text in texts_in("derived")}


def _parsed(name: str, comments: str, of: frozenset[str], query: str) -> Derived:
    return Derived(name, " ".join(line.lstrip("- ") for line in comments.splitlines()), of, query)


@cache
def words_of(query: str) -> frozenset[str]:
    """Return the words of a query, but for texts and comments; those that name relations are those that it reads."""
    return frozenset(re.findall(r"\w+", re.sub(r"'[^']*'|--.*", "", query)))


def needed(words: Collection[str]) -> list[Derived]:
    """Return the derived relations among *words*, and those that they are made of, first those that others need."""
    found: dict[str, Derived] = {}

    def need(some: Collection[str]) -> None:
        for name in sorted(derived().keys() & set(some) - found.keys()):
            need(words_of(derived()[name].query) - {name})
            found[name] = derived()[name]

    need(words)
    return list(found.values())


def make(con: Any, relation: Derived) -> Made:
    """Make *relation* in the database; one that numbers on the image make DuckDB refuse is left empty."""
    try:
        con.execute(f"create table {relation.name} as {relation.query}")
        return Made(relation.name, *con.fetchone())
    except engine().Error as error:
        con.execute(f"create table {relation.name} as from ({relation.query}) limit 0")
        return Made(relation.name, 0, f"{relation.name} could not be made: {str(error).partition(chr(10))[0]}")

"""Relations that several rules share: files ``derived/NAME.sql``, comments and one query over other relations.

A derived relation is made once for each check, and only where a query that is run names it. The large ones among the
others are read here, once, so that the rules themselves have few rows to look at where nothing is wrong.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from btrimg.check.sqlfiles import split, texts_in
from btrimg.named import NamedTuple
from btrimg.tables.database import engine

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class Derived(NamedTuple):
    """A relation that a query makes of others."""

    name: str
    comment: str
    of: frozenset[str]  #: relations, without rows in any of which it has none
    query: str


class Asked(NamedTuple):
    """What some rules ask."""

    queries: tuple[str, ...]  #: of the rules, and of all that is derived for them
    derived: tuple[Derived, ...]  #: first those that others need

    @property
    def words(self) -> set[str]:
        """Return all that stands in the queries: names of relations and columns among it."""
        return set().union(*map(words_of, self.queries))

    def words_about(self, *relations: str) -> set[str]:
        """Return what stands in queries that read one of some *relations*, or something that is derived of them."""
        read = set(relations)
        for each in self.derived:  # in this order, once is enough
            if not words_of(each.query).isdisjoint(read):
                read.add(each.name)
        return set().union(*(words for words in map(words_of, self.queries) if not words.isdisjoint(read)))


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


def asked(queries: Sequence[str]) -> Asked:
    """Return what rules with these *queries* ask."""
    further = needed({word for query in queries for word in words_of(query)})
    return Asked((*queries, *(each.query for each in further)), tuple(further))


def needed(words: Collection[str]) -> list[Derived]:
    """Return the derived relations among *words*, and those that they are made of, first those that others need."""
    found: dict[str, Derived] = {}

    def need(some: Collection[str]) -> None:
        for name in sorted(derived().keys() & set(some) - found.keys()):
            need(words_of(derived()[name].query) - {name})
            found[name] = derived()[name]

    need(words)
    return list(found.values())


def make(con: Any, relation: Derived) -> str | None:
    """Make *relation* in the database; of one that numbers on the image make DuckDB refuse, return a sentence.

    That one is left empty.
    """
    try:
        con.execute(f"create table {relation.name} as {relation.query}")
    except engine().Error as error:
        con.execute(f"create table {relation.name} as from ({relation.query}) limit 0")
        return f"{relation.name} could not be made: {str(error).partition(chr(10))[0]}"
    return None

"""What a query is said to be ``of``, it has no rows without: DuckDB proves it, by the plan that it makes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.stores import kept_store

from btrimg.check import store
from btrimg.check.derived import derived, words_of
from btrimg.check.makers import CREATED
from btrimg.check.rule import rules
from btrimg.tables.database import connect

if TYPE_CHECKING:
    from collections.abc import Collection

    from btrimg.check.derived import Derived
    from btrimg.check.rule import Rule

QUERIES: dict[str, Rule | Derived] = {**rules(), **derived()}
SAID = {name: each for name, each in QUERIES.items() if each.of}


@pytest.fixture(scope="module")
def database(demo_image: str) -> Any:
    """Give the database in which the rules judge an image; plans in it do not depend on what the tables hold."""
    made = []

    def remembered(**settings: Any) -> Any:
        made.append(connect(**settings, disabled_optimizers="statistics_propagation"))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "connect", remembered)
        assert all(kept_store([demo_image]).answers([f"from {name}" for name in CREATED | derived().keys()]))
    return made[0]


def is_empty(node: dict[str, Any]) -> bool:
    """Return whether an operator of a plan shows that no rows come out of it.

    A common table expression has two children, its own query and the one that scans it.
    """
    name, children = node["name"].strip(), node["children"]
    if not children:
        return name in ("EMPTY_RESULT", "CTE_SCAN")
    if "UNGROUPED" in name:  # a sum of no rows is a row
        return False
    kind = node["extra_info"].get("Join Type", "INNER" if "PRODUCT" in name or "JOIN" in name else "")
    if kind in ("INNER", "SEMI"):
        return any(map(is_empty, children))
    if kind in ("LEFT", "ANTI", "MARK", "SINGLE"):
        return is_empty(children[0])
    return all(map(is_empty, children))


def has_no_rows(con: Any, query: str, without: Collection[str]) -> bool:
    """Return whether the plan of a *query* shows that it has no rows where the tables *without* have none."""
    for name in without:
        con.execute(f"create temp view {name} as from memory.main.{name} where false")
    try:
        ((_, plan),) = con.execute(f"explain (format json) {query}").fetchall()
    finally:
        for name in without:
            con.execute(f"drop view temp.{name}")
    return all(map(is_empty, json.loads(plan)))


@pytest.mark.parametrize("name", SAID)
def test_without_what_a_query_is_of_it_has_no_rows(name: str, database: Any) -> None:
    said = SAID[name]
    assert said.of < words_of(said.query)
    assert has_no_rows(database, said.query, said.of)


@pytest.mark.parametrize(
    "query",
    [
        "from devices left join dev_extents using (devid)",
        "select count(*) from dev_extents",
        "from devices anti join dev_extents using (devid)",
        "select devid from dev_extents union all select devid from devices",
        "from dev_extents full join devices using (devid)",
        "from devices where devid not in (select devid from dev_extents)",
        "with each as materialized (from devices) select * from each join each as other on each.devid > other.devid",
        "with each as materialized (select count(*) as n from dev_extents) from each as one join each using (n)",
        "select * from dev_extents union all select 1, 2, 3, 4, 5, 6",
        "select (select count(*) from dev_extents)",
    ],
)
def test_of_a_query_that_may_have_rows_no_plan_shows_that_it_has_none(query: str, database: Any) -> None:
    assert not has_no_rows(database, query, ["dev_extents"])

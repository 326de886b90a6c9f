"""What rules are asked of: they are asked in time, and only those that may find something; what fails is raised."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from btrimg.check import store as store_module
from btrimg.check.derived import Derived
from btrimg.check.rule import Rule
from btrimg.check.store import Store
from btrimg.errors import BtrimgError
from btrimg.tables.database import QueryError, connect

if TYPE_CHECKING:
    from collections.abc import Collection

_DOUBLED = Derived(
    "doubled", "", frozenset(), "select number * 2 as number from left_ones join right_ones using (number)"
)
_LARGE = Derived("large", "", frozenset(), "select number from doubled where number > 4")


def _numbers(*numbers: int) -> dict[str, np.ndarray]:
    return {"number": np.array(numbers, np.int64)}


def _rule(code: str, query: str, of: Collection[str] = ()) -> Rule:
    return Rule(code, "error", "", "none", "", query, False, frozenset(of))


def _asked(store: Store, query: str) -> list[Any]:
    (answer,) = store.answers([query])
    assert not isinstance(answer, QueryError)
    return [row for rows in answer[1] for row in rows]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give the connections that stores make."""
    made: list[Any] = []

    def remembered(**settings: Any) -> Any:
        made.append(connect(**settings))
        return made[-1]

    monkeypatch.setattr(store_module, "connect", remembered)
    return made


def test_a_derived_relation_is_made_of_all_that_it_reads() -> None:
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE])
    store.create_from("right_ones", _numbers(2, 3))
    store.create_from("left_ones", _numbers(1, 2, 3))
    store.settle()
    assert _asked(store, "from large") == [(6,)]
    assert _asked(store, "from doubled") == [(4,), (6,)]


def test_a_derived_relation_that_is_refused_is_told_of_and_empty() -> None:
    refused = Derived("refused", "", frozenset(), "select sum(number::bigint)::tinyint as number from left_ones")
    rules = [_rule("one", "from refused"), _rule("two", "from refused where number > 3")]
    store = Store({"left_ones"}, [refused], rules)
    store.create_from("left_ones", _numbers(1, 200))
    store.settle()
    assert [sentence.partition(":")[0] for sentence in store.refused] == ["refused could not be made"]
    assert not any(map(store.finds, rules))


def test_a_query_that_is_refused_keeps_no_other_from_being_answered() -> None:
    store = Store({"left_ones"}, [])
    store.create_from("left_ones", _numbers(1, 200))
    store.settle()
    beyond = "select 18446744073709551615::ubigint + number::ubigint from left_ones"
    found = list(store.answers(["select sum(number) from left_ones", beyond, "select max(number) from left_ones"]))
    assert [isinstance(answer, QueryError) for answer in found] == [False, True, False]


def test_which_rules_find_anything_is_seen_while_the_store_is_filled() -> None:
    rules = [
        _rule("found", "select number from large"),
        _rule("nothing", "select number from large where number > 6"),
        _rule("refused", "select 18446744073709551615::ubigint + number::ubigint from left_ones"),
        _rule("silent", "select 1", of={"empty"}),
    ]
    store = Store({"left_ones", "right_ones", "empty"}, [_DOUBLED, _LARGE], rules)
    store.create_from("empty", _numbers())
    store.create_from("right_ones", _numbers(2, 3))
    store.create_from("left_ones", _numbers(1, 2, 3))
    store.settle()
    assert [rule.code for rule in rules if store.finds(rule)] == ["found", "refused"]


def test_what_a_look_sees_nothing_in_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def sees_nothing(relations: Any) -> bool:
        seen.append((relations["left_ones"]["number"].tolist(), len(relations["right_ones"])))
        return False

    def refuse(**_settings: object) -> None:
        raise AssertionError("nothing is to be asked")

    monkeypatch.setattr(store_module, "LOOKS", {"doubled": sees_nothing, "three": sees_nothing})
    monkeypatch.setattr(store_module, "connect", refuse)
    rules = [_rule("one", "from large"), _rule("two", "from doubled"), _rule("three", "from left_ones, right_ones")]
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE], rules)
    store.create_from("left_ones", _numbers(1, 2))
    assert seen == []
    store.create_from("right_ones", _numbers(2))
    assert seen == [([1, 2], 1)] * 2  # once for what is derived, however many read it
    store.settle()
    assert not any(map(store.finds, rules))


def test_what_a_look_doubts_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOOKS", {"doubled": lambda _relations: True})
    rules = [_rule("one", "from large"), _rule("two", "from doubled")]
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE], rules)
    store.create_from("left_ones", _numbers(1, 2))
    store.create_from("right_ones", _numbers(2))
    store.settle()
    assert [rule.code for rule in rules if store.finds(rule)] == ["two"]


def test_only_what_is_asked_of_is_put_into_the_database(connected: list[Any]) -> None:
    store = Store({"left_ones", "right_ones", "others"}, [_DOUBLED, _LARGE], [_rule("one", "from doubled")])
    for name in ("left_ones", "right_ones", "others"):
        store.create_from(name, _numbers(1))
    store.settle()
    (con,) = connected
    tables = con.cursor().execute("select table_name from duckdb_tables() order by all").fetchall()
    assert tables == [("doubled",), ("left_ones",), ("right_ones",)]


def test_a_short_answer_is_not_asked_for_again(connected: list[Any]) -> None:
    short, long = "select number from ones where number > 198", "select number from ones where number > 98"
    store = Store({"ones"}, [], [_rule("short", short), _rule("long", long)])
    store.create_from("ones", _numbers(*range(201)))
    store.settle()
    assert _asked(store, long) == [(number,) for number in range(99, 201)]
    connected[0].execute("drop table ones")
    assert _asked(store, short) == [(199,), (200,)]
    assert [isinstance(answer, QueryError) for answer in store.answers([short, long])] == [False, True]


def test_what_making_a_table_raises_is_raised_where_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_con: object, _name: str, _columns: object) -> None:
        raise ValueError("no such luck")

    monkeypatch.setattr(store_module, "fill", fail)
    rules = [_rule(f"rule {number}", f"from left_ones where number > {number}") for number in range(5)]
    store = Store({"left_ones"}, [], rules)
    store.create_from("left_ones", _numbers(1))
    with pytest.raises(ValueError, match="no such luck"):
        store.settle()


def test_a_rule_does_not_wait_silently_for_what_does_not_come() -> None:
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE], [_rule("one", "from large")])
    store.create_from("left_ones", _numbers(1))
    with pytest.raises(BtrimgError, match="one wait for some of right_ones, which nothing has made"):
        store.settle()


def test_who_gives_up_leaves_no_thread() -> None:
    before = threading.active_count()
    store = Store({"left_ones"}, [], [_rule("one", "from left_ones")])
    store.create_from("left_ones", _numbers(1, 200))
    store.give_up()
    end = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before

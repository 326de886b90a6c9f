"""The database that rules are run in: what is derived is made in time; what fails is raised where it is waited for."""

from __future__ import annotations

import threading
import time
from time import sleep

import duckdb
import numpy as np
import pytest

from btrimg.check.derived import Derived
from btrimg.check.rule import Rule
from btrimg.check.store import MANY, Store
from btrimg.errors import BtrimgError
from btrimg.tables.database import QueryError

_DOUBLED = Derived(
    "doubled", "", frozenset(), "select number * 2 as number from left_ones join right_ones using (number)"
)
_LARGE = Derived("large", "", frozenset(), "select number from doubled where number > 4")


def _numbers(*numbers: int) -> dict[str, np.ndarray]:
    return {"number": np.array(numbers, np.int64)}


def test_a_derived_relation_is_made_when_all_is_there_that_it_is_made_of() -> None:
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE])
    store.create_from("right_ones", _numbers(2, 3))
    store.create_from("left_ones", _numbers(1, 2, 3))
    store.settle()
    (answer,) = store.answers(["from large"])
    assert not isinstance(answer, Exception)
    assert [row for rows in answer[1] for row in rows] == [(6,)]
    assert not store.silent("from large")


def test_a_derived_relation_without_rows_is_silent_and_one_that_is_refused_is_told_of() -> None:
    refused = Derived("refused", "", frozenset(), "select sum(number::bigint)::tinyint as number from left_ones")
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE, refused])
    store.create_from("left_ones", _numbers(1, 200))
    store.create_from("right_ones", _numbers(1))
    store.settle()
    assert store.silent("from large")
    assert not store.silent("from doubled")
    assert [sentence.partition(":")[0] for sentence in store.refused] == ["refused could not be made"]


def test_a_query_that_is_refused_keeps_no_other_from_being_answered() -> None:
    store = Store({"left_ones"}, [])
    store.create_from("left_ones", _numbers(1, 200))
    store.settle()
    beyond = "select 18446744073709551615::ubigint + number::ubigint from left_ones"
    found = list(store.answers(["select sum(number) from left_ones", beyond, "select max(number) from left_ones"]))
    assert [isinstance(answer, QueryError) for answer in found] == [False, True, False]


def test_which_rules_find_anything_is_seen_while_the_database_is_filled() -> None:
    beyond = "select 18446744073709551615::ubigint + number::ubigint from left_ones"
    queries = {
        "found": "select number from large",
        "nothing": "select number from large where number > 6",
        "refused": beyond,
        "silent": "select 1",
    }
    rules = {
        code: Rule(code, "error", "", "none", "", query, False, frozenset({"empty"} if code == "silent" else ()))
        for code, query in queries.items()
    }
    store = Store({"left_ones", "right_ones", "empty"}, [_DOUBLED, _LARGE], rules.values())
    store.create_from("empty", _numbers())
    store.create_from("right_ones", _numbers(2, 3))
    store.create_from("left_ones", _numbers(1, 2, 3))
    store.settle()
    assert [code for code, rule in rules.items() if store.finds(rule)] == ["found", "refused"]


def test_after_a_failure_nobody_waits_for_large_tables() -> None:
    store = Store(set(), [])
    store.create_view("nothing", "from nowhere")
    for name in ("first", "second", "third"):
        store.create_from(name, {"number": np.arange(MANY + 1)})
    with pytest.raises(duckdb.Error, match="nowhere"):
        store.settle()


def test_a_large_table_waits_where_it_is_made_until_the_one_before_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def fill_slowly(_con: object, name: str, _columns: object) -> None:
        sleep(0.05)
        made.append(name)

    monkeypatch.setattr("btrimg.check.store.fill", fill_slowly)
    store = Store({"large", "larger"}, [])
    store.create_from("large", {"number": np.arange(MANY + 1)})
    assert made == []
    store.create_from("larger", {"number": np.arange(MANY + 2)})
    assert made == ["large"]
    store.settle()
    assert made == ["large", "larger"]


def test_a_derived_relation_is_not_waited_for_silently_when_its_input_does_not_come() -> None:
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE])
    store.create_from("left_ones", _numbers(1))
    with pytest.raises(BtrimgError, match="doubled, large wait for some of doubled, right_ones"):
        store.settle()


def test_who_gives_up_leaves_no_thread() -> None:
    before = threading.active_count()
    store = Store({"left_ones", "right_ones"}, [_DOUBLED, _LARGE])
    store.create_from("left_ones", _numbers(1, 200))
    store.give_up()
    end = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before

"""Rows of ``bad_copies``: neighbours become one, and there is an end to them."""

from __future__ import annotations

import numpy as np

from btrimg.check.scrub.badcopies import MOST_ROWS, BadCopies, table_of
from btrimg.check.scrub.copies import BAD, MISSING

SAME = {"mirror": 1, "intact": 0, "length": 4096}


def test_what_is_bad_side_by_side_is_one_row() -> None:
    found = BadCopies(print)
    for at in (8192, 0, 4096, 20480):
        found.add(0, state=BAD, devid=1, physical=at, logical=at + 100, **SAME)
    found.add(0, state=BAD, devid=2, physical=12288, logical=0, **SAME)
    found.add(0, state=MISSING, devid=1, physical=12288, logical=0, **SAME)
    found.add(1, state=BAD, devid=1, physical=24576, logical=0, **SAME)
    table = table_of(found.rows())
    rows = sorted(zip(*(table[name].tolist() for name in ("devid", "physical", "length", "logical")), strict=True))
    assert rows == [
        (1, 0, 12288, 100),
        (1, 12288, 4096, 0),
        (1, 20480, 4096, 20580),
        (1, 24576, 4096, 0),
        (2, 12288, 4096, 0),
    ]
    assert set(table["kind"]) == {"data", "tree block"}
    assert set(table["state"]) == {"bad", "missing"}


def test_a_device_that_is_bad_here_and_there_does_not_fill_the_memory() -> None:
    warnings: list[str] = []
    found = BadCopies(warnings.append)
    for start in range(0, 3 * MOST_ROWS, 1000):
        at = np.arange(start, start + 1000, dtype=np.int64) * 8192
        found.add(0, state=BAD, devid=1, physical=at, logical=at, **SAME)
    assert len(table_of(found.rows())["devid"]) == MOST_ROWS
    assert set(warnings) == {f"more than {MOST_ROWS} places on the devices are bad; not all of them are told"}


def test_there_may_be_nothing() -> None:
    assert [len(column) for column in table_of(BadCopies(print).rows()).values()] == [0] * 8

"""Columns in files give the answers of columns in memory, and leave nothing behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.filesystem import strings
from btrimg.filesystem.image import open_image
from btrimg.tables import batched
from btrimg.tables.database import Database, Limits
from btrimg.tables.query import export_tables, query
from btrimg.tables.schema import RELATIONS
from btrimg.tables.spill import Spill

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage

    from btrimg.filesystem.strings import Strings

MIB = 1 << 20
IMAGES = (
    {"profile": "raid10", "nodesize": 4096, "csum": "sha256", "compression": "zstd"},
    {"profile": "single", "metadata_profile": "dup", "nodesize": 65536, "csum": "blake2", "compression": "zlib"},
)


class Some(NamedTuple):
    number: Any
    name: Strings


ROWS = st.lists(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=5)), max_size=5), min_size=1)


@given(parts=ROWS, others=ROWS, budget=st.integers(0, 400))
def test_rows_come_back_as_they_were_given(parts: list[Any], others: list[Any], budget: int) -> None:
    spill = Spill(budget)
    tables = [spill.parts(), spill.parts()]
    for table, several in zip(tables, (parts, others), strict=True):
        for rows in several:
            table.append(Some(np.array([n for n, _ in rows], np.uint8), strings.of_list([name for _, name in rows])))
    for table, several in zip(tables, (parts, others), strict=True):
        found = table.join()
        expected = [row for rows in several for row in rows]
        assert list(zip(found.number.tolist(), found.name.to_list(), strict=True)) == expected
        assert found.number.dtype == np.uint8


def all_of(database: Database, name: str) -> list[Any]:
    return database.run(lambda con: con.execute(f"from {name}").fetchall())


def answers(devices: Sequence[str] | str, limits: Limits) -> dict[str, list[Any]]:
    found = {}
    with open_image(devices, warn=pytest.fail) as image, Database(limits) as database:
        for rows in batched.relations(image, list(RELATIONS), database.spill):
            database.add(rows)
            found[rows.relation.name] = all_of(database, rows.relation.name)
    return found


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", IMAGES, ids=lambda options: options["profile"])
def test_every_relation_is_the_same_in_files(
    options: dict[str, Any], kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    devices = kernel_image(**options).devices
    whole = answers(devices, Limits())
    monkeypatch.setattr("btrimg.trees.batches.BATCH_BYTES", 1 << 18)
    monkeypatch.setattr(batched, "BATCH_ROWS", 300)
    monkeypatch.setattr("btrimg.tables.database.COLUMNS_SHARE", 1 << 20)  # of 64 MiB: 64 bytes
    assert answers(devices, Limits(64 * MIB, str(tmp_path))) == whole
    assert sum(map(len, whole.values())) > 5_000
    assert os.listdir(tmp_path) == []


def test_a_query_leaves_no_files_even_when_it_is_given_up(demo_image: str, tmp_path: Path) -> None:
    limits = Limits(64 * MIB, str(tmp_path))
    with open_image(demo_image) as image:
        answer = query(image, "from inodes, range(100000)", limits)
        assert next(answer.rows)
        assert len(os.listdir(tmp_path)) == 1
        answer.rows.close()  # type: ignore[attr-defined]
        assert os.listdir(tmp_path) == []
        assert list(query(image, "create temp table t as select 1", limits).rows) == [(1,)]
        list(export_tables(image, str(tmp_path), "demo", limits))
    assert sorted(os.listdir(tmp_path)) == sorted(f"{name}.parquet" for name in RELATIONS)


def test_what_does_not_fit_is_written_aside(demo_image: str, tmp_path: Path) -> None:
    many = "select count(*) from (select distinct range * 7919 % 3000017, repeat('a', 50) || range from range(2000000))"
    with open_image(demo_image) as image:
        assert list(query(image, many, Limits(160 * MIB, str(tmp_path))).rows) == [(2_000_000,)]

"""The schema, and the page that is written from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from btrimg.filesystem.columns import KINDS
from btrimg.tables.relation import SQL_TYPES
from btrimg.tables.schema import HOLDS, RELATIONS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "row",
    [
        "| `subvolume` | UBIGINT |  | id of the subvolume; what snapshots share has a row for each of them |",
        "| `physical` | UBIGINT | physical | start on the device |",
        "| `kind` | VARCHAR |  | what it holds: data, tree block |",
        "| `value` | BLOB |  | value |",
        "| `mtime` | BIGINT | seconds | last change of the contents, since 1970, negative before |",
    ],
)
def test_rows_hold_type_unit_and_meaning(row: str) -> None:
    assert row in (DOCS / "tables.md").read_text().splitlines()


def test_names_are_plain_and_said_once() -> None:
    for name, relation in RELATIONS.items():
        columns = [column.name for column in relation.all_columns]
        assert len(set(columns)) == len(columns)
        assert all(each.isidentifier() and each == each.lower() for each in (name, *columns))
        assert all(column.comment and column.type in SQL_TYPES for column in relation.columns)


def test_addresses_say_in_which_space() -> None:
    for relation in RELATIONS.values():
        for column in relation.all_columns:
            if column.name in ("logical", "physical"):
                assert column.unit == column.name


def test_words_stand_where_their_codes_point() -> None:
    assert HOLDS[1] == "data"
    assert HOLDS[2] == "system"
    assert HOLDS[5] == "data+metadata"
    kind = next(column for column in RELATIONS["file_extents"].columns if column.name == "kind")
    assert kind.words == KINDS

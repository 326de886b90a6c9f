"""Queries: what they see, what they cost, what they cannot reach, and what is said of wrong ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from btrimg.filesystem.image import open_image
from btrimg.tables import query as engine
from btrimg.tables.batched import relations
from btrimg.tables.database import QueryError
from btrimg.tables.query import export_tables, query, query_to_parquet
from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from btrimg.filesystem.image import Image


@pytest.fixture
def image(demo_image: str) -> Iterator[Image]:
    with open_image(demo_image) as opened:
        yield opened


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the names of the relations that are built from now on."""
    names: list[str] = []

    def spy(image: Image, wanted: Sequence[str], *rest: Any) -> Any:
        names.extend(wanted)
        return relations(image, wanted, *rest)

    monkeypatch.setattr(engine, "relations", spy)
    return names


def ask(image: Image, sql: str) -> list[tuple[Any, ...]]:
    return list(query(image, sql).rows)


def test_a_join_through_three_tables_tells_who_shares_an_extent(image: Image) -> None:
    found = ask(
        image,
        """
        select s.path, n.name, count(*) from file_extents f
        join subvolumes s on s.id = f.subvolume
        join names n on n.subvolume = f.subvolume and n.inode = f.inode and n.source = 'inode_ref'
        where f.extent = 71303168 group by all order by all
        """,
    )
    vm = [("/vm", "clone.raw", 1), ("/vm", "disk.raw", 2), ("/vm", "part.raw", 1)]
    assert found == [*vm, *(("/vm-monday", name, 1) for _, name, _ in vm)]
    assert ask(image, "select refs from extents where logical = 71303168") == [(sum(count for *_, count in found),)]


def test_text_is_text_and_blobs_are_bytes(image: Image) -> None:
    names = [name for (name,) in ask(image, "select distinct name from names where name like 'caf%'")]
    assert names == ["caf\\xe9"]
    assert ("user.origin", b"fixtures/demo.sh") in ask(image, "select name, value from xattrs")


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("select count(*) from inodes", {"inodes"}),
        ("SELECT 1 FROM Inodes AS extents", {"inodes"}),
        ("with names as (select * from csums) select * from names", {"csums"}),
        ("select 'backrefs'", set()),
        ("from inodes join names using (subvolume, inode)", {"inodes", "names"}),
        ("describe orphans", {"orphans"}),
        (
            "create temp table t as from chunks; select count(*) from t join stripes on chunk = logical",
            {"chunks", "stripes"},
        ),
    ],
)
def test_only_what_a_query_names_is_built(sql: str, names: set[str], image: Image, built: list[str]) -> None:
    ask(image, sql)
    assert set(built) == names


def test_of_several_statements_the_last_answers(image: Image) -> None:
    assert ask(image, "select 1; select 2") == [(2,)]


@pytest.mark.parametrize("sql", ["", " ;", "-- nothing"])
def test_no_statement_is_an_error(sql: str, image: Image) -> None:
    with pytest.raises(QueryError, match="there is no query"):
        ask(image, sql)


def test_many_rows_come_in_parts(image: Image) -> None:
    answer = query(image, "select * from range(25000)")
    assert answer.columns == ("range",)
    assert list(answer.rows) == [(number,) for number in range(25000)]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("selec", "syntax error"),
        ("select * from nothing", "nothing does not exist"),
        ("select nothing from inodes", "nothing"),
        ("select 'a'::int from csums", "Could not convert"),
        ("select error('by row') from range(3)", "by row"),
        ("select '\udcff'", "not UTF-8"),
    ],
)
def test_a_wrong_query_is_one_sentence(sql: str, says: str, image: Image) -> None:
    with pytest.raises(QueryError, match=says) as caught:
        ask(image, sql)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/hostname')",
        "from '/etc/hostname'",
        "select * from glob('/*')",
        "copy (select 1) to '{path}'",
        "attach '{path}'",
        "export database '{path}'",
        "set enable_external_access = true",
        "load '{path}'",
        "set memory_limit = '1GB'",
    ],
)
def test_a_query_reaches_nothing_outside(sql: str, image: Image, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(QueryError):
        ask(image, sql.format(path=target))
    assert not target.exists()


def test_a_query_does_not_see_variables_of_python(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "secret", {"a": np.arange(3)}, raising=False)
    with pytest.raises(QueryError, match="does not exist"):
        ask(image, "from secret")


# Parquet


def read(path: Path, what: str = "*") -> list[tuple[Any, ...]]:
    import duckdb

    return duckdb.connect().execute(f"select {what} from read_parquet('{path}')").fetchall()


def test_parquet_holds_what_the_query_gives(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "it's.parquet"
    query_to_parquet(image, "from xattrs;", str(path))
    assert read(tmp_path / "*.parquet") == ask(image, "from xattrs")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("sql", ["selec", "", "select error('x')", "copy (select 1) to '{path}.other'"])
def test_no_file_is_left_of_a_query_that_fails(sql: str, image: Image, tmp_path: Path) -> None:
    with pytest.raises(QueryError):
        query_to_parquet(image, sql.format(path=tmp_path / "a"), str(tmp_path / "a.parquet"))
    assert os.listdir(tmp_path) == []


def test_export_writes_every_relation_with_the_image_beside_each_row(image: Image, tmp_path: Path) -> None:
    assert list(export_tables(image, str(tmp_path), "it's.img")) == list(RELATIONS)
    assert sorted(os.listdir(tmp_path)) == sorted(f"{name}.parquet" for name in RELATIONS)
    for name in RELATIONS:
        assert read(tmp_path / f"{name}.parquet", "* exclude image") == ask(image, f"from {name}")
    assert set(read(tmp_path / "inodes.parquet", "image")) == {("it's.img",)}

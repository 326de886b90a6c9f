"""Relations made of others: each is used, and those that it is made of are made before it."""

from __future__ import annotations

from btrimg.check.derived import asked, derived, make, needed, words_of
from btrimg.check.rule import rules
from btrimg.tables.database import connect


def test_a_relation_is_made_after_those_that_it_is_made_of() -> None:
    order = [each.name for each in needed({"odd_links", "odd_names", "inodes"})]
    assert order == ["odd_directories", "odd_links", "odd_names"]
    assert needed({"inodes"}) == []


def test_every_derived_relation_is_needed_by_a_rule() -> None:
    words = {word for rule in rules().values() for word in words_of(rule.query)}
    assert {each.name for each in needed(words)} == set(derived())


def test_every_derived_relation_says_what_it_is() -> None:
    for each in derived().values():
        assert each.comment.endswith("."), each.name
        assert each.query.startswith(("select", "with")), each.name


def test_the_query_fills_the_relation() -> None:
    con = connect()
    con.execute("create table directories as select 5 as subvolume, unnest([256, 257]) as inode, inode = 257 as odd")
    assert [make(con, each) for each in needed({"odd_directories"})] == [None]
    assert con.execute("from odd_directories").fetchall() == [(5, 257)]


def test_what_is_asked_about_a_relation_is_in_queries_that_read_it_or_what_is_made_of_it() -> None:
    asks = asked(["select one from odd_links", "select two from extents", "select three from names"])
    assert [each.name for each in asks.derived] == ["odd_directories", "odd_links"]
    about = asks.words_about("names")
    assert {"one", "three", "location_type"} <= about
    assert "two" not in about
    assert {"one", "odd"} <= asks.words_about("directories")
    assert "three" not in asks.words_about("directories")
    assert asks.words == asks.words_about("names", "extents", "directories")


def test_a_head_of_free_space_may_be_of_any_length() -> None:
    con = connect()
    for name, columns in {
        "free_space_infos": "4096::ubigint as logical, ~0::ubigint as length, 1 as extent_count, 0 as flags",
        "superblock": "3 as compat_ro_flags",
        "block_groups": "4096::ubigint as logical, 8192::ubigint as length",
        "free_space": "8192::ubigint as logical, 8192::ubigint as length, 'extent' as source",
        "unread_trees": "99 as tree",
    }.items():
        con.execute(f"create table {name} as select {columns}")
    for each in needed({"odd_free_space", "stray_free_space"}):
        assert make(con, each) is None
    assert con.execute("select logical, without_group, found from odd_free_space").fetchall() == [(4096, True, 1)]
    assert con.execute("from stray_free_space").fetchall() == []

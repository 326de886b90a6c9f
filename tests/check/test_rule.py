"""The rules themselves: headers, and queries that DuckDB accepts."""

from __future__ import annotations

import json
from string import Formatter

import pytest

from btrimg.check import derived
from btrimg.check.rule import Rule, parse_rule, rule, rules
from btrimg.check.run import Finding, check
from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image
from btrimg.render.findings import finding_line, rule_json

HEADER = """\
-- severity: error
-- sentence: {what} is wrong
-- progs: none
-- explain: One line
--   and another.
"""


def test_a_header_is_taken_apart() -> None:
    parsed = parse_rule("some-thing", f"{HEADER}-- needs: data\nselect 1 as what\n")
    assert parsed.explain == "One line and another."
    assert (parsed.code, parsed.severity, parsed.needs_data) == ("some-thing", "error", True)
    assert parsed.query == "select 1 as what"


@pytest.mark.parametrize(
    "bad", ["-- severity: error\nselect 1", HEADER.replace("error", "fatal"), f"{HEADER}-- x: y\n"]
)
def test_a_bad_header_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="rule some-thing: bad"):
        parse_rule("some-thing", bad)


def test_there_are_rules() -> None:
    assert rule("inode-nlink").progs.startswith("link count wrong")
    assert list(rules()) == sorted(rules())


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(BtrimgError, match="no rule 'inode-links'; --rules lists them"):
        rule("inode-links")


@pytest.mark.parametrize("name", ["a\n\x1b[31m", 7, None])
def test_no_name_breaks_the_line_of_a_finding(name: object) -> None:
    named = [each for each in rules().values() if "name" in each.sentence]
    assert rule("root-ref-mismatch") in named
    for each in named:
        fields = [field for _, field, *_ in Formatter().parse(each.sentence) if field]
        row = {field: name if field.endswith("name") else 0 for field in fields}
        assert finding_line(Finding(each, row)).isprintable(), each.code


def test_both_names_of_a_subvolume_are_told_as_names() -> None:
    told = rule("root-ref-mismatch")
    assert {"name", "other_name"} <= {field for _, field, *_ in Formatter().parse(told.sentence)}


def test_programs_are_told_of_a_rule_what_people_are() -> None:
    fields = ["code", "severity", "sentence", "progs", "explain", "query", "needs_data"]
    assert all(list(json.loads(rule_json(each))) == fields for each in rules().values())


def test_rules_say_so_that_read_what_only_the_scrub_makes() -> None:
    for each in rules().values():
        words = derived.words_of(each.query)
        words |= {word for one in derived.needed(words) for word in derived.words_of(one.query)}
        assert each.needs_data == ("bad_copies" in words), each.code


@pytest.mark.parametrize("each", rules().values(), ids=lambda each: each.code)
def test_every_rule_can_be_asked_alone(each: Rule, demo_image: str) -> None:
    with open_image([demo_image]) as image:
        assert [found for found in check(image, [each]) if found.rule.code != "free-space-info-orphan"] == []


def test_texts_and_comments_in_a_query_name_no_relations() -> None:
    query = "select 'file -- extents' as what, length -- an inode's\nfrom names where kind = 'it''s'"
    assert derived.words_of(query) == {
        *("select", "as", "what", "length", "from", "names", "where", "kind"),
    }

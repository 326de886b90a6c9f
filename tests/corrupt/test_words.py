"""The language of edits: what a word means, and what values mean."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.cli.corrupt import corrupt
from btrimg.corrupt.values import Values, combine
from btrimg.corrupt.words import Marks, Target, parse_edit, parse_reference, split_outside
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import BlockGroup, InodeFlag, ItemType, TreeId
from btrimg.ondisk.csum import extent_data_ref_hash, extref_hash, name_hash
from btrimg.ondisk.spans import parse_path

MANUAL = os.path.join(os.path.dirname(__file__), "../../docs/corrupt.md")
TARGETS = {
    "fs/257.INODE_ITEM.0/size": Target("item", "fs", "257.INODE_ITEM.0", parse_path("size")),
    "fs/257.INODE_ITEM": Target("item", "fs", "257.INODE_ITEM"),
    "log:5/257/[1].index": Target("item", "log:5", "257", parse_path("[1].index")),
    "/a/b c:INODE_ITEM/nlink": Target("item", "/a/b c", "INODE_ITEM", parse_path("nlink")),
    "/a:b/c:DIR_ITEM.hash:x/[0]": Target("item", "/a:b/c", "DIR_ITEM.hash:x", parse_path("[0]")),
    "fs/{/a:ino}.DIR_INDEX.*[2]": Target("item", "fs", "{/a:ino}.DIR_INDEX.*[2]"),
    "fs@root/header.level": Target("block", "fs@root", "", parse_path("header.level")),
    "256@1/257.DIR_ITEM/slots[3].blockptr": Target("block", "256@1", "257.DIR_ITEM", parse_path("slots[3].blockptr")),
    "fs@0/300": Target("block", "fs@0", "300"),
    "block@{fs@root/slots[0].blockptr}": Target("block", "block@{fs@root/slots[0].blockptr}"),
    "block@4096/bytes[0:8]": Target("block", "block@4096", "", parse_path("bytes[0:8]")),
    "block@4096/257.INODE_ITEM/nlink": Target("item", "block@4096", "257.INODE_ITEM", parse_path("nlink")),
    "super/super_roots[2].tree_root": Target("super", steps=parse_path("super_roots[2].tree_root")),
    "data/{/a:EXTENT_DATA.0/disk_bytenr}+4096": Target("data", key="{/a:EXTENT_DATA.0/disk_bytenr}+4096"),
    "csum-of/4096": Target("csum-of", key="4096"),
    "parity-q/0x10000": Target("parity-q", key="0x10000"),
    "device/2/65536": Target("device", "2", "65536"),
}


@pytest.mark.parametrize("text", TARGETS)
def test_a_word_names_a_target(text: str) -> None:
    edit = parse_edit(f"{text}=1")
    assert edit == (f"{text}=1", TARGETS[text], "", "1", Marks())


@pytest.mark.parametrize(
    ("text", "operator", "value", "marks"),
    [
        ("fs/1/a=x@y", "", "x@y", Marks()),
        ("fs/1/a=", "", "", Marks()),
        ("fs/1/a+=4@mirror:1", "+", "4", Marks(mirror=1)),
        ("fs/1/a^=0x00@keep-csum@devid:3", "^", "0x00", Marks(keep_csum=True, devid=3)),
        ("fs/1/a|={super/flags@mirror:1}@sort", "|", "{super/flags@mirror:1}", Marks(sort=True)),
        ("fs/1/[+]=0x00@keep-parents@keep-parity", "", "0x00", Marks(keep_parents=True, keep_parity=True)),
        ("fs/1/name=a=b", "", "a=b", Marks()),
    ],
)
def test_operator_value_and_marks(text: str, operator: str, value: str, marks: Marks) -> None:
    edit = parse_edit(text)
    assert (edit.operator, edit.value, edit.marks) == (operator, value, marks)


def test_a_reference_has_marks_of_its_own() -> None:
    assert parse_reference("super/generation@mirror:1") == (Target("super", steps=parse_path("generation")), Marks(1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fs/257.INODE_ITEM", "says no new value"),
        ("fs=1", "write TREE/OBJECTID.TYPE.OFFSET/FIELD"),
        ("fs/1/a/b=1", "has too many parts"),
        ("fs/{1=1", "braces do not match"),
        ("fs/1}=1", "braces do not match"),
        ("/a/b=1", "write /PATH:TYPE.OFFSET/FIELD"),
        ("device/1=1", "write device/DEVID/PHYSICAL"),
        ("fs/1/a b=1", "is no path of a field"),
    ],
)
def test_what_is_no_edit_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_edit(text)


@given(st.text())
def test_any_text_is_an_edit_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_edit(text).text == text


def test_what_stands_in_braces_splits_nothing() -> None:
    assert split_outside("a/{b/{c}/d}/e", "/") == ["a", "{b/{c}/d}", "e"]
    assert split_outside("a.b.c.d", ".", 2) == ["a", "b", "c.d"]


def values(known: dict[str, Any]) -> Values:
    """Return an evaluator for which *known* says what the heads of references hold."""
    return Values(lambda target, _marks: known[target.head])


NUMBERS = {
    "7": 7,
    "-1": -1,
    "0x1f": 31,
    "0o755": 0o755,
    "4K": 4096,
    "1MiB+512": (1 << 20) + 512,
    "10-3-2": 5,
    "2+3*4": 20,
    "BlockGroup.RAID1|BlockGroup.DATA": int(BlockGroup.RAID1 | BlockGroup.DATA),
    "InodeFlag.NODATASUM": int(InodeFlag.NODATASUM),
    "{a/1}+1": 42,
    "2*{a/1}": 82,
    "6&3|8^1": 11,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number(text: str) -> None:
    assert values({"a": 41}).number(text) == NUMBERS[text]


@pytest.mark.parametrize("text", ["", "x", "1+", "+1", "1 2", "{b/1}", "{a/1", "1--", "BlockGroup.NONE", "1/2"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number|number is needed|braces"):
        values({"a": 41, "b": b"x"}).number(text)


@given(st.lists(st.tuples(st.sampled_from("+-*|&^"), st.integers(0, 1 << 64)), min_size=1))
def test_terms_are_taken_from_left_to_right(terms: list[tuple[str, int]]) -> None:
    total = 0
    for operator, term in terms:
        total = combine(operator, total, term)
    assert values({}).number("0" + "".join(f"{operator}{term}" for operator, term in terms)) == total


@pytest.mark.parametrize(
    ("text", "size", "data"),
    [
        ("0x00fF", None, b"\0\xff"),
        ("0x", None, b""),
        ("0xab*3", None, b"\xab\xab\xab"),
        ("name", None, b"name"),
        ("new\\x0aline\\\\", None, b"new\nline\\"),
        ("\udcff", None, b"\xff"),
        ("00112233-4455-6677-8899-aabbccddeeff", 16, bytes.fromhex("00112233445566778899aabbccddeeff")),
        ("00112233-4455-6677-8899-aabbccddeeff", None, b"00112233-4455-6677-8899-aabbccddeeff"),
        ("{b/1}", None, b"bytes"),
    ],
)
def test_bytes(text: str, size: int | None, data: bytes) -> None:
    assert values({"b": b"bytes"}).data(text, size) == data


@given(st.binary(max_size=64))
def test_any_bytes_can_be_written_in_hexadecimal(data: bytes) -> None:
    assert values({}).data(f"0x{data.hex()}", None) == data


@pytest.mark.parametrize("text", ["0x0", "0xzz", "{a/1}", "{b/1}x", "0x00*99999999"])
def test_what_are_no_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"hexadecimal|one reference|more than"):
        values({"a": 1, "b": b"x"}).data(text, None)


def test_keys_have_names_hashes_and_open_parts() -> None:
    read = values({"a": 300})
    assert read.key("257.INODE_ITEM.0") == Key(257, ItemType.INODE_ITEM, 0)
    assert read.key("EXTENT_CSUM.EXTENT_CSUM.4096") == Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, 4096)
    assert read.key("-5.ORPHAN_ITEM.{a/1}+1") == Key(TreeId.ORPHAN, ItemType.ORPHAN_ITEM, 301)
    assert read.key("256.84.hash:a.b") == Key(256, ItemType.DIR_ITEM, name_hash(b"a.b"))
    assert read.key("256.13.exthash:257:n") == Key(256, ItemType.INODE_EXTREF, extref_hash(257, b"n"))
    assert read.key("1.178.refhash:5:257:-4096").offset == extent_data_ref_hash(5, 257, -4096)
    assert read.key_parts("*.DIR_INDEX.*[3]") == ((None, ItemType.DIR_INDEX, None), 3)
    assert read.key_parts("256.DIR_INDEX[-1]") == ((256, ItemType.DIR_INDEX, None), -1)


@pytest.mark.parametrize("text", ["", "256", "256.1.*", "256.NO.1", "256.1.0[0]", "256.300.0", "1.1.what:x"])
def test_what_is_no_whole_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|does not fit|write hash|no number"):
        values({}).key(text)


def test_the_examples_of_the_help_are_edits() -> None:
    lines = [line.strip() for line in corrupt.help.splitlines()]
    examples = [shlex.split(line) for line in lines if line.startswith("btrimg corrupt ")]
    edits = [word for words in examples for word in words[3:] if "=" in word]
    assert len(edits) > len(examples) > 5
    for edit in edits:
        assert parse_edit(edit).text == edit
    assert all({"--output", "--in-place"} & set(words) for words in examples)


def test_the_manual_shows_edits_and_all_marks() -> None:
    """What docs/corrupt.md shows as a whole edit is one."""
    with open(MANUAL, encoding="utf-8") as file:
        shown = re.findall(r"`([^`]+)`", file.read())
    edits = [word for word in shown if re.match(r"[\w/]\S*/\S*=", word) and "…" not in word]
    assert len(edits) > 1
    for edit in edits:
        assert parse_edit(edit).text == edit
    marks = {word for word in shown if word.startswith("@")}
    for mark in marks:
        assert parse_edit(f"fs/1/a=1{mark.replace('N', '1')}").value == "1"
    assert len({mark.partition(":")[0] for mark in marks}) == len(Marks._fields)

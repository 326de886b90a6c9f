"""Spans: read and written by them, a field is what the Record itself says of the same bytes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import NotFoundError
from btrimg.ondisk.chunks import Chunk, Stripe
from btrimg.ondisk.generate import all_records
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.record import Record
from btrimg.ondisk.spans import END, Step, bits_of, find_span, pack_integer, parse_path, read_integer, size_at, sliced

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = all_records()


def some_record(cls: type[Record], noise: random.Random) -> Any:
    """Return a record of random values whose counters tell the truth."""
    head = bytearray(noise.randbytes(cls.SIZE))
    counters = [code[1:].partition("*")[0] for _, code in cls.TAIL]
    for name in filter(None, counters):
        span = find_span(cls, bytes(head), 0, (Step(name=name),))
        head[span.start : span.end] = noise.randrange(6).to_bytes(span.size, "little")
    return cls.unpack(bytes(head) + noise.randbytes(5 * 32 + 5 * 32))


def fields_of(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every field below *value*, to the last integer."""
    if isinstance(value, Record):
        for name, inner in value.asdict().items():
            yield from fields_of(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from fields_of(inner, f"{path}[{number}]")
    else:
        yield path, value


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_every_field_is_read_where_it_stands_and_nothing_else_changes(cls: type[Record]) -> None:
    noise = random.Random(cls.__name__)
    record = some_record(cls, noise)
    data = record.pack()
    assert size_at(cls, data, 0) == len(data)
    before = dict(fields_of(record))
    for path, value in before.items():
        span = find_span(cls, b"head" + data, 4, parse_path(path))
        found = data[span.start - 4 : span.end - 4]
        assert (read_integer(found, 0, span.letter) if span.letter else found) == value or value < 0
        other = noise.randbytes(span.size)
        changed = data[: span.start - 4] + other + data[span.end - 4 :]
        if not any(path == code[1:].partition("*")[0] for _, code in cls.TAIL):  # a counter would move what it counts
            differ = [name for name, now in fields_of(cls.unpack(changed)) if now != before[name]]
            assert differ == ([path] if other != found else [])


@given(st.sampled_from("BHIQq"), st.integers(-(1 << 63), (1 << 64) - 1))
def test_integers_come_back_modulo_their_range(letter: str, value: int) -> None:
    packed = pack_integer(value, letter)
    assert len(packed) * 8 == bits_of(letter)
    assert (read_integer(packed, 0, letter) - value) % (1 << bits_of(letter)) == 0


def test_what_is_counted_knows_its_counter() -> None:
    stripes = tuple(Stripe(devid, 7, bytes(16)) for devid in (1, 2))
    chunk = Chunk(1, 2, 65536, 1, 1, 1, 1, 2, 0, stripes).pack()
    second = find_span(Chunk, chunk, 0, parse_path("stripes[1]"))
    behind = find_span(Chunk, chunk, 0, parse_path("stripes[+]"))
    assert (second.start, second.size, second.record, second.elastic) == (48 + 32, 32, Stripe, True)
    assert (behind.start, behind.size) == (len(chunk), 0)
    assert second.counter == behind.counter == (44, "H", 32)
    assert find_span(Chunk, chunk, 0, parse_path("stripes[-1].devid")).start == 48 + 32
    assert parse_path("stripes[+]")[1].at == END


def test_a_counter_that_lies_reaches_no_further_than_the_bytes() -> None:
    entry = bytearray(30) + b"abc"
    entry[27:29] = (500).to_bytes(2, "little")  # name_len
    span = find_span(DirItem, bytes(entry), 0, parse_path("name"))
    assert (span.start, span.size) == (30, 3)


def test_slices_of_bytes() -> None:
    whole = find_span(DirItem, bytes(27) + b"\x06\0\0abcdef", 0, parse_path("name"))
    assert [sliced(whole, step, "it")[:2] for step in parse_path("[1:3][:2][-2:][4]")] == [
        (31, 2), (30, 2), (34, 2), (34, 1),
    ]  # fmt: skip
    for path in ("[7]", "[2:9]", "[4:2]"):
        with pytest.raises(NotFoundError, match="it has 6 bytes"):
            sliced(whole, parse_path(path)[0], "it")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nothing", "DirItem has no field nothing; it has location, transid"),
        ("location.what", "DiskKey has no field what"),
        ("transid.x", "DirItem.transid is a number"),
        ("transid[0]", "DirItem.transid is a number"),
        ("[0]", "no field by a number"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_there_is(path: str, said: str) -> None:
    with pytest.raises(NotFoundError, match=said.replace("[", r"\[")):
        find_span(DirItem, bytes(40), 0, parse_path(path))


@pytest.mark.parametrize("text", ["a b", "a[", "a[x]", ".a", "a..b", "a[1]b", "a.", "[1:2:3]"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no path of a field"):
        parse_path(text)

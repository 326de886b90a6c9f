"""Entries read by another process: the same ones, the same errors, and no process left behind."""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.forks import forks

from btrimg.build.beside import read_beside
from btrimg.build.entries import PIECE, Entry
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMES = (1, 2, -3, 4, 5, 6, 7, 999_999_999)
NOBODY = 65534, 65534


def entry(number: int, pieces: object, **fields: object) -> Entry:
    path = b"d/\xff%d" % number
    return Entry(path, stat.S_IFREG | 0o644, NOBODY, TIMES, pieces=pieces, **fields)  # type: ignore[arg-type]


def ignore(_text: str) -> None:
    pass


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let there be two cores; return the list of processes that will have been forked."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    return forks(monkeypatch)


def is_gone(pids: list[int]) -> bool:
    (pid,) = pids
    return not os.path.exists(f"/proc/{pid}")


contents = st.one_of(
    st.binary(max_size=5000).map(lambda data: ((0, data),) if data else ()),
    st.lists(st.binary(min_size=1, max_size=300), max_size=5).map(
        lambda parts: [(number * 4096, part) for number, part in enumerate(parts, 1)]
    ),
)
xattrs = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3).map(tuple)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.tuples(contents, xattrs, st.booleans(), st.booleans()), max_size=600), st.sets(st.integers(0, 599)))
def test_the_same_entries_come_in_the_same_order(
    made: list[tuple[object, tuple[tuple[bytes, bytes], ...], bool, bool]], unread: set[int]
) -> None:
    warned: list[str] = []

    def source(warn: Callable[[str], None]) -> Iterator[Entry]:
        for number, (pieces, attributes, dense, warns) in enumerate(made):
            if warns:
                warn(f"entry {number} is odd: \udcff")
            yield entry(number, pieces, xattrs=attributes, dense=dense, size=number << 40)

    with read_beside(source, warned.append) as entries:
        for number, (found, (pieces, attributes, dense, _)) in enumerate(zip(entries, made, strict=True)):
            expected = entry(number, (), xattrs=attributes, dense=dense, size=number << 40)
            assert found._replace(pieces=()) == expected
            if number not in unread:
                assert list(found.pieces) == list(pieces)  # type: ignore[call-overload]
    assert warned == [f"entry {number} is odd: \udcff" for number, each in enumerate(made) if each[3]]


def test_more_than_fits_its_memory_comes_whole() -> None:
    def source(warn: Callable[[str], None]) -> Iterator[Entry]:
        for number in range(30):
            yield entry(number, ((at * PIECE, bytes([number + at]) * PIECE) for at in range(3)))
            yield entry(number, ((0, bytes([number]) * (PIECE - 1)),))

    with read_beside(source, ignore) as entries:
        for count, found in enumerate(entries):
            number, is_small = divmod(count, 2)
            sizes = [PIECE - 1] if is_small else [PIECE] * 3
            for at, ((offset, data), size) in enumerate(zip(found.pieces, sizes, strict=True)):
                assert (offset, data) == (at * PIECE, bytes([number + at]) * size)
    assert count == 59


@pytest.mark.parametrize("error", [BtrimgError("cannot read 'x'"), ZeroDivisionError("a fault of ours")])
def test_errors_are_raised_where_they_come(error: Exception, forked: list[int]) -> None:
    def pieces() -> Iterator[tuple[int, bytes]]:
        yield 0, b"first"
        raise error

    def source(warn: Callable[[str], None]) -> Iterator[Entry]:
        yield entry(0, ())
        yield entry(1, pieces())

    with read_beside(source, ignore) as entries:
        each = iter(entries)
        assert next(each).path == b"d/\xff0"
        second = iter(next(each).pieces)
        assert next(second) == (0, b"first")
        with pytest.raises(type(error)) as raised:
            next(second)
    assert str(raised.value) == str(error)
    assert is_gone(forked)


def test_a_killed_process_is_an_error(forked: list[int]) -> None:
    def source(warn: Callable[[str], None]) -> Iterator[Entry]:
        yield entry(0, ())
        os.kill(os.getpid(), signal.SIGKILL)

    with read_beside(source, ignore) as entries, pytest.raises(BtrimgError, match="was killed"):
        list(entries)
    assert is_gone(forked)


def test_nothing_is_left_when_the_builder_gives_up(forked: list[int]) -> None:
    def endless(warn: Callable[[str], None]) -> Iterator[Entry]:
        number = 0
        while True:
            yield entry(number, ((0, b"data" * 1000),))
            number += 1

    def build() -> None:
        with read_beside(endless, ignore) as entries:
            for count, _ in enumerate(entries):
                if count == 1000:
                    raise BtrimgError("enough")

    with pytest.raises(BtrimgError, match="enough"):
        build()
    assert is_gone(forked)


@pytest.mark.parametrize("cores", [1, 2])
def test_one_core_is_not_shared(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))

    def source(warn: Callable[[str], None]) -> Iterator[Entry]:
        yield entry(os.getpid(), ())

    with read_beside(source, ignore) as entries:
        (found,) = entries
    assert (found.path == b"d/\xff%d" % os.getpid()) is (cores == 1)

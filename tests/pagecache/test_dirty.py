"""Changes of a file that are not committed, against a bytearray."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btrimg.errors import ChecksumError
from btrimg.pagecache.dirty import COMMITTED, HOLE, UNBOUNDED, Changes, PageMap, PageRun
from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAMES = 24
_offsets = st.one_of(st.integers(0, 12 * PAGE), st.integers(0, 12).map(lambda page: page * PAGE))
_lengths = st.one_of(st.integers(0, 5 * PAGE), st.integers(0, 5).map(lambda page: page * PAGE))


class Pool:
    """Frames, some of them free; what it hands out holds garbage."""

    def __init__(self, frames: int = FRAMES) -> None:
        self.memory = memoryview(bytearray(b"\xee" * (frames * PAGE)))
        self.free = set(range(frames))

    def take(self, pages: int) -> list[range]:
        taken: list[range] = []
        for frame in sorted(self.free)[:pages]:
            if taken and taken[-1].stop == frame:
                taken[-1] = range(taken[-1].start, frame + 1)
            else:
                taken.append(range(frame, frame + 1))
            self.free.remove(frame)
        return taken

    def give(self, frames: range) -> None:
        assert not self.free & set(frames)
        self.free |= set(frames)
        self.memory[frames.start * PAGE : frames.stop * PAGE] = b"\xee" * (len(frames) * PAGE)


class File:
    """A file with changes over committed bytes, and a bytearray that has gone through the same."""

    def __init__(self, committed: bytes) -> None:
        self.pool, self.committed, self.model = Pool(), committed, bytearray(committed)
        # On the disk, garbage may stand between the end of the file and that of its page.
        self._disk = committed + b"\xdd" * (-len(committed) % PAGE)
        self.changes = Changes(self.pool.memory, len(committed))

    def fill(self, room: memoryview, offset: int) -> None:
        room[:] = self._disk[offset : offset + len(room)]

    def write(self, offset: int, length: int) -> None:
        data = bytes((offset + at) % 251 for at in range(length))
        done = self.changes.write(offset, memoryview(data), self.pool, self.fill)
        self.model.extend(bytes(max(offset + done - len(self.model), 0) if done else 0))
        self.model[offset : offset + done] = data[:done]
        wanted = -(-(offset + length) // PAGE) - offset // PAGE
        assert done == length or not self.pool.free, wanted

    def truncate(self, size: int) -> None:
        self._give(self.changes.truncate(size))
        self.model = self.model[:size].ljust(size, b"\0")

    def punch(self, start: int, pages: int) -> None:
        end = min(start + pages, -(-len(self.model) // PAGE))
        self._give(self.changes.punch(start, end))
        for at in range(start * PAGE, min(end * PAGE, len(self.model))):
            self.model[at] = 0

    def _give(self, runs: Sequence[PageRun]) -> None:
        for run in runs:
            self.pool.give(range(run.frame, run.frame + run.pages))

    def read(self, start: int, end: int) -> bytes:
        data = bytearray(end - start)
        for first, last, where in self.changes.segments(start, end):
            assert start <= first < last <= end
            if where == COMMITTED:
                self.fill(memoryview(data)[first - start : last - start], first)
            elif where != HOLE:
                data[first - start : last - start] = self.pool.memory[where : where + last - first]
        return bytes(data)

    def check(self) -> None:
        size = len(self.model)
        assert self.changes.size == size
        assert self.read(0, size) == self.model
        assert self.read(size // 3, size // 2 + 7) == bytes(self.model[size // 3 : size // 2 + 7]).ljust(
            size // 2 + 7 - size // 3, b"\0"
        )
        assert self.changes.dirty + len(self.pool.free) == FRAMES
        changed = {page for start, end in self.changes.changed() for page in range(start, min(end, 40))}
        before, after = self.committed.ljust(40 * PAGE, b"\0"), self.model.ljust(40 * PAGE, b"\0")
        differ = {at for at in range(40) if before[at * PAGE :][:PAGE] != after[at * PAGE :][:PAGE]}
        assert differ <= changed


_operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _offsets, _lengths),
        st.tuples(st.just("truncate"), _offsets),
        st.tuples(st.just("punch"), st.integers(0, 12), st.integers(0, 5)),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(committed=st.one_of(st.just(0), _offsets), operations=_operations)
def test_what_is_read_over_committed_bytes_is_what_a_bytearray_holds(
    committed: int, operations: list[tuple[Any, ...]]
) -> None:
    file = File(bytes(at % 241 + 1 for at in range(committed)))
    for name, *arguments in operations:
        getattr(file, name)(*arguments)
        file.check()
    runs = file.changes.settle()
    assert sum(run.pages for run in runs) + len(file.pool.free) == FRAMES
    assert not file.changes


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.integers(-1, 60), st.booleans())))
def test_a_map_of_pages_is_what_a_dict_is_and_joins_its_runs(steps: list[tuple[int, int, int, bool]]) -> None:
    runs, model = PageMap(), dict[int, int]()
    for page, pages, frame, put in steps:
        taken = runs.take(page, page + pages)
        assert [(run.page + at, _frame(run, at)) for run in taken for at in range(run.pages)] == [
            (each, model.pop(each)) for each in range(page, page + pages) if each in model
        ]
        if put:
            runs.put(PageRun(page, pages, frame))
            model |= {page + at: _frame(PageRun(page, pages, frame), at) for at in range(pages)}
        held = [(run.page + at, _frame(run, at)) for run in runs for at in range(run.pages)]
        assert held == sorted(model.items())
        assert runs.frames == sum(each != HOLE for each in model.values())
        every = list(runs)
        assert not any(one.followed_by(other) for one, other in pairwise(every))
        assert {each for start, end in runs.without_frame(3, 25) for each in range(start, end)} == {
            each for each in range(3, 25) if model.get(each, HOLE) == HOLE
        }


def _frame(run: PageRun, at: int) -> int:
    return HOLE if run.frame == HOLE else run.frame + at


def test_a_page_that_cannot_be_filled_stays_as_it_was() -> None:
    file = File(bytes(range(1, 200)) * 100)

    def broken(room: memoryview, offset: int) -> None:
        if offset >= PAGE:
            raise ChecksumError("bad")
        file.fill(room, offset)

    with pytest.raises(ChecksumError):
        file.changes.write(PAGE + 1, memoryview(b"x"), file.pool, broken)
    file.check()
    # Whole pages need no filling; of this write only the last page does.
    file.changes.write(0, memoryview(b"y" * PAGE), file.pool, broken)
    file.model[:PAGE] = b"y" * PAGE
    assert file.changes.write(100, memoryview(b"z" * 2 * PAGE), file.pool, broken) == PAGE - 100
    file.model[100:PAGE] = b"z" * (PAGE - 100)
    file.check()


def test_a_file_that_was_cut_or_grew_has_changed_up_to_any_end() -> None:
    changes = Changes(Pool().memory, 5 * PAGE)
    assert changes.changed() == []
    changes.punch(1, 2)
    assert changes.changed() == [(1, 2)]
    changes.truncate(4 * PAGE + 1)
    changes.truncate(5 * PAGE)  # as long as before, but not the same
    assert changes
    assert changes.changed() == [(1, 2), (4, UNBOUNDED)]

"""Files read and written through the cache in any order, against bytearrays; programs and kernel judge the end."""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import kernel
from support.fresh import make_empty, no_warning, writable
from support.judges import complaints

from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import Compression
from btrimg.pagecache.aftermath import AFTER
from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.pages import PAGE
from btrimg.pagecache.schemes import SCHEMES
from btrimg.units import MIB

TOP = 5
_picks = st.integers(0, 1 << 16)
_offsets = st.one_of(st.integers(0, 9 * PAGE), st.integers(0, 9).map(lambda page: page * PAGE))
_lengths = st.one_of(st.integers(0, 4 * PAGE), st.integers(0, 6).map(lambda page: page * PAGE), st.integers(0, 90))
_after = st.sampled_from(AFTER)


class Cached(RuleBasedStateMachine):
    """A filesystem behind a cache that is written to, and the model of it: subvolume -> name -> bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._path = os.path.join(self._stack.enter_context(tempfile.TemporaryDirectory()), "image")
        self._serial = 0

    @initialize(
        scheme=st.sampled_from(sorted(SCHEMES.keys() - {"device-posted"})),
        policy=st.sampled_from(sorted(POLICIES)),
        after=_after,
        pages=st.sampled_from((1, 2, 3, 7, 40)),
        sectorsize=st.sampled_from((4096, 4096, 16384)),
        compression=st.sampled_from((Compression.NONE, Compression.NONE, Compression.ZSTD)),
        max_inline=st.sampled_from((2048, 0)),
    )
    def begin(self, scheme: str, policy: str, after: str, pages: int, sectorsize: int, **how: Any) -> None:
        """Open an empty filesystem, whose free space is found first fit: what is freed is soon written again."""
        make_empty(self._path, 128 * MIB, sectorsize=sectorsize)
        self._sector, self._pages = sectorsize, pages
        opened = writable(self._path, scheme=scheme, policy=policy, after=after, budget=pages * PAGE, **how)
        self._cache = self._stack.enter_context(opened)
        self._model: dict[int, dict[bytes, bytearray]] = {TOP: {}}
        self._prefix = {TOP: b"/"}
        self._open: dict[tuple[int, bytes], list[Any]] = {}
        for _ in range(2):
            self.create(0)

    # What there is

    def _fresh_name(self) -> bytes:
        self._serial += 1
        return b"%d" % self._serial

    def _file(self, pick: int) -> tuple[int, bytes, bytearray]:
        every = [(subvolume, name) for subvolume, names in self._model.items() for name in names]
        subvolume, name = every[pick % len(every)]
        return subvolume, name, self._model[subvolume][name]

    def _handle(self, subvolume: int, name: bytes, pick: int = 0) -> Any:
        handles = self._open.setdefault((subvolume, name), [])
        if not handles:
            handles.append(self._cache.open(self._prefix[subvolume] + name))
        return handles[pick % len(handles)]

    def _has_files(self) -> bool:
        return any(self._model.values())

    # What is done

    @precondition(lambda self: sum(map(len, self._model.values())) < 12)
    @rule(pick=_picks)
    def create(self, pick: int) -> None:
        """Make an empty file."""
        subvolume = sorted(self._model)[pick % len(self._model)]
        name = self._fresh_name()
        self._open[subvolume, name] = [self._cache.create(self._prefix[subvolume] + name)]
        self._model[subvolume][name] = bytearray()

    @precondition(_has_files)
    @rule(pick=_picks, offset=_offsets, length=_lengths, zeros=st.booleans())
    def write(self, pick: int, offset: int, length: int, zeros: bool) -> None:
        """Write where there is something or nothing; half of it compresses well."""
        subvolume, name, data = self._file(pick)
        self._serial += 1
        written = random.Random(self._serial).randbytes(length)
        written = bytes(length // 2) + written[length // 2 :] if zeros else written
        assert self._handle(subvolume, name, pick).write(offset, written) == length
        if length:
            data.extend(bytes(max(offset + length - len(data), 0)))
            data[offset : offset + length] = written

    @precondition(_has_files)
    @rule(pick=_picks, offset=_offsets, length=_lengths, into=st.booleans())
    def read(self, pick: int, offset: int, length: int, into: bool) -> None:
        """Read a part of a file."""
        subvolume, name, data = self._file(pick)
        handle = self._handle(subvolume, name, pick)
        assert handle.size == len(data)
        if into:
            buffer = bytearray(b"\xee" * length)
            count = handle.readinto(buffer, offset)
            assert buffer[:count] == data[offset : offset + length]
        else:
            assert handle.read(offset, length) == data[offset : offset + length]

    @precondition(_has_files)
    @rule(pick=_picks)
    def open_again(self, pick: int) -> None:
        """Have two handles of one file."""
        subvolume, name, data = self._file(pick)
        handles = self._open.setdefault((subvolume, name), [])
        if len(handles) < 2:
            handles.append(self._cache.open(self._prefix[subvolume] + name))
        assert handles[-1].read(0, 1 << 20) == data

    @rule(after=_after)
    def write_back(self, after: str) -> None:
        """Commit all changes."""
        self._cache.writeback(after=after)
        assert self._cache.dirty == 0

    @precondition(_has_files)
    @rule(pick=_picks, after=_after)
    def write_back_one(self, pick: int, after: str) -> None:
        """Commit the changes of a file."""
        subvolume, name, _ = self._file(pick)
        self._handle(subvolume, name, pick).writeback(after=after)

    @precondition(_has_files)
    @rule(pick=_picks, size=_offsets)
    def truncate(self, pick: int, size: int) -> None:
        """Let a file be shorter or longer."""
        subvolume, name, data = self._file(pick)
        self._handle(subvolume, name, pick).truncate(size)
        self._model[subvolume][name] = data[:size].ljust(size, b"\0")

    @precondition(_has_files)
    @rule(pick=_picks, offset=_offsets, length=_lengths)
    def punch(self, pick: int, offset: int, length: int) -> None:
        """Make a hole."""
        subvolume, name, data = self._file(pick)
        self._handle(subvolume, name, pick).punch(offset, length)
        end = min(offset + length, len(data))
        if offset < end:
            data[offset:end] = bytes(end - offset)

    @precondition(_has_files)
    @rule(pick=_picks, other=_picks)
    def reflink(self, pick: int, other: int) -> None:
        """Let a new file share all of another."""
        subvolume, name, data = self._file(pick)
        self.create(other)
        target, new = list(self._open)[-1]
        self._cache.reflink(self._handle(subvolume, name), self._handle(target, new))
        self._model[target][new] = bytearray(data)

    @precondition(_has_files)
    @rule(pick=_picks, other=_picks, start=st.integers(0, 6), sectors=st.integers(1, 4), at=st.integers(0, 8))
    def reflink_range(self, pick: int, other: int, start: int, sectors: int, at: int) -> None:
        """Let a file share a part of another, or of itself."""
        subvolume, name, data = self._file(pick)
        target, same, there = self._file(other)
        start, length, at = start * self._sector, sectors * self._sector, at * self._sector
        if start >= len(data):
            return
        length = min(length, len(data) - start)
        source, sink = self._handle(subvolume, name), self._handle(target, same)
        overlap = there is data and start < at + length and at < start + length
        if overlap or (length % self._sector and at + length < len(there)):
            with pytest.raises(RefusedError):
                self._cache.reflink(source, sink, start, length, at)
            return
        self._cache.reflink(source, sink, start, length, at)
        there.extend(bytes(max(at + length - len(there), 0)))
        there[at : at + length] = data[start : start + length]

    @precondition(lambda self: len(self._model) < 4)
    @rule(pick=_picks, read_only=st.booleans())
    def snapshot(self, pick: int, read_only: bool) -> None:
        """Snapshot a subvolume; a read-only one refuses to be written to."""
        source = sorted(self._model)[pick % len(self._model)]
        name = b"s" + self._fresh_name()
        new = self._cache.snapshot(self._prefix[source], b"/" + name, read_only=read_only)
        assert new not in self._model
        self._model[new] = {each: bytearray(data) for each, data in self._model[source].items()}
        self._prefix[new] = b"/" + name + b"/"
        if read_only:
            for each in self._model[new]:
                with pytest.raises(RefusedError, match="read-only"):
                    self._handle(new, each).write(0, b"x")
            self._check(new)
            self.delete_subvolume(sorted(self._model).index(new) - 1)

    @precondition(lambda self: len(self._model) > 1)
    @rule(pick=_picks)
    def delete_subvolume(self, pick: int) -> None:
        """Delete a snapshot; its number may be given out again."""
        gone = sorted(self._model.keys() - {TOP})[pick % (len(self._model) - 1)]
        self._cache.delete_subvolume(self._prefix.pop(gone).rstrip(b"/"))
        for name in self._model.pop(gone):
            self._lose(gone, name)

    @precondition(_has_files)
    @rule(pick=_picks)
    def delete(self, pick: int) -> None:
        """Delete a file, changes and all; its number may be given out again."""
        subvolume, name, _ = self._file(pick)
        self._cache.unlink(self._prefix[subvolume] + name)
        del self._model[subvolume][name]
        self._lose(subvolume, name)

    def _lose(self, subvolume: int, name: bytes) -> None:
        for handle in self._open.pop((subvolume, name), []):
            with pytest.raises(NotFoundError, match="gone"):
                handle.read(0, 1)

    # What holds

    @invariant()
    def is_within_the_budget(self) -> None:
        """Dirty pages count, too."""
        if hasattr(self, "_cache"):
            assert self._cache.dirty <= self._cache.resident <= self._pages

    def _check(self, *subvolumes: int) -> None:
        for subvolume in subvolumes or self._model:
            for name, data in self._model[subvolume].items():
                assert self._handle(subvolume, name).read(0, 1 << 20) == data

    def teardown(self) -> None:
        """Compare all there is, then let others do so."""
        try:
            if hasattr(self, "_cache"):
                self._check()
                self._cache.close()
                self._judge()
        finally:
            self._stack.close()

    def _judge(self) -> None:
        with open_image(self._path, warn=no_warning) as image:
            for subvolume, names in self._model.items():
                for name, data in names.items():
                    assert image.open(self._prefix[subvolume] + name).read(0, 1 << 20) == data


class Judged(Cached):
    """The same, and btrfs check and the kernel judge the end."""

    def _judge(self) -> None:
        super()._judge()
        assert complaints([self._path]) == []
        if self._sector > os.sysconf("SC_PAGE_SIZE"):
            return  # no kernel mounts those
        with kernel.mount([self._path], read_only=True) as top:
            for subvolume, names in self._model.items():
                for name, data in names.items():
                    with open(os.fsencode(top) + self._prefix[subvolume] + name, "rb") as file:
                        assert file.read() == data


_CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

TestCached = Cached.TestCase
TestCached.settings = settings(max_examples=12, stateful_step_count=30, suppress_health_check=_CHECKS)

TestJudged = pytest.mark.progs(pytest.mark.kernel(Judged.TestCase))
TestJudged.settings = settings(max_examples=3, stateful_step_count=30, suppress_health_check=_CHECKS)

"""The copies of data and tree blocks judged one by one, each by what is promised of it or by the other copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.scrub.around import AroundReader, new_room
from btrimg.check.scrub.copies import BAD, DIFFERS, GOOD, GROUP_BYTES, expect_copy, read_copy, show_copy
from btrimg.errors import BtrimgError
from btrimg.trees.ahead import ahead
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btrimg.check.scrub.badcopies import BadCopies
    from btrimg.check.scrub.copies import Pieces, States
    from btrimg.check.scrub.promised import Promise
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    Buffer = NDArray[np.uint8]
    Progress = Callable[[int], None]


_GROUPS_AT_ONCE = 16
_GROUPS_AROUND = 4  # the page cache: what caches of the processor hold


class CopyScrub:
    """Judges the copies of pieces; what is not good goes to *found*, and *progress* hears of bytes that were judged."""

    def __init__(self, volume: Volume, found: BadCopies, progress: Progress) -> None:
        self._volume, self._found, self._progress = volume, found, progress
        self._around = AroundReader(volume)

    def close(self) -> None:
        """Close what was opened; nothing is judged any more."""
        self._around.close()

    def doubted(self, pieces: Pieces, promise: Promise) -> Ints:
        """Return the numbers of units of which a copy after the first may not be what is promised.

        Nothing is told of them; the progress hears of these copies.
        """

        def are_good(groups: range, room: memoryview) -> bool:
            return self._are_good(pieces, groups, range(1, pieces.copies), promise, room)

        found = [np.empty(0, np.int64)]
        for groups, good in ahead(are_good, _several(pieces), new_room):
            self._progress((pieces.copies - 1) * pieces.bytes_of(groups.start, groups.stop))
            if not good:
                rows = slice(int(pieces.bounds[groups.start]), int(pieces.bounds[groups.stop]))
                found.append(ranges(pieces.number[rows], pieces.length[rows] // pieces.unit))
        return np.concatenate(found)

    def judge(self, kind: int, pieces: Pieces, promise: Promise, counted: int = 0) -> None:
        """Judge every copy of *pieces* by what is promised; the progress has heard of so many *counted* ones."""

        def work(group: int, buffer: Buffer) -> list[States | None]:
            units = buffer[0, pieces.start(group) :]
            first = pieces.first(group)
            states: list[States | None] = []
            for copy in range(pieces.copies):
                state = read_copy(self._volume, pieces, group, copy, buffer[0].data)
                if state is None and promise.all_good([units.data], first):
                    states.append(None)
                else:
                    states.append(_judged(state, promise.good(units.reshape(-1, pieces.unit), first)))
            return states

        self._each_group(kind, pieces, work, 1, promise, counted)

    def compare(self, kind: int, pieces: Pieces) -> None:
        """Compare the copies of *pieces* with each other: what more than half of them hold is taken to be right."""

        def work(group: int, buffers: Buffer) -> list[States | None]:
            states = [read_copy(self._volume, pieces, group, copy, row.data) for copy, row in enumerate(buffers)]
            whole = buffers[:, pieces.start(group) :]
            if not any(state is not None for state in states) and (whole[1:] == whole[0]).all():
                return states
            units = whole.reshape(len(buffers), -1, pieces.unit)
            return list(_compared(_filled(states, units.shape[1]), units))

        self._each_group(kind, pieces, work, pieces.copies)

    def _each_group(
        self,
        kind: int,
        pieces: Pieces,
        work: Callable[[int, Buffer], list[States | None]],
        rows: int,
        promise: Promise | None = None,
        counted: int = 0,
    ) -> None:
        """Let *work* judge all groups, with a buffer of so many *rows*, and tell what is found.

        Several groups are taken at once: as a rule all of them are as promised, which is seen in the kernel's page
        cache; only of others that is read what must be told apart.
        """

        def several(groups: range, room: memoryview) -> list[tuple[int, list[States | None]]]:
            if promise and self._are_good(pieces, groups, range(pieces.copies), promise, room):
                return []
            buffer = np.empty((rows, GROUP_BYTES), np.uint8)
            return [(group, work(group, buffer)) for group in groups]

        for groups, found in ahead(several, _several(pieces), new_room):
            self._progress((pieces.copies - counted) * pieces.bytes_of(groups.start, groups.stop))
            for group, states in found:
                if any(state is not None for state in states):
                    self._tell(kind, pieces, group, states, promise)

    def _are_good(self, pieces: Pieces, groups: range, copies: range, promise: Promise, room: memoryview) -> bool:
        """Return whether *copies* of some *groups* are what is promised, False also where that takes a closer look."""
        return all(
            self._around_is_good(pieces, groups, copy, promise, room)
            or self._shown_is_good(pieces, groups, copy, promise)
            for copy in copies
        )

    def _around_is_good(self, pieces: Pieces, groups: range, copy: int, promise: Promise, room: memoryview) -> bool:
        """Return whether one copy is what is promised, and the page cache does not hold it."""
        for first in groups[::_GROUPS_AROUND]:
            some = range(first, min(first + _GROUPS_AROUND, groups.stop))
            read = self._around.read(pieces, some, copy, room)
            if read is None or not promise.all_good(read, pieces.first(first)):
                return False
        return True

    def _shown_is_good(self, pieces: Pieces, groups: range, copy: int, promise: Promise) -> bool:
        """Return whether one copy is what is promised, as it is in the page cache."""
        expect_copy(self._volume, pieces, range(groups.stop, groups.stop + _GROUPS_AT_ONCE), copy)
        shown = show_copy(self._volume, pieces, groups, copy)
        return shown is not None and promise.all_good(shown, pieces.first(groups.start))

    def _tell(
        self, kind: int, pieces: Pieces, group: int, states: list[States | None], promise: Promise | None
    ) -> None:
        rows = pieces.rows(group)
        count = pieces.length[rows] // pieces.unit
        piece = np.repeat(np.arange(rows.start, rows.stop), count)
        within = ranges(np.zeros(len(count), np.int64), count) * pieces.unit
        logical = pieces.logical[piece] + within
        state = _filled(states, len(piece))
        intact = (state == GOOD).sum(axis=0, dtype=np.uint8)
        if not intact.all():
            self._count_rebuilt(pieces, group, piece, logical, promise, intact)
        for copy, found in enumerate(state):
            bad = np.flatnonzero(found != GOOD)
            if len(bad):
                self._found.add(
                    kind,
                    state=found[bad],
                    mirror=copy + 1,
                    intact=intact[bad],
                    devid=pieces.devid[copy, piece[bad]],
                    physical=(pieces.physical[copy, piece] + within)[bad],
                    length=pieces.unit,
                    logical=logical[bad],
                )

    def _count_rebuilt(
        self, pieces: Pieces, group: int, piece: Ints, logical: Ints, promise: Promise | None, intact: States
    ) -> None:
        """Count for 1 what has no good copy, but parity brings it back; it is believed where nothing was promised."""
        lost = np.flatnonzero(intact == 0)
        for some in np.split(lost, np.flatnonzero(np.diff(piece[lost])) + 1):
            first, end = int(some[0]), int(some[-1]) + 1  # the good ones between them do no harm
            start, length = int(logical[first]), (end - first) * pieces.unit
            if not self._volume.chunk_map.find(start).profile.parity:
                continue
            good = np.zeros(end - first, np.bool_)
            try:
                for data in self._volume.candidates(start, length):
                    units = np.frombuffer(data, np.uint8).reshape(-1, pieces.unit)
                    good |= promise is None or promise.good(units, pieces.first(group) + first)
                    if good.all():
                        break
            except BtrimgError:  # there is no candidate
                continue
            intact[some] = good[some - first]


def _several(pieces: Pieces) -> list[range]:
    """Return all groups, as they are taken at once."""
    first = range(0, pieces.groups, _GROUPS_AT_ONCE)
    return [range(each, min(each + _GROUPS_AT_ONCE, pieces.groups)) for each in first]


def _filled(states: list[States | None], units: int) -> States:
    return np.array([np.zeros(units, np.uint8) if state is None else state for state in states])


def _judged(state: States | None, good: NDArray[np.bool_]) -> States | None:
    """Return *state* with BAD for what could be read and is not good; None when all is well."""
    if state is None:
        return None if good.all() else np.where(good, GOOD, BAD).astype(np.uint8)
    state[~good & (state == GOOD)] = BAD
    return state


def _compared(state: States, units: NDArray[np.uint8]) -> States:
    """Return *state*, (copies, units), with DIFFERS for what could be read and is not what most copies hold."""
    readable = state == GOOD
    equal = np.array([[(one == other).all(axis=1) for other in units] for one in units])
    votes = (equal & readable).sum(axis=1)
    minority = votes * 2 <= readable.sum(axis=0)
    state[readable & minority] = DIFFERS
    return state

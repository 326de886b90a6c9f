"""Who is wrong in a row whose parity does not add up: one row at a time, by the checksums of its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.schema import COPY_KINDS
from btrimg.check.scrub.copies import BAD, DIFFERS, GOOD
from btrimg.check.scrub.promised import Blocks, digests
from btrimg.errors import BtrimgError, DeviceError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.volume.parity import column_at_fault, compute_p, compute_q, rebuild

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.check.scrub.badcopies import BadCopies
    from btrimg.check.scrub.contents import Contents
    from btrimg.filesystem.csums import Csums
    from btrimg.volume.chunkmap import Location, MappedChunk
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    States = NDArray[np.uint8]

_PLAIN, _P, _Q = map(COPY_KINDS.index, ("nodatasum", "parity P", "parity Q"))
_UNKNOWN, _UNSUMMED = 100, 101  # states of sectors beside those of units: nothing was written; without a checksum


class _Row(NamedTuple):
    """A row as it stands on the devices; None is what cannot be read."""

    logical: int  #: of its first byte
    places: Sequence[Location]  #: of the data columns, then of P and Q
    data: list[bytes | None]
    p: bytes | None
    q: bytes | None
    states: list[States]  #: of the sectors of each data column


class LineJudge:
    """Tells of each line whose parity does not add up which part of it is wrong, as far as that can be known."""

    def __init__(self, volume: Volume, found: BadCopies, contents: Contents, csums: Csums | None) -> None:
        self._volume, self._found, self._contents, self._csums = volume, found, contents, csums
        self._blocks = Blocks(volume, contents.blocks, contents.generations)

    def judge(self, chunk: MappedChunk, number: int, lines: Ints) -> None:
        """Judge *lines* of row *number* of a chunk.

        With data that are lost or fail their checksums, parity is good if it brings them back. More lost data than
        parity can bring back say nothing of it.
        """
        row = self._read(chunk, number)
        if row is None:
            return
        by_lost: dict[tuple[int, ...], list[int]] = {}
        for line in lines.tolist():
            columns = enumerate(zip(row.data, row.states, strict=True))
            lost = tuple(column for column, (data, states) in columns if data is None or states[line] == BAD)
            by_lost.setdefault(lost, []).append(line)
        for lost, some in by_lost.items():
            if not lost:
                self._compare(row, some)
            elif len(lost) == 1:
                self._bring_back(row, lost[0], some)
            elif len(lost) == 2 and row.p is not None and row.q is not None:
                self._bring_both_back(row, lost, some)

    def _read(self, chunk: MappedChunk, number: int) -> _Row | None:
        """Return row *number* of a chunk, None when none of its parity can be read."""
        columns = len(chunk.stripes) - chunk.profile.parity
        logical = chunk.logical + number * columns * STRIPE_LEN
        places = chunk.row(logical).places
        elements = [self._element(place) for place in places]
        p, q, *_ = *elements[columns:], None
        if p is None and q is None:
            return None
        states = [self._states(logical + column * STRIPE_LEN, data) for column, data in enumerate(elements[:columns])]
        return _Row(logical, places, elements[:columns], p, q, states)

    def _element(self, place: Location) -> bytes | None:
        device = self._volume.devices.get(place.devid)
        try:
            return device.pread(STRIPE_LEN, place.physical) if device else None
        except DeviceError:
            return None

    def _states(self, logical: int, data: bytes | None) -> States:
        """Return the state of each sector of an element, were it to hold *data*."""
        sector = self._volume.sectorsize
        at = logical + np.arange(0, STRIPE_LEN, sector)
        states = np.full(len(at), _UNKNOWN, np.uint8)
        states[self._contents.plain.holds(at)] = _UNSUMMED
        if data is None:
            return states
        units = np.frombuffer(data, np.uint8).reshape(-1, sector)
        if self._csums:
            self._judge_summed(self._csums, at, units, states)
        for start, end, good in self._blocks_in(logical, data):
            states[start // sector : end // sector] = GOOD if good else BAD
        return states

    def _judge_summed(self, csums: Csums, at: Ints, units: NDArray[np.uint8], states: States) -> None:
        """Set the states of those of the sectors *at* logical addresses that have checksums."""
        summed = np.flatnonzero(self._contents.checksummed.holds(at))
        for run in np.split(summed, np.flatnonzero(np.diff(summed) > 1) + 1) if len(summed) else []:
            try:
                expected = csums.lookup(int(at[run[0]]), len(run) * self._volume.sectorsize)
            except BtrimgError:
                continue
            found = digests(self._volume, units[run])
            states[run] = np.where(found == np.frombuffer(expected, found.dtype), GOOD, BAD)

    def _blocks_in(self, logical: int, data: bytes) -> Iterator[tuple[int, int, bool]]:
        """Yield start and end within an element of the tree blocks that lie in it, and whether they are good."""
        size, known = self._volume.nodesize, self._contents.blocks
        last = logical + STRIPE_LEN - size
        first, end = np.searchsorted(known, np.array([logical, last + 1], np.uint64)).tolist()
        for number in range(first, end):
            start = int(known[number]) - logical
            unit = np.frombuffer(data, np.uint8, size, start).reshape(1, -1)
            yield start, start + size, bool(self._blocks.good(unit, number)[0])

    def _compare(self, row: _Row, lines: list[int]) -> None:
        """Judge lines all of whose data can be read, and fail no checksum."""
        data = [column for column in row.data if column is not None]
        wrong: dict[int, set[int]] = {}
        for kind, stored, computed in ((_P, row.p, compute_p(data)), (_Q, row.q, compute_q(data))):
            if stored is not None:
                wrong[kind] = {line for line in lines if self._sector(stored, line) != self._sector(computed, line)}
        for line in sorted(wrong.get(_P, set()) & wrong.get(_Q, set())):
            column = self._culprit(row, data, line)
            if column is not None and row.states[column][line] == _UNSUMMED:
                self._tell(row, _PLAIN, column, line, BAD, intact=1)
                wrong[_P].remove(line)
                wrong[_Q].remove(line)
        for kind, some in wrong.items():
            for line in sorted(some):
                self._tell_parity(row, kind, line)

    def _culprit(self, row: _Row, data: list[bytes], line: int) -> int | None:
        """Return which one column, were it alone wrong, explains why neither P nor Q adds up; None if none does."""
        sectors = [self._sector(column, line) for column in data]
        p, q = self._sector(row.p or b"", line), self._sector(row.q or b"", line)
        return column_at_fault(sectors, p, q)

    def _bring_back(self, row: _Row, lost: int, lines: list[int]) -> None:
        """Judge each parity by whether it brings back the one column that is lost."""
        data = [None if column == lost else each for column, each in enumerate(row.data)]
        logical = row.logical + lost * STRIPE_LEN
        rebuilt: dict[int, bytes] = {}
        if row.p is not None:
            rebuilt[_P] = rebuild(data, row.p, None)[lost]
        if row.q is not None:
            rebuilt[_Q] = rebuild(data, None, row.q)[lost]
        states = {kind: self._states(logical, each) for kind, each in rebuilt.items()}
        for line in lines:
            told = [kind for kind in rebuilt if states[kind][line] == BAD]
            if not told and len({self._sector(each, line) for each in rebuilt.values()}) > 1:
                told = [kind for kind in rebuilt if states[kind][line] != GOOD]
            for kind in told:
                self._tell_parity(row, kind, line)

    def _bring_both_back(self, row: _Row, lost: tuple[int, ...], lines: list[int]) -> None:
        """Judge P and Q together by whether they bring back the two columns that are lost."""
        data = [None if column in lost else each for column, each in enumerate(row.data)]
        rebuilt = rebuild(data, row.p, row.q)
        states = [self._states(row.logical + column * STRIPE_LEN, rebuilt[column]) for column in lost]
        for line in lines:
            if any(state[line] == BAD for state in states):
                for kind in (_P, _Q):
                    self._tell(row, kind, len(row.data) + kind - _P, line, DIFFERS, intact=0)

    def _tell_parity(self, row: _Row, kind: int, line: int) -> None:
        """Tell of wrong parity: that it is bad, or only that it differs, where data without checksums may be wrong."""
        unsummed = any(states[line] == _UNSUMMED for states in row.states)
        self._tell(row, kind, len(row.data) + kind - _P, line, DIFFERS if unsummed else BAD, intact=not unsummed)

    def _tell(self, row: _Row, kind: int, position: int, line: int, state: int, *, intact: int) -> None:
        sector = self._volume.sectorsize
        place = row.places[position]
        self._found.add(
            kind,
            state=state,
            mirror=1 if kind == _PLAIN else 0,
            intact=intact,
            devid=place.devid,
            physical=place.physical + line * sector,
            length=sector,
            logical=row.logical + (position * STRIPE_LEN + line * sector if kind == _PLAIN else 0),
        )

    def _sector(self, element: bytes, line: int) -> bytes:
        return element[line * self._volume.sectorsize : (line + 1) * self._volume.sectorsize]

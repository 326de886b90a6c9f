"""Runs of free bytes, none touching another, in which room is found and taken quickly however many there are."""

from __future__ import annotations

from bisect import bisect_right

from btrimg.units import round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FULL = 512  # runs of a bucket, above which it is split
_NEIGHBOURS = 16  # blocks, about as many as a small commit takes


class FreeRuns:
    """A set of addresses, kept as runs in buckets of some hundred: first fit skips a bucket by its longest run."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """Take *runs* as (start, end), rising, none touching another."""
        every = list(runs)
        half = _FULL // 2
        parts = [every[at : at + half] for at in range(0, len(every), half)]
        self._starts = [[start for start, _ in part] for part in parts]
        self._lengths = [[end - start for start, end in part] for part in parts]
        self._heads = [starts[0] for starts in self._starts]
        self._longest = [max(lengths) for lengths in self._lengths]  # never too small; made exact where it misleads
        self.total = sum(map(sum, self._lengths))  #: bytes in all runs

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of every run, rising."""
        for starts, lengths in zip(self._starts, self._lengths, strict=True):
            yield from ((start, start + length) for start, length in zip(starts, lengths, strict=True))

    def longest(self) -> int:
        """Return the length of the longest run, 0 when there is none."""
        while self._longest:
            bound = max(self._longest)
            bucket = self._longest.index(bound)
            exact = self._longest[bucket] = max(self._lengths[bucket])
            if exact == bound:
                return bound
        return 0

    def take_first(self, length: int) -> int | None:
        """Take *length* bytes from the first run that has as many; return where they start, None where no run has."""
        place = self._first(length, 1)
        if place is None:
            return None
        start = self._starts[place[0]][place[1]]
        self._cut(*place, start, length)
        return start

    def take_blocks(self, size: int, count: int) -> list[int]:
        """Take up to *count* blocks of *size* bytes, aligned to their size; return where they start, rising.

        A run that has room for some more is preferred to many short ones before it: what refers to neighbours stands in
        fewer leaves of the extent tree, which a commit must read, write and check.
        """
        taken: list[int] = []
        many = _NEIGHBOURS * size
        while len(taken) < count and (place := self._first(many, size) or self._first(size, size)):
            bucket, index = place
            run = self._starts[bucket][index]
            start = round_up(run, size)
            fitting = (run + self._lengths[bucket][index] - start) // size
            blocks = range(start, start + min(fitting, count - len(taken)) * size, size)
            taken += blocks
            self._cut(bucket, index, start, len(blocks) * size)
        return sorted(taken)

    def take(self, start: int, length: int) -> bool:
        """Take exactly these bytes; return whether all of them were there, else nothing is taken."""
        place = self._at(start)
        if place is None or start + length > self._starts[place[0]][place[1]] + self._lengths[place[0]][place[1]]:
            return False
        self._cut(*place, start, length)
        return True

    def add(self, start: int, length: int) -> None:
        """Put back bytes of which none is there; they join the runs that they touch."""
        self.total += length
        place = self._at(start - 1)
        if place is not None:
            bucket, index = place
            self._lengths[bucket][index] += length
        else:
            bucket, index = self._insert(start, length)
        self._join_next(bucket, index)
        self._longest[bucket] = max(self._longest[bucket], self._lengths[bucket][index])
        if len(self._starts[bucket]) > _FULL:
            self._split(bucket)

    def _at(self, address: int) -> tuple[int, int] | None:
        """Return the (bucket, index) of the run that holds *address*, or None."""
        bucket = bisect_right(self._heads, address) - 1
        if bucket < 0:
            return None
        starts = self._starts[bucket]
        index = bisect_right(starts, address) - 1
        return (bucket, index) if address < starts[index] + self._lengths[bucket][index] else None

    def _first(self, length: int, align: int) -> tuple[int, int] | None:
        """Return the (bucket, index) of the first run that has *length* bytes from an aligned address on."""
        for bucket, bound in enumerate(self._longest):
            if bound < length:
                continue
            starts = self._starts[bucket]
            for index, found in enumerate(self._lengths[bucket]):
                if found >= length and found - -starts[index] % align >= length:
                    return bucket, index
            self._longest[bucket] = max(self._lengths[bucket])
        return None

    def _cut(self, bucket: int, index: int, start: int, length: int) -> None:
        """Take bytes that the run has."""
        starts, lengths = self._starts[bucket], self._lengths[bucket]
        self.total -= length
        before = start - starts[index]
        behind = lengths[index] - before - length
        if before:
            lengths[index] = before
            if behind:
                starts.insert(index + 1, start + length)
                lengths.insert(index + 1, behind)
                if len(starts) > _FULL:
                    self._split(bucket)
            return
        if behind:
            starts[index], lengths[index] = start + length, behind
        else:
            del starts[index], lengths[index]
            if not starts:
                del self._starts[bucket], self._lengths[bucket], self._heads[bucket], self._longest[bucket]
                return
        self._heads[bucket] = starts[0]

    def _insert(self, start: int, length: int) -> tuple[int, int]:
        if not self._starts:
            self._starts, self._lengths, self._heads, self._longest = [[]], [[]], [start], [0]
        bucket = max(bisect_right(self._heads, start) - 1, 0)
        index = bisect_right(self._starts[bucket], start)
        self._starts[bucket].insert(index, start)
        self._lengths[bucket].insert(index, length)
        self._heads[bucket] = self._starts[bucket][0]
        return bucket, index

    def _join_next(self, bucket: int, index: int) -> None:
        """Join a run with the next one if they touch."""
        end = self._starts[bucket][index] + self._lengths[bucket][index]
        place = self._at(end)
        if place is not None:
            length = self._lengths[place[0]][place[1]]
            self._cut(*place, end, length)
            self.total += length
            self._lengths[bucket][index] += length

    def _split(self, bucket: int) -> None:
        half = len(self._starts[bucket]) // 2
        for lists in (self._starts, self._lengths):
            lists.insert(bucket + 1, lists[bucket][half:])
            del lists[bucket][half:]
        self._heads.insert(bucket + 1, self._starts[bucket + 1][0])
        self._longest.insert(bucket + 1, self._longest[bucket])

"""What a comparison came to: how much was compared, what differed, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LONGEST = 400  # of a value in a difference: whole leaves and file contents are values too


class Difference(NamedTuple):
    """One value that btrimg and its judge do not agree on."""

    comparison: str
    where: str
    ours: str
    theirs: str


class Tally:
    """One comparison while it is counted.

    *whole* is how many units there are to compare, None where that is not known; every unit is compared or skipped by a
    reason, or left out by the sampling that the two numbers show.
    """

    def __init__(self, name: str, judge: str, unit: str, tell: Callable[[Difference], None], tick: Tick) -> None:
        self.name, self.judge, self.unit = name, judge, unit
        self._tell, self._tick = tell, tick
        self.compared = 0  #: units
        self.whole: int | None = None  #: units
        self.values = 0  #: single values that were compared
        self.differences = 0
        self.skipped: Counter[str] = Counter()  #: by reason; 0 where all of it was
        self.allowed: Counter[str] = Counter()  #: known differences by reason

    def same(self, where: str, ours: object, theirs: object) -> bool:
        """Compare one value; return whether it is the same."""
        self.values += 1
        if ours == theirs:
            return True
        self.differs(where, ours, theirs)
        return False

    def differs(self, where: str, ours: object, theirs: object) -> None:
        """Tell of a value that is not the same."""
        self.differences += 1
        self._tell(Difference(self.name, where, text_of(ours), text_of(theirs)))

    def same_fields(self, where: str, ours: Mapping[str, object], theirs: Mapping[str, object]) -> None:
        """Compare values by name."""
        for name in {**ours, **theirs}:
            self.same(f"{where}: {name}", ours.get(name), theirs.get(name))

    def done(self, units: int = 1, size: int = 0) -> None:
        """Count *units* as compared, which took *size* bytes."""
        self.compared += units
        self._tick(units, size)

    def skip(self, reason: str, units: int = 1) -> None:
        """Leave *units* out; 0 for all."""
        self.skipped[reason] += units

    def allow(self, reasons: Mapping[str, int]) -> None:
        """Count values that differ for a known reason."""
        self.allowed.update(reasons)


class Ledger:
    """All comparisons of one run; *tell* hears each difference at once, *tick* what has been done since."""

    def __init__(self, tell: Callable[[Difference], None], tick: Tick) -> None:
        self._tell, self._tick = tell, tick
        self.tallies: list[Tally] = []

    def open(self, name: str, judge: str, unit: str) -> Tally:
        """Begin a comparison."""
        self.tallies.append(Tally(name, judge, unit, self._tell, self._tick))
        return self.tallies[-1]

    def leave_out(self, names: Mapping[str, str], judge: str, reason: str) -> None:
        """Enter comparisons, given with their units, that cannot be made."""
        for name, unit in names.items():
            self.open(name, judge, unit).skip(reason, 0)

    @property
    def differences(self) -> int:
        """Return how many values differ."""
        return sum(tally.differences for tally in self.tallies)


def text_of(value: object) -> str:
    """Return a value as a difference shows it: on one line, and not without end."""
    text = " ".join(_words(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def _words(value: object) -> Iterator[str]:
    if value is None or value in ((), []):
        yield "nothing"
    elif isinstance(value, bytes):
        yield repr(value[: _LONGEST + 1])[1:]
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _words(part)
    else:
        yield str(value) or "''"


if TYPE_CHECKING:
    Tick = Callable[[int, int], None]  #: units, bytes

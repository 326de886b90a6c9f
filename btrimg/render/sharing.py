"""What the page cache shares and saves: for people, in the table layout in which EROFS reports it, and as JSON."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from btrimg.named import NamedTuple
from btrimg.pagecache.pages import PAGE
from btrimg.pagecache.schemes import SCHEMES
from btrimg.render.text import printable, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.pagecache.census import Outcomes
    from btrimg.pagecache.estimate import Estimate

    Size = Callable[[int], str]

_ROWS_MOST = 16  #: of a curve as text


class Answer(NamedTuple):
    """What ``cache estimate`` found."""

    sharers: Sequence[str]
    estimate: Estimate
    trusting: Estimate | None  #: without trust domains, where there are some

    @property
    def unshared(self) -> int:
        """Return the pages in memory when everybody has their own."""
        return self.estimate.of("none").resident


def census_object(outcomes: Outcomes) -> dict[str, Any]:
    """Return the outcomes under one scheme as JSON has them, in bytes."""
    return {
        "scheme": outcomes.scheme,
        "total": outcomes.pages * PAGE,
        "shared": outcomes.shared * PAGE,
        "alone": outcomes.alone * PAGE,
        "refused": _bytes_of(outcomes.refused),
        "in_memory": outcomes.resident * PAGE,
        "wrong": _bytes_of(outcomes.wrong),
        "unchecked": outcomes.unchecked * PAGE,
    }


def census_lines(several: Sequence[Outcomes], size: Size) -> Iterator[str]:
    """Yield the lines of a table with a column for each scheme."""
    reasons = dict.fromkeys(reason for each in several for reason in each.refused)
    defects = dict.fromkeys(defect for each in several for defect, pages in each.wrong.items() if pages)
    rows: list[tuple[str, list[int]]] = [
        ("shared", [each.shared for each in several]),
        ("alone", [each.alone for each in several]),
        *((reason, [each.refused.get(reason, 0) for each in several]) for reason in reasons),
        ("total", [each.pages for each in several]),
        ("in memory, no holes", [each.resident - each.refused.get("hole", 0) for each in several]),
        *((f"read wrong: {defect}", [each.wrong.get(defect, 0) for each in several]) for defect in defects),
    ]
    if any(each.unchecked for each in several):
        rows.append(("read unchecked", [each.unchecked for each in several]))
    cells = ((name, *(_size(pages, size) for pages in counts)) for name, counts in rows)
    yield from table(("Outcome", *(each.scheme for each in several)), cells, left=frozenset({0}))


def _size(pages: int, size: Size) -> str:
    return size(pages * PAGE) if pages else "-"


def estimate_object(answer: Answer) -> dict[str, Any]:
    """Return what was estimated as JSON has it, in bytes."""
    found, unshared = answer.estimate, answer.unshared
    schemes = []
    for each in found.schemes:
        row = {
            "scheme": each.scheme,
            "what": SCHEMES[each.scheme].what,
            "shared": each.resident * PAGE,
            "saved": (unshared - each.resident) * PAGE,
            "saved_percent": round(_percent(unshared - each.resident, unshared), 2),
            "refused": _bytes_of(each.refused),
            "curve": [pages * PAGE for pages in each.curve],
        }
        if answer.trusting:
            row["domains_cost"] = (each.resident - answer.trusting.of(each.scheme).resident) * PAGE
        schemes.append(row)
    equal = found.equal_sums
    shares = {} if found.shares is None else {"shares": [row._asdict() for row in _shares(answer)]}
    return {
        "sharers": list(answer.sharers),
        "files": found.files,
        "unshared": unshared * PAGE,
        "holes": found.holes * PAGE,
        "schemes": schemes,
        "posted": {"wrong": _bytes_of(found.wrong), "unchecked": found.unchecked * PAGE},
        "equal_checksums": {
            "bytes": equal.pages * PAGE,
            "compared": equal.compared,
            "different": equal.different * PAGE,
        },
        **shares,
    }


class _Share(NamedTuple):
    """What one sharer has under ``extent``, in bytes."""

    sharer: str
    used: int
    first: int
    proportional: int
    freed: int


def _shares(answer: Answer) -> list[_Share]:
    shares, curve = answer.estimate.shares, answer.estimate.of("extent").curve
    if shares is None:
        return []
    first = [after - before for before, after in pairwise((0, *curve))]
    columns = (shares.used, first, shares.proportional, shares.freed)
    return [
        _Share(name, *(round(pages * PAGE) for pages in row))
        for name, *row in zip(answer.sharers, *columns, strict=True)
    ]


def _share_lines(answer: Answer, size: Size) -> Iterator[str]:
    """Yield whose the pages are."""
    header = ("Used", "First", "Proportional", "Freed", "Sharer")
    rows = [[*map(size, row[1:]), printable(_bytes(row.sharer))] for row in _shares(answer)]
    yield "Whose the pages are under extent"
    yield from table(header, rows, left=frozenset({len(header) - 1}))


def _bytes_of(pages: dict[str, int]) -> dict[str, int]:
    return {name: count * PAGE for name, count in pages.items()}


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def estimate_lines(answer: Answer, size: Size) -> Iterator[str]:
    """Yield the table of all schemes, what is to be said of it, and the curve."""
    found, unshared = answer.estimate, answer.unshared
    yield f"{_count(len(answer.sharers), 'sharer')}, {_count(found.files, 'file')} read whole"
    yield ""
    header = ["Scheme", "Unshared", "Shared", "Saved", "%"]
    rows = []
    for each in found.schemes[1:]:
        saved = unshared - each.resident
        cells = [each.scheme, *(size(pages * PAGE) for pages in (unshared, each.resident, saved))]
        rows.append([*cells, f"{_percent(saved, unshared):.1f}"])
        if answer.trusting:
            rows[-1].append(size((each.resident - answer.trusting.of(each.scheme).resident) * PAGE))
    yield from table([*header, *(["Domains cost"] if answer.trusting else [])], rows, left=frozenset({0}))
    yield ""
    yield from _remarks(found, size)
    if len(answer.sharers) > 1:
        yield ""
        yield from _curve_lines(answer, size)
    if found.shares is not None:
        yield ""
        yield from _share_lines(answer, size)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _remarks(found: Estimate, size: Size) -> Iterator[str]:
    if found.holes:
        yield f"holes: {size(found.holes * PAGE)} of zeros left out, which the kernel holds for each inode (--holes)"
    wrong = {defect: pages for defect, pages in found.wrong.items() if pages}
    if wrong:
        parts = ", ".join(f"{defect} {size(pages * PAGE)}" for defect, pages in wrong.items())
        yield f"device-posted: {size(sum(wrong.values()) * PAGE)} read wrong: {parts}"
    if found.unchecked:
        yield f"device-posted: {size(found.unchecked * PAGE)} read without looking at the checksum there is"
    equal = found.equal_sums
    if equal.pages and not equal.compared:
        yield f"content: {size(equal.pages * PAGE)} shared for their checksum, not compared (--compare)"
    elif equal.pages:
        yield (
            f"content: {size(equal.pages * PAGE)} have the checksum of another place; of these, "
            f"{size(equal.different * PAGE)} are different"
        )


def _curve_lines(answer: Answer, size: Size) -> Iterator[str]:
    """Yield what is in memory after so many sharers; of many, powers of two."""
    count = len(answer.sharers)
    shown = range(1, count + 1)
    numbers = [n for n in shown if count <= _ROWS_MOST or n & (n - 1) == 0 or n == count]
    schemes = answer.estimate.schemes[1:]
    rows = [
        [n, *(size(each.curve[n - 1] * PAGE) for each in schemes), printable(_bytes(answer.sharers[n - 1]))]
        for n in numbers
    ]
    header = ("N", *(each.scheme for each in schemes), "N-th sharer")
    yield "In memory after the first N sharers"
    yield from table(header, rows, left=frozenset({len(header) - 1}))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")

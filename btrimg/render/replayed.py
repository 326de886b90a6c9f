"""What a replay of traces came to: tables for people, and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.named import NamedTuple
from btrimg.pagecache.pages import PAGE
from btrimg.render.text import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.pagecache.accesses import Skipped
    from btrimg.pagecache.readahead import Fetched
    from btrimg.pagecache.replay import Cached, Replayed

    Size = Callable[[int], str]

_TIMES = 8  #: of memory over time as text
_NS = 1_000_000_000


class Answer(NamedTuple):
    """What ``cache replay`` found."""

    accesses: int  #: of all traces
    left_out: dict[str, int]  #: accesses, by reason
    skipped: Sequence[tuple[str, str, Skipped]]  #: lines: name of the trace, reason, how many
    pages: int  #: page accesses that were replayed
    holes: int  #: page accesses that were not, for their pages are holes
    schemes: Sequence[Replayed]
    fetched: Sequence[Fetched]  #: what readahead brings in, in several spaces


def replay_object(answer: Answer) -> dict[str, Any]:
    """Return what came of it as JSON has it; sizes in bytes, times in seconds."""
    return {
        "accesses": answer.accesses,
        "left_out": answer.left_out,
        "skipped": [
            {"trace": trace, "reason": reason, "lines": skipped.lines, "first": skipped.line}
            for trace, reason, skipped in answer.skipped
        ],
        "page_accesses": answer.pages,
        "holes": answer.holes,
        "schemes": [_scheme_object(each) for each in answer.schemes],
        "readahead": [
            {"space": each.space} | {name: pages * PAGE for name, pages in each._asdict().items() if name != "space"}
            for each in answer.fetched
        ],
    }


def _scheme_object(each: Replayed) -> dict[str, Any]:
    return {
        "scheme": each.scheme,
        "in_memory": each.resident * PAGE,
        "duplicates": each.duplicates * PAGE,
        "refused": each.refused,
        "costs": each.costs._asdict(),
        "over_time": [
            {
                "page_accesses": moment.accesses,
                "seconds": moment.time / _NS,
                "in_memory": moment.resident * PAGE,
                "duplicates": moment.duplicates * PAGE,
            }
            for moment in each.moments
        ],
        "miss_ratios": [{"cache": pages * PAGE, "miss_ratio": round(ratio, 6)} for pages, ratio in each.curve],
        "caches": [_cache_object(cached) for cached in each.cached],
    }


def _cache_object(cached: Cached) -> dict[str, Any]:
    return {
        "policy": cached.policy,
        "budget": cached.budget * PAGE,
        "reads": cached.reads._asdict() | {"hit_ratio": round(cached.reads.ratio, 6)},
        "faults": cached.faults._asdict() | {"hit_ratio": round(cached.faults.ratio, 6)},
        "misses": cached.misses,
        "evictions": cached.evictions,
        "sharers_of_evicted": cached.sharers_of_evicted,
        "hits_over_time": list(cached.hits_over_time),
    }


def replay_lines(answer: Answer, size: Size) -> Iterator[str]:
    """Yield tables: what was replayed, memory without a limit, memory over time, caches of limited size."""
    yield f"{answer.accesses:,} accesses, {answer.pages:,} accesses to pages replayed"
    for reason, count in answer.left_out.items():
        yield f"left out: {count:,} {reason}"
    if answer.holes:
        yield f"left out: {answer.holes:,} to pages of holes (--holes)"
    for trace, reason, skipped in answer.skipped:
        yield f"{trace}: {skipped.lines:,} × {reason}, first in line {skipped.line:,}"
    if not answer.pages:
        return
    yield ""
    yield "Without a limit to memory"
    header = ("Scheme", "In memory", "Twice", "Lookups", "Translations", "Index", "Or pointers")
    yield from table(header, (_unlimited(each, size) for each in answer.schemes), left=frozenset({0}))
    yield ""
    yield from _over_time(answer, size)
    if any(each.cached for each in answer.schemes):
        yield ""
        yield from _limited(answer, size)
    if answer.fetched:
        yield ""
        yield "Brought in by readahead, without a limit to memory"
        rows = ((each.space, *(size(pages * PAGE) for pages in each[1:])) for each in answer.fetched)
        yield from table(("Along the", "Asked for", "Ahead", "Wasted", "Foreign"), rows, left=frozenset({0}))


def _unlimited(each: Replayed, size: Size) -> Sequence[object]:
    costs = each.costs
    return (
        *(each.scheme, size(each.resident * PAGE), size(each.duplicates * PAGE)),
        *(f"{costs.lookups:,}", f"{costs.translations:,}", size(costs.index_bytes), size(costs.pointer_bytes)),
    )


def _over_time(answer: Answer, size: Size) -> Iterator[str]:
    """Yield what was in memory after some parts of the accesses."""
    yield "In memory over time"
    count = len(answer.schemes[0].moments)
    shown = sorted({count * part // _TIMES - 1 for part in range(1, _TIMES + 1)} - {-1})
    rows = []
    for number in shown:
        moment = answer.schemes[0].moments[number]
        cells = (size(each.moments[number].resident * PAGE) for each in answer.schemes)
        rows.append((f"{moment.accesses:,}", f"{moment.time / _NS:.3f}", *cells))
    yield from table(("Page accesses", "Seconds", *(each.scheme for each in answer.schemes)), rows)


def _limited(answer: Answer, size: Size) -> Iterator[str]:
    """Yield what caches of limited size made of it: a row for each policy and size, a column for each scheme."""
    first = answer.schemes[0].cached
    yield "Reads that hit in caches of limited size"
    yield from _by_cache(answer, size, lambda cached: f"{100 * cached.reads.ratio:.2f} %")
    if any(cached.faults.accesses for cached in first):
        yield ""
        yield "Faults that hit"
        yield from _by_cache(answer, size, lambda cached: f"{100 * cached.faults.ratio:.2f} %")
    yield ""
    yield "Files that used a page since it came, when it was evicted, on average"
    yield from _by_cache(answer, size, _sharers)


def _sharers(cached: Cached) -> str:
    return f"{cached.sharers_of_evicted / cached.evictions:.2f}" if cached.evictions else "-"


def _by_cache(answer: Answer, size: Size, cell: Callable[[Cached], str]) -> Iterator[str]:
    rows = [
        (same[0].policy, size(same[0].budget * PAGE), *map(cell, same))
        for same in zip(*(each.cached for each in answer.schemes), strict=True)
    ]
    yield from table(("Policy", "Cache", *(each.scheme for each in answer.schemes)), rows, left=frozenset({0}))

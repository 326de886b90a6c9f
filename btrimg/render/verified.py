"""What was compared with whom, and what differed: a table, and objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.render.text import printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.oracle.tally import Difference, Tally

_HEADER = ("comparison", "compared", "of", "unit", "values", "differences", "judge")


def tally_object(tally: Tally) -> dict[str, Any]:
    """Return one comparison, with the stable field names of docs/cli.md."""
    return {
        "comparison": tally.name,
        "judge": tally.judge or None,
        "unit": tally.unit,
        "compared": tally.compared,
        "whole": tally.whole,
        "values": tally.values,
        "differences": tally.differences,
        "skipped": [{"reason": reason, "count": count or None} for reason, count in tally.skipped.items()],
        "allowed": [{"reason": reason, "count": count} for reason, count in tally.allowed.items()],
    }


def difference_object(difference: Difference) -> dict[str, Any]:
    """Return one difference."""
    name, where, ours, theirs = difference
    return {"comparison": name, "where": where, "btrimg": ours, "judge": theirs}


def table_lines(tallies: Sequence[Tally]) -> Iterator[str]:
    """Yield the table of comparisons; below each, what was skipped or allowed for and why; then those not made."""
    made = [tally for tally in tallies if tally.compared or tally.differences]
    lines = table(_HEADER, map(_cells, made), left=frozenset({0, 3, 6}))
    yield next(lines)
    for line, tally in zip(lines, made, strict=True):
        yield line
        for reason, count in tally.skipped.items():
            yield f"    skipped{f' {count}' if count else ''}: {_safe(reason)}"
        for reason, count in tally.allowed.items():
            yield f"    allowed for {count}: {reason}"
    left_out: dict[str, list[str]] = {}
    for tally in tallies:
        if tally not in made:
            left_out.setdefault("; ".join(tally.skipped) or "there is none", []).append(tally.name)
    for reason, names in left_out.items():
        yield f"not compared: {', '.join(names)}"
        yield f"    {_safe(reason)}"


def _safe(text: str) -> str:
    return printable(text.encode("utf-8", "surrogateescape"))


def _cells(tally: Tally) -> tuple[object, ...]:
    whole = "-" if tally.whole is None else tally.whole
    return tally.name, tally.compared, whole, tally.unit, tally.values, tally.differences, tally.judge


def difference_lines(shown: Sequence[Difference], total: int) -> Iterator[str]:
    """Yield the first of *total* differences, and how many more there are."""
    for difference in shown:
        name, where, ours, theirs = map(_safe, difference)
        yield f"DIFFERENCE {name}, {where.rstrip(', ')}".rstrip(", ")
        yield f"    btrimg  {ours}"
        yield f"    judge   {theirs}"
    if total > len(shown):
        yield f"and {total - len(shown)} more differences; --json shows all"

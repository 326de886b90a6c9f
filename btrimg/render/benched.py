"""What was measured beside a mount, as a table and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.render.text import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.pagecache.bench import Measured

_SCALES = ((10**9, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns"))


def ratio_of(measured: Measured) -> float | None:
    """Return the cache's part of the mount's memory, or how many times faster it is; None without a mount."""
    if not measured.mount or not measured.cache:
        return None
    return measured.mount / measured.cache if measured.unit == "ns" else measured.cache / measured.mount


def bench_object(measured: Measured) -> dict[str, Any]:
    """Return the JSON of one measurement."""
    ratio = ratio_of(measured)
    return {**measured._asdict(), "ratio": None if ratio is None else round(ratio, 3)}


def bench_lines(found: Sequence[Measured], size: Callable[[int], str]) -> Iterator[str]:
    """Yield the lines of a table; *size* writes numbers of bytes."""
    rows = []
    for each in found:
        ratio = ratio_of(each)
        said = "" if ratio is None else f"{ratio:.2f}x {'the speed' if each.unit == 'ns' else 'the memory'}"
        mount = "" if each.mount is None else _value(each.mount, each.unit, size)
        rows.append((each.name, _value(each.cache, each.unit, size), mount, said, each.what))
    return table(("measured", "cache", "mount", "ratio", ""), rows, frozenset({0, 3, 4}))


def _value(value: float, unit: str, size: Callable[[int], str]) -> str:
    if unit == "bytes":
        return size(int(value))
    if unit != "ns":
        return str(int(value))
    scale, name = next((scale, name) for scale, name in _SCALES if value >= scale or scale == 1)
    return f"{value / scale:.1f} {name}"

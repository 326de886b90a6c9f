"""Statistics of a tree in the layout of ``btrfs inspect-internal tree-stats`` (6.19), and as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.trees.stats import TreeStats

    Pairs = Sequence[tuple[int, int]]

_BARS = 20  # a histogram is drawn of that many seeks and more, with a # for each such part of them
_SHORTEST_BAR = 3  # distances are put together until they make as many


def lines(stats: TreeStats, size: Callable[[int], str], seconds: float) -> Iterator[str]:
    """Yield the statistics; *size* makes the text of a number of bytes, *seconds* is how long reading took."""
    facts = stats_object(stats)
    yield f"\tTotal size: {size(facts['size'])}"
    yield f"\t\tInline data: {size(facts['inline_bytes'])}"
    yield f"\tTotal seeks: {facts['total_seeks']}"
    yield f"\t\tForward seeks: {facts['forward_seeks']}"
    yield f"\t\tBackward seeks: {facts['backward_seeks']}"
    yield f"\t\tAvg seek len: {size(facts['average_seek'])}"
    yield from _histogram_lines(stats.seeks)
    yield f"\tTotal clusters: {facts['clusters'] or 1}"
    yield f"\t\tAvg cluster size: {size(facts['average_cluster'])}"
    yield f"\t\tMin cluster size: {size(facts['smallest_cluster'])}"
    yield f"\t\tMax cluster size: {size(facts['largest_cluster'] or stats.nodesize)}"
    yield f"\tTotal disk spread: {size(facts['spread'])}"
    yield f"\tTotal read time: {int(seconds)} s {int(seconds % 1 * 1e6)} us"
    yield f"\tLevels: {len(stats.nodes)}"
    yield f"\tTotal nodes: {sum(stats.nodes)}"
    for level, count in enumerate(stats.nodes):
        fanout = f"  (avg fanout {stats.nodes[level - 1] // count})" if level and count else ""
        yield f"\t\tOn level {level}: {count:8}{fanout}"


def stats_object(stats: TreeStats) -> dict[str, Any]:
    """Return the statistics with the stable field names of docs/cli.md."""
    seeks, seek_bytes = _totals(stats.seeks)
    clusters, cluster_bytes = _totals(stats.clusters)
    return {
        "size": sum(stats.nodes) * stats.nodesize,
        "inline_bytes": stats.inline_bytes,
        "nodes": list(stats.nodes),
        "total_seeks": seeks,
        "forward_seeks": stats.forward_seeks,
        "backward_seeks": seeks - stats.forward_seeks,
        "average_seek": seek_bytes // seeks if seeks else 0,
        "seeks": [list(pair) for pair in stats.seeks],
        "clusters": clusters,
        "average_cluster": cluster_bytes // clusters if clusters else 0,
        "smallest_cluster": stats.clusters[0][0] if clusters else 0,
        "largest_cluster": stats.clusters[-1][0] if clusters else 0,
        "spread": stats.highest - stats.lowest,
    }


def _totals(pairs: Pairs) -> tuple[int, int]:
    return sum(count for _, count in pairs), sum(value * count for value, count in pairs)


def _histogram_lines(seeks: Pairs) -> Iterator[str]:
    total = sum(count for _, count in seeks)
    if total < _BARS:
        return
    yield "\tSeek histogram"
    digits, part = len(str(seeks[-1][0])), total // _BARS
    for first, last, count in _grouped(seeks, part * _SHORTEST_BAR):
        bar = "#" * (count // part) or "|"
        yield f"\t\t{first:{digits}} - {last:{digits}}: {count:{digits}} {bar}"


def _grouped(seeks: Pairs, enough: int) -> Iterator[tuple[int, int, int]]:
    """Yield (shortest, longest distance, count) of neighbours that together are *enough*; one can be so alone."""
    first = last = count = 0
    for distance, often in seeks:
        if count and (often >= enough or count >= enough):
            yield first, last, count
            count = 0
        if often >= enough:
            yield distance, distance, often
            continue
        first = first if count else distance
        last, count = distance, count + often
    if count:
        yield first, last, count

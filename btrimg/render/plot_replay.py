"""A drawing of a replay: memory over time, and how many accesses miss in caches of all sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.pagecache.pages import PAGE
from btrimg.render.plot import STYLES, drawing, unit_for

if TYPE_CHECKING:
    from btrimg.render.replayed import Answer


def memory_and_misses(answer: Answer, file_format: str) -> bytes:
    """Return the drawing as an svg or png file; the same bytes for the same answer.

    Raises UnsupportedError when matplotlib is not there.
    """
    return drawing(lambda figure: _draw(figure, answer), file_format)


def _draw(figure: Any, answer: Answer) -> None:
    memory, misses = figure.subplots(1, 2)
    schemes = [each for each in answer.schemes if each.scheme in STYLES and each.moments] or list(answer.schemes)
    scale, unit = unit_for(max((each.resident for each in schemes), default=0) * PAGE)
    for each in schemes:
        style = {"linewidth": 1.8, "label": each.scheme} | STYLES.get(each.scheme, {})
        accesses = [0, *(moment.accesses for moment in each.moments)]
        memory.plot(accesses, [0, *(moment.resident * PAGE / scale for moment in each.moments)], **style)
        sizes = [pages * PAGE / scale for pages, _ in each.curve]
        misses.plot(sizes, [100 * ratio for _, ratio in each.curve], **style)
    memory.set_title("Memory without a limit", loc="left", fontsize=13, fontweight="bold")
    memory.set_xlabel("page accesses")
    memory.set_ylabel(f"page cache, {unit}")
    memory.legend(frameon=False, loc="upper left")
    misses.set_title("Misses by size of cache, LRU", loc="left", fontsize=13, fontweight="bold")
    misses.set_xlabel(f"cache, {unit}")
    misses.set_ylabel("misses, % of page accesses")
    for axes in (memory, misses):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.25)

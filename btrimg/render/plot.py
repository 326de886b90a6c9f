"""Plots, by matplotlib: an extra, imported when one is asked for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from btrimg.errors import UnsupportedError
from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from btrimg.render.sharing import Answer

# Of Okabe and Ito's palette, which the colour-blind can tell apart; what is today's stays grey.
STYLES: dict[str, dict[str, Any]] = {
    "inode": {"color": "#555555", "linewidth": 2.5, "label": "inode (today's kernel)"},
    "device-posted": {"color": "#D55E00", "linestyle": (0, (4, 2)), "label": "device-posted"},
    "device": {"color": "#E69F00", "label": "device"},
    "whole-file": {"color": "#CC79A7", "label": "whole-file"},
    "same-offset": {"color": "#56B4E9", "label": "same-offset"},
    "extent": {"color": "#009E73", "linewidth": 3.0, "label": "extent"},
    "content": {"color": "#0072B2", "linestyle": (0, (1, 2)), "label": "content"},
}
_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "btrimg",  # or every drawing would have other ids
}
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_GAP = 0.052  #: between two labels, of the height of the axes


def curves(answer: Answer, file_format: str) -> bytes:
    """Return a drawing of memory over the number of sharers, an svg or png file; the same bytes for the same answer.

    Raises UnsupportedError when matplotlib is not there.
    """
    return drawing(lambda figure: _draw_curves(figure, answer), file_format)


def drawing(draw: Callable[[Any], None], file_format: str) -> bytes:
    """Return what *draw* draws on a figure, as an svg or png file; raise UnsupportedError without matplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError("plots need matplotlib, which is not installed: pip install 'btrimg[plot]'") from None
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(10, 5.6), layout="constrained")
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format=file_format, dpi=160, metadata={"Date": None} if file_format == "svg" else None)
    return out.getvalue()


def unit_for(size: int) -> tuple[int, str]:
    """Return the unit in which to draw up to *size* bytes, and its name."""
    return next((each for each in _UNITS if size >= each[0]), (1, "bytes"))


def _draw_curves(figure: Any, answer: Answer) -> None:
    from matplotlib.ticker import MaxNLocator

    found = answer.estimate
    scale, unit = unit_for(max((each.resident for each in found.schemes), default=0) * PAGE)
    axes = figure.add_subplot()
    numbers = range(1, len(answer.sharers) + 1)
    for name, style in STYLES.items():
        heights = [pages * PAGE / scale for pages in found.of(name).curve]
        axes.plot(numbers, heights, marker="o" if len(heights) == 1 else None, **{"linewidth": 1.8} | style)
    axes.set_xlim(1, max(len(answer.sharers), 2))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("sharers that have read all their files")
    axes.set_ylabel(f"page cache, {unit}")
    axes.grid(axis="y", alpha=0.25)
    axes.set_title(_title(answer, scale, unit), loc="left", fontsize=14, fontweight="bold")
    _label_ends(axes, answer, scale)


def _title(answer: Answer, scale: int, unit: str) -> str:
    extent, unshared = answer.estimate.of("extent").resident, answer.unshared
    saved = 100 * (unshared - extent) / unshared if unshared else 0
    return (
        f"{len(answer.sharers)} sharers: {unshared * PAGE / scale:.1f} {unit} without sharing, "
        f"{extent * PAGE / scale:.1f} by extent, {saved:.0f} % less"
    )


def _label_ends(axes: Any, answer: Answer, scale: int) -> None:
    """Write the name of each curve where it ends, moved apart where ends are close."""
    found = answer.estimate
    top = axes.get_ylim()[1] or 1
    ends = sorted((found.of(name).resident * PAGE / scale / top, name) for name in STYLES)
    wrong = sum(found.wrong.values())
    pages = found.of("none").resident
    for (_, name), height in zip(ends, _apart([end for end, _ in ends]), strict=True):
        style, resident = STYLES[name], found.of(name).resident * PAGE / scale
        text = f"{style['label']}  {resident:.1f}"
        if name == "device-posted" and wrong:
            text += f", {100 * wrong / max(pages, 1):.0f} % read wrong"
        axes.annotate(
            text,
            (1, height),
            (8, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=style["color"],
            va="center",
            annotation_clip=False,
        )


def _apart(heights: Sequence[float]) -> list[float]:
    """Return ascending *heights* so that neighbours have a gap, moved as little as it takes, none below 0."""
    pools: list[tuple[float, int]] = []  # (sum of where the first would be, how many): neighbours that touch
    for number, height in enumerate(heights):
        total, count = height - number * _GAP, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            total, count = total + pools[-1][0], count + pools[-1][1]
            pools.pop()
        pools.append((total, count))
    firsts = [max(total / count, 0.0) for total, count in pools for _ in range(count)]
    return [first + number * _GAP for number, first in enumerate(firsts)]

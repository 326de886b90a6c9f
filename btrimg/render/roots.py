"""Blocks that may be the root of a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.render.text import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.trees.block import Pointer
    from btrimg.trees.hunt import Found

_HEADER = ("logical", "level", "generation", "items", "")


def is_current(found: Found, expected: Pointer | None) -> bool | None:
    """Return whether *found* is the root in use, None when nothing tells which that is."""
    return None if expected is None else (found.logical, found.generation) == (expected.logical, expected.generation)


def lines(tree: int, found: Sequence[Found], expected: Pointer | None) -> Iterator[str]:
    """Yield a table of *found*; a line above it says what to expect."""
    if expected is None:
        yield f"tree {tree}: which root is in use is not known"
    else:
        yield (
            f"tree {tree}: the root in use is block {expected.logical}, level {expected.level},"
            f" generation {expected.generation}"
        )
    rows = [(*each, "in use" if is_current(each, expected) else "") for each in found]
    yield from table(_HEADER, rows, left=frozenset({4}))


def root_object(tree: int, found: Found, expected: Pointer | None) -> dict[str, Any]:
    """Return one block with the stable field names of docs/cli.md."""
    return {"tree": tree, **found._asdict(), "current": is_current(found, expected)}

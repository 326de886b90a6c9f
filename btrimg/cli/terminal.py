"""The streams of a command: what is read from standard input, and colour where somebody looks.

Colour is for terminals, unless NO_COLOR is set (no-color.org).
"""

from __future__ import annotations

import os
import sys

from btrimg.errors import BtrimgError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_CODES = {"red": "31", "yellow": "33", "blue": "1;34", "cyan": "36", "green": "32"}


def standard_input(what: str) -> TextIO:
    """Return standard input, which *what* asks for; raises BtrimgError where it is closed."""
    if sys.stdin is None:
        raise BtrimgError(f"{what}: standard input is closed")
    return sys.stdin


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return *text* in *colour* (red, yellow, blue, cyan, green) if *stream* shows colours."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def sentence(error: Exception) -> str:
    """Return what an expected failure says, that of the system without its number."""
    if isinstance(error, OSError) and error.strerror:
        name = error.filename  # a descriptor is no name that would tell anybody anything
        return f"{os.fsdecode(name)!a}: {error.strerror}" if isinstance(name, str | bytes) else error.strerror
    return str(error) or "out of memory"


def say(kind: str, colour: str, message: str) -> None:
    """Write one sentence to stderr after ``btrimg:`` and, where it has one, its *kind*."""
    head = paint("btrimg:", colour, sys.stderr) + (f" {kind}:" if kind else "")
    print(f"{head} {message}", file=sys.stderr)

"""Files of SQL as the checker has them: comments on top, then one query."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENTS = re.compile(r"(?:--.*\n)*")


def texts_in(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every ``NAME.sql`` in a *folder* beside this file, by name."""
    directory = os.path.join(os.path.dirname(__file__), folder)
    for name in sorted(name for name, extension in map(os.path.splitext, os.listdir(directory)) if extension == ".sql"):
        with open(os.path.join(directory, f"{name}.sql"), "rb") as file:
            yield name, file.read().decode()


def split(text: str) -> tuple[str, str]:
    """Return the comments at the top of a file, and the query below them."""
    comments = _COMMENTS.match(text)
    end = comments.end() if comments else 0
    return text[:end], text[end:].strip()

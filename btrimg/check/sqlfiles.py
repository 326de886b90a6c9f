"""Files of SQL as the checker has them: comments on top, then one query.

A line ``-- of: RELATION, ...`` of the comments says that the query has no rows where none of these relations has any,
whatever there is in others that it reads: then it need not be run. tests/check/test_of.py has DuckDB prove it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENTS = re.compile(r"(?:--.*\n)*")
_OF = re.compile(r"^-- of: (.+)\n", re.MULTILINE)


def texts_in(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every ``NAME.sql`` in a *folder* beside this file, by name."""
    directory = os.path.join(os.path.dirname(__file__), folder)
    for name in sorted(name for name, extension in map(os.path.splitext, os.listdir(directory)) if extension == ".sql"):
        with open(os.path.join(directory, f"{name}.sql"), "rb") as file:
            yield name, file.read().decode()


def split(text: str) -> tuple[str, frozenset[str], str]:
    """Return the comments at the top of a file, the relations that its query is of, and the query below them."""
    found = _COMMENTS.match(text)
    end = found.end() if found else 0
    comments = text[:end]
    of = frozenset(name for names in _OF.findall(comments) for name in names.split(", "))
    return _OF.sub("", comments), of, text[end:].strip()

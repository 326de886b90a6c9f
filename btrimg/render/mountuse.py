"""What a mount has in memory and saves, as tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from btrimg.render.text import printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.render.sizes import Units

_SUBVOLUMES = ("subvolume", "files", "unshared", "proportional", "saved", "path")
_FILES = ("saved", "resident", "size", "sharers", "path")


def mount_use_lines(found: dict[str, Any], units: Units) -> Iterator[str]:
    """Yield the lines of the statistics of a mount."""
    resident, saved = units.text(found["resident"]), units.text(found["saved"])
    yield f"{printable(os.fsencode(found['mountpoint']))}: sharing by {found['share']}"
    yield f"{resident} resident for {found['files']} files of {found['contents']} contents, {saved} saved"
    yield ""
    rows = [
        (
            *(row["subvolume"], row["files"]),
            *(units.text(row[name]) for name in ("unshared", "proportional", "saved")),
            _path(row["path"]),
        )
        for row in found["subvolumes"]
    ]
    yield from table(_SUBVOLUMES, rows, frozenset({5}))
    yield ""
    files = [
        (*(units.text(row[name]) for name in ("saved", "resident", "size")), row["sharers"], _path(row["path"]))
        for row in found["most_shared"]
    ]
    yield from table(_FILES, files, frozenset({4}))
    for message in found["messages"]:
        yield printable(os.fsencode(message))


def _path(path: str | None) -> str:
    return "" if path is None else printable(os.fsencode(path))

"""Run the btrfs-progs of this machine, and read their text and ours as values that must agree."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from btrimg.oracle.fields import Reading, lines_of
from btrimg.oracle.progs import Progs, Version, find_progs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.oracle.known import Field


@cache
def installed() -> Progs:
    """Return the btrfs-progs in PATH."""
    progs = find_progs(os.environ["PATH"])
    assert progs, "the marker progs sees to it"
    return progs


def run_progs(*words: str) -> str:
    """Return what ``btrfs inspect-internal`` prints, in UTC, each byte a character."""
    assert words[0] == "inspect-internal"
    return installed().inspect(*words[1:])


def progs_version() -> Version:
    """Return the version of ``btrfs``."""
    return installed().version


def their_fields(tool: str, text: str) -> Iterator[Field]:
    """Yield the lines that *tool* of btrfs-progs prints as values, without those that we know to be wrong."""
    return (line.field for line in Reading(tool, progs_version()).theirs(lines_of(text)))


def our_fields(tool: str, lines: Iterable[str]) -> Iterator[Field]:
    """Yield our lines as values, without those that this version of *tool* lacks."""
    return (line.field for line in Reading(tool, progs_version()).ours(lines))

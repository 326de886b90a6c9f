"""The broken images of fixtures/broken/: recipes, and what is expected of whoever judges what they make.

A recipe is a TOML file named after a rule of the check, ``RULE.toml`` or ``RULE.VARIANT.toml``:

* ``about``: what is wrong, in one sentence;
* ``base``: the good image that is edited, one of ``bases.BASES``;
* ``edits``: as ``btrimg corrupt`` takes them (docs/corrupt.md);
* ``findings``: the codes of all rules that fire: the rule itself, and what follows from it;
* ``progs``: what ``btrfs check`` says: "clean", "errors", "refused" (it does not open the image) or "crashed"; where
  versions differ, a table from the version since which it says so, as ``{ "6.2" = "clean", "6.19" = "errors" }``;
* ``data = true``: judged with ``--data``.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from btrimg.check.rule import rules
from btrimg.check.run import check
from btrimg.corrupt.engine import Corruptor
from btrimg.filesystem.image import open_image
from btrimg.volume.draft import Piece, write_pieces

from . import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DIRECTORY = os.path.join(os.path.dirname(__file__), "../../fixtures/broken")
SECONDS = 600


class Broken(NamedTuple):
    """A recipe for a broken image."""

    name: str
    about: str
    base: str
    edits: list[str]
    findings: list[str]
    progs: str | dict[str, str]
    data: bool = False

    @property
    def rule(self) -> str:
        """Return the code of the rule that the image is for."""
        return self.name.partition(".")[0]

    def verdict(self, version: tuple[int, ...]) -> str:
        """Return what ``btrfs check`` of that version says: what the newest that is not newer says."""
        if isinstance(self.progs, str):
            return self.progs
        known = sorted((_numbers(since), verdict) for since, verdict in self.progs.items())
        return next((verdict for since, verdict in reversed(known) if since <= version), known[0][1])


def load_all() -> list[Broken]:
    """Return all recipes, by name."""
    found = []
    for file in sorted(os.listdir(DIRECTORY)):
        with open(os.path.join(DIRECTORY, file), "rb") as content:
            found.append(Broken(file.removesuffix(".toml"), **tomllib.load(content)))
    return found


def findings(devices: Sequence[str], *, data: bool = False) -> set[str]:
    """Return the codes of all rules that fire on an image."""
    chosen = [rule for rule in rules().values() if data or not rule.needs_data]
    with open_image(devices, replay_log=None, warn=lambda _message: None) as image:
        return {finding.rule.code for finding in check(image, chosen)}


@contextmanager
def broken(devices: Sequence[str], edits: Sequence[str]) -> Iterator[None]:
    """Edit an image in place, and take the edits back at the end."""
    with open_image(devices, replay_log=None, warn=lambda _message: None) as image:
        corruptor = Corruptor(image)
        corruptor.apply(edits)
        pieces = list(corruptor.pieces())
        paths = {devid: device.path for devid, device in image.volume.devices.items()}
    back = [Piece(piece.devid, piece.physical, piece.after, piece.before) for piece in pieces]
    try:
        write_pieces(paths, pieces)
        yield
    finally:
        write_pieces(paths, back)


def progs_verdict(devices: Sequence[str]) -> tuple[str, str]:
    """Return what ``btrfs check`` says of an image, in a word and in its own."""
    if len(devices) == 1:
        return _progs_verdict(devices[0])
    with kernel.loop_devices(devices, read_only=True) as attached:  # it looks for further devices only there
        return _progs_verdict(attached[0])


def _progs_verdict(device: str) -> tuple[str, str]:
    done = subprocess.run(["btrfs", "check", device], capture_output=True, text=True, errors="replace", timeout=SECONDS)
    said = done.stdout + done.stderr
    if done.returncode < 0:
        return "crashed", said
    if re.search(r"couldn't open file system|cannot open file system", said, re.IGNORECASE):
        return "refused", said
    return "errors" if done.returncode else "clean", said


@cache
def progs_version() -> tuple[int, ...]:
    """Return the version of the btrfs-progs that are installed."""
    said = subprocess.run(["btrfs", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v(\d+(?:\.\d+)+)", said)
    assert found, said
    return _numbers(found[1])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))

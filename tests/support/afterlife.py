"""What the kernel does with an image that btrimg wrote: write to it, balance it, delete from it, and scrub it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence


def live_on(top: str) -> None:
    """Use a filesystem that is mounted at *top*, read and write, in all the ways that depend on its accounts.

    Raises RuntimeError when the kernel refuses something, or scrub finds an error.
    """
    _scrub(top)
    work = os.fsencode(top) + b"/after life"
    os.mkdir(work)
    for number in range(40):
        with open(work + b"/small %d" % number, "wb") as file:
            file.write(b"%d " % number * 50 * number)
    with open(work + b"/large", "wb") as file:
        file.write(os.urandom(3 << 20))
    kernel.clone(work + b"/large", work + b"/clone")
    kernel.create_snapshot(os.fsencode(top), work + b"/snapshot", read_only=False)
    with open(work + b"/large", "r+b") as file:
        file.write(os.urandom(70_000))
    kernel.sync(top)
    kernel.run("btrfs", "balance", "start", "--full-balance", top)
    kernel.delete_subvolume(work + b"/snapshot")
    os.unlink(work + b"/clone")
    kernel.finish_deletions(top)
    _scrub(top)


def rewrite(top: str, files: Sequence[bytes]) -> None:
    """Change the middle and the end of *files* below *top*, so that the kernel must break their sharing."""
    for path in files:
        with open(os.fsencode(top) + path, "r+b") as file:
            file.seek(os.path.getsize(file.name) // 2)
            file.write(b"changed by the kernel")
            file.seek(0, os.SEEK_END)
            file.write(b"and made longer" * 500)


def _scrub(top: str) -> None:
    said = kernel.run("btrfs", "scrub", "start", "-B", top)
    if "no errors found" not in said:
        raise RuntimeError(said)

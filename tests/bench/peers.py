"""Run a command of ours beside its peer, in turns, and print how long ours takes as a multiple of the peer's.

Absolute times say more of the machine than of the code, so a bench prints ratios within one run, and asserts
nothing. Run with ``PYTHONPATH=tests python -m bench.NAME``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from support import kernel

from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

_HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(os.path.dirname(sys.executable), "btrimg")  #: ours, as a person starts it


class Ratio(NamedTuple):
    """The outcome of one comparison; seconds of wall time, medians over the rounds."""

    ours: float
    peer: float
    ratio: float  # median of the rounds' own ratios, so that a drift of the machine cancels out


def compare(
    name: str, ours: Sequence[str], peer_name: str, peer: Sequence[str], rounds: int = 9, warm: str | None = None
) -> Ratio:
    """Run both commands once to warm up, then *rounds* times in turns; print and return the ratio.

    The file *warm* is read into the page cache before each run: btrfs-progs drops what the kernel has of an image when
    it opens and closes it (kernel-shared/volumes.c ``btrfs_close_devices``), and so would have us read the disk.
    """

    def run(command: Sequence[str]) -> float:
        if warm is not None:
            _read_through(warm)
        return seconds(command)

    run(ours)
    run(peer)
    return report(name, peer_name, [(run(ours), run(peer)) for _ in range(rounds)])


def _read_through(path: str) -> None:
    room = bytearray(MIB)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(room):
            pass


def report(name: str, peer_name: str, pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Print and return the ratio of *pairs* of seconds, ours and the peer's, one of each round."""
    found = Ratio(
        median(mine for mine, _ in pairs),
        median(theirs for _, theirs in pairs),
        median(mine / theirs for mine, theirs in pairs),
    )
    print(
        f"{name}: {found.ratio:.3f}x {peer_name}"
        f" ({_time(found.ours)} against {_time(found.peer)}, median of {len(pairs)})",
        flush=True,
    )
    return found


def seconds(command: Sequence[str]) -> float:
    """Return how long *command* takes from start to exit, its output thrown away.

    Raises CalledProcessError when it fails: a peer that stops early is fast.
    """
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _time(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def mounted(image: str) -> AbstractContextManager[str]:
    """Mount a corpus read-only for the length of a with block; give the directory."""
    return kernel.mount([image], read_only=True)


def fiemap_loop(directory: str) -> str:
    """Compile the C peer of the extent listing into *directory*; give the program's path."""
    return _compiled(directory, "fiemap_loop")


def logical_ino_loop(directory: str) -> str:
    """Compile the C peer of locate into *directory*; give the program's path."""
    return _compiled(directory, "logical_ino_loop")


def pread_loop(directory: str) -> str:
    """Compile the C peer of reads of a page into *directory*; give the program's path."""
    return _compiled(directory, "pread_loop")


def _compiled(directory: str, name: str) -> str:
    program = os.path.join(directory, name)
    kernel.run("cc", "-O2", "-o", program, os.path.join(_HERE, f"{name}.c"))
    return program


def dump_tree(image: str) -> list[str]:
    """Return the command that prints every tree block of *image*."""
    return ["btrfs", "inspect-internal", "dump-tree", image]


def dissect(image: str, path: str) -> list[str] | None:
    """Return the command that lists the extents of *path* by dissect.btrfs, None where it is not installed.

    BTRIMG_DISSECT_PYTHON names the interpreter that has it: it is kept out of our own environment.
    """
    python = _dissect_python()
    return [python, os.path.join(_HERE, "dissect_extents.py"), image, path] if python else None


def dissect_read(image: str, path: str, reads: int) -> tuple[float, float] | None:
    """Return how many seconds dissect.btrfs takes for the whole file *path*, and for *reads* times 4 KiB of it.

    None where it is not installed.
    """
    python = _dissect_python()
    if not python:
        return None
    whole, few = kernel.run(python, os.path.join(_HERE, "dissect_read.py"), image, path, str(reads)).split()
    return float(whole), float(few)


def _dissect_python() -> str | None:
    python = os.environ.get("BTRIMG_DISSECT_PYTHON", sys.executable)
    probe = [python, "-c", "import dissect.btrfs"]
    if not shutil.which(python) or subprocess.run(probe, capture_output=True, check=False).returncode:
        return None
    return python

"""Race one answer about one file: ``PYTHONPATH=tests python -m bench.bench_resolve CORPUS.img``.

Whole processes. Goals: half the time that dissect.btrfs takes to open the image and list the extents of the same file,
for the file with the most extents and for one with a single extent; below 40 blocks for a cold resolve.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np

import btrimg

from . import peers

if TYPE_CHECKING:
    from btrimg.filesystem.columns import ExtentColumns


def main(image: str) -> None:
    """Print ratios; *image* holds a corpus."""
    with btrimg.open(image) as fs:
        columns = fs.extents()
    peers.compare("btrimg --version", [peers.PROGRAM, "--version"], "python -c pass", [sys.executable, "-c", "pass"])
    for what, path in zip(("most extents", "1 extent"), _files(columns), strict=True):
        file = f"{image}:{path}"
        with btrimg.open(image) as fs:
            fs.open(os.fsencode(path)).resolve(0)
            print(f"{path}: a cold resolve reads {fs.blocks.blocks_read} blocks")
        peer = peers.dissect(image, path)
        for command in ([peers.PROGRAM, "resolve", file, "0", "--json"], [peers.PROGRAM, "extents", file, "--json"]):
            name = f"{command[1]}, file with {what}"
            peers.compare(name, command, "python -c pass", [sys.executable, "-c", "pass"], rounds=15)
            if peer:
                peers.compare(name, command, "dissect.btrfs", peer, rounds=15)
    if not peer:
        print("dissect.btrfs is not installed: set BTRIMG_DISSECT_PYTHON to a Python that has it")


def _files(columns: ExtentColumns) -> tuple[str, str]:
    """Return the paths of the file with the most extents, and of one with a single regular extent."""
    top = columns.subvolume == 5
    inodes, first, counts = np.unique(columns.inode[top], return_index=True, return_counts=True)
    rows = np.flatnonzero(top)[first]
    single = int(np.flatnonzero((counts == 1) & (columns.logical[rows] > 0))[len(inodes) // 2 % 97])
    return tuple(  # type: ignore[return-value]
        os.fsdecode(columns.paths.decode(int(columns.path[rows[at]]))) for at in (int(counts.argmax()), single)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Race the accounting of a whole image: ``PYTHONPATH=tests python -m bench.bench_du CORPUS.img``.

Goals, for both answers in one run: a quarter of the time of compsize, an eighth of that of ``btrfs filesystem du -s``,
both on the warm mount; and the listing of every file in an eighth of that of ``btrfs filesystem du``.
"""

from __future__ import annotations

import shutil
import sys

from . import peers


def main(image: str) -> None:
    """Print ratios; *image* holds a corpus."""
    both = [peers.PROGRAM, "du", "-s", "--compression", image]
    with peers.mounted(image) as top:
        if shutil.which("compsize"):
            peers.compare("du -s --compression", both, "compsize", ["compsize", top], rounds=5)
        else:
            print("compsize is not installed (package btrfs-compsize)")
        summary = ["btrfs", "filesystem", "du", "-s", top]
        peers.compare("du -s --compression", both, "btrfs filesystem du -s", summary, rounds=3)
        peers.compare(
            *("du --compression, every file", [peers.PROGRAM, "du", "--compression", image]),
            *("btrfs filesystem du", ["btrfs", "filesystem", "du", top]),
            rounds=3,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

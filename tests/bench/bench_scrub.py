"""Race the judging of all data: ``PYTHONPATH=tests python -m bench.bench_scrub CORPUS.img``.

Goals: ``check --data`` in a quarter of the time of ``btrfs check --check-data-csum``, and in no more than 1.5 times
that of the kernel's scrub of the mounted image. Beside them, what of it is the scrub alone.
"""

from __future__ import annotations

import subprocess
import sys

from . import peers

SCRUB = """
import sys, time, btrimg
from btrimg.check.scrub.begun import scrub
from btrimg.check.scrub.told import Told
from btrimg.tables.leafscan import LeafScan, every_tree
from btrimg.tables.schema import EXTENTS, FILE_EXTENTS
with btrimg.open(sys.argv[1]) as fs:
    scan = LeafScan(fs, [EXTENTS, FILE_EXTENTS], every_tree(fs))
    tables = [scan.gathered(relation).different for relation in (EXTENTS, FILE_EXTENTS)]
    sound = dict(zip(("logical", "generation"), scan.forest.sound_at_first(), strict=True))
    judged = []
    start = time.perf_counter()
    found = scrub(fs, Told(*tables, sound), judged.append)
    seconds = time.perf_counter() - start
    assert not len(found["devid"]) and sum(judged)
    print(f"scrub: {sum(judged) / seconds / 1e9:.2f} GB/s, {seconds:.2f} s")
"""


def main(image: str) -> None:
    """Print ratios; *image* holds corpus M."""
    check = [peers.PROGRAM, "check", "--data", image]
    progs = ["btrfs", "check", "--check-data-csum", image]
    peers.compare("check --data", check, "btrfs check --check-data-csum", progs, rounds=5, warm=image)
    with peers.mounted(image) as top:
        kernel = ["btrfs", "scrub", "start", "-Br", top]
        peers.compare("check --data", check, "the kernel's scrub", kernel, rounds=5, warm=image)
    subprocess.run([sys.executable, "-c", SCRUB, image], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Race the page cache against dissect.btrfs: ``PYTHONPATH=tests python -m bench.bench_pagecache [IMAGE PATH]``.

Goal: 4 KiB at random, in memory, at least ten times as fast. Without an image, one with a file of 256 MiB is built.
dissect.btrfs checks nothing of what it reads, and reads it again each time; the cache checks it all, once.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from contextlib import closing
from statistics import median

from support.program import btrimg

from btrimg.filesystem.image import open_image
from btrimg.pagecache.cache import PageCache

from . import peers

_SIZE = 256 << 20
_READS = 5_000
_PAGE = 4096
_ROUNDS = 5


def race(image: str, path: str) -> None:
    """Print how many times as fast the cache is, in turns with the peer."""
    first, again, random_reads = [], [], []
    for _ in range(_ROUNDS):
        found = peers.dissect_read(image, path, _READS)
        if found is None:
            print("dissect.btrfs is not installed: set BTRIMG_DISSECT_PYTHON to a Python that has it")
            return
        whole, few = found
        cold, warm, ours = _ours(image, path)
        first.append(whole / cold)
        again.append(whole / warm)
        random_reads.append(few / ours)
    print(f"a whole file, read for the first time and checked: {median(first):.1f}x dissect.btrfs")
    print(f"the same, from the cache: {median(again):.1f}x")
    print(f"4 KiB at random, in memory: {median(random_reads):.1f}x")


def _ours(image: str, path: str) -> tuple[float, float, float]:
    with open_image(image) as opened:
        inode = opened.open(os.fsencode(path))
        room = memoryview(bytearray(1 << 20))
        with PageCache(opened, budget=inode.item.size + (1 << 20)) as cache:
            times = []
            for _ in range(2):
                start = time.perf_counter()
                with closing(cache.open(inode)) as file:
                    for at in range(0, file.size, len(room)):
                        file.readinto(room, at)
                times.append(time.perf_counter() - start)
            draw, page = random.Random(0), room[:_PAGE]
            places = [draw.randrange(file.size // _PAGE) * _PAGE for _ in range(_READS)]
            start = time.perf_counter()
            for at in places:
                file.readinto(page, at)
            return times[0], times[1], time.perf_counter() - start


def main() -> None:
    """Build an image, and race for it."""
    with tempfile.TemporaryDirectory() as directory:
        recipe, image = os.path.join(directory, "file.toml"), os.path.join(directory, "file.img")
        with open(recipe, "w", encoding="ascii") as file:
            file.write(f'do = [{{file = "/file", random = {_SIZE}}}]\n')
        built = btrimg("build", recipe, "-o", image)
        if built.returncode:
            sys.exit(built.stderr)
        race(image, "/file")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        race(*sys.argv[1:3])
    else:
        main()

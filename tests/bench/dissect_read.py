"""The peer of the page cache: dissect_read.py IMAGE PATH READS says how long dissect.btrfs reads; seconds, two lines.

The whole file, and then so many times 4 KiB at random.
"""

from __future__ import annotations

import random
import sys
import time
from importlib import import_module

_PAGE = 4096
_STEP = 1 << 20


def main(image: str, path: str, reads: int) -> None:
    """Print how long both take."""
    btrfs = import_module("dissect.btrfs")
    with open(image, "rb") as disk:
        filesystem = btrfs.Btrfs(disk)
        start = time.perf_counter()
        file = filesystem.get(path).open()
        size = 0
        while piece := file.read(_STEP):
            size += len(piece)
        print(time.perf_counter() - start)
        draw = random.Random(0)
        places = [draw.randrange(size // _PAGE) * _PAGE for _ in range(reads)]
        start = time.perf_counter()
        for at in places:
            file.seek(at)
            file.read(_PAGE)
        print(time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

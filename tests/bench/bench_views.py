"""Race 4 KiB reads of a file in memory against a C loop of pread: ``PYTHONPATH=tests python -m bench.bench_views``.

Goals: a view is at least twice as fast, a copy of it takes no more than 1.25 times, the cache's readinto 3.3 times as
long; 16 reflinks of 256 MiB are 1.1 copies in memory at most.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from statistics import median

from support import images, kernel

from . import peers

_SIZE = 256 << 20
_CLONES = 15
_ROUNDS = 5


def main() -> None:
    """Print ratios of speed and of memory."""
    with tempfile.TemporaryDirectory() as directory:
        (device,) = images.new_devices(directory, 1, 1 << 30)
        images.mkfs([device], "single", "dup")
        with kernel.mount([device]) as top:
            with open(f"{top}/file", "wb") as file:
                file.write(os.urandom(_SIZE))
            kernel.sync(top)
            for number in range(_CLONES):
                kernel.clone(f"{top}/file", f"{top}/clone{number}")
        loop = peers.pread_loop(directory)
        ours: list[dict[str, float]] = []
        theirs: list[float] = []
        for _ in range(_ROUNDS):
            lines = subprocess.run([peers.PROGRAM, "cache", "bench", "--json", device], capture_output=True, check=True)
            found = [json.loads(line) for line in lines.stdout.splitlines()]
            ours.append({each["name"]: each["cache"] for each in found})
            with kernel.mount([device], read_only=True) as top:
                theirs.append(float(kernel.run(loop, f"{top}/file", "100000")))
    for name in ("view", "copy", "readinto"):
        ratio = median(peer / mine[name] for mine, peer in zip(ours, theirs, strict=True))
        print(f"4 KiB at random by {name}: {ratio:.2f}x the speed of pread in C on the mount", flush=True)
    print(f"translation in batches: {median(mine['translation'] for mine in ours):.0f} ns an address")
    print(f"{_CLONES + 1} reflinks in memory: {ours[0][f'resident-{_CLONES + 1}'] / _SIZE:.2f} copies")


if __name__ == "__main__":
    main()

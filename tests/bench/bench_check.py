"""Race the checker: ``PYTHONPATH=tests python -m bench.bench_check CORPUS.img``.

Goals: no more time than ``btrfs check`` in its original mode, a thirtieth of its lowmem mode's, and no more memory.
BTRIMG_PROGS names a directory with another btrfs-progs than the one on the PATH.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from . import peers

_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_anonymous(command: list[str]) -> int:
    """Return the most anonymous memory that *command* had when it was looked at, every 5 ms, in KiB."""
    most = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as status:
                found = [line.split()[1] for line in status if line.startswith("RssAnon")]
            most = max(most, *map(int, found), 0)
            time.sleep(0.005)
    return most


def main(image: str) -> None:
    """Print ratios; *image* holds corpus M."""
    btrfs = os.path.join(os.environ.get("BTRIMG_PROGS", ""), "btrfs")
    ours = [peers.PROGRAM, "check", image]
    theirs = [btrfs, "check", "--readonly", image]
    lowmem = [btrfs, "check", "--readonly", "--mode", "lowmem", image]  # options behind the image are none
    peers.compare("check", ours, "btrfs check", theirs, rounds=7, warm=image)
    peers.compare("check", ours, "btrfs check --mode lowmem", lowmem, rounds=1, warm=image)
    resident = subprocess.run([sys.executable, "-c", _MEASURE, *theirs], check=True, capture_output=True, text=True)
    print(f"check: RssAnon {peak_anonymous(ours) >> 10} MiB at most; btrfs check: RSS {int(resident.stdout) >> 10} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])

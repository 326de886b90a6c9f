"""Race the checker: ``PYTHONPATH=tests python -m bench.bench_check CORPUS.img``.

Goals: no more time than ``btrfs check`` in its original mode, a thirtieth of its lowmem mode's, and no more memory.
BTRIMG_PROGS names a directory with another btrfs-progs than the one on the PATH.
"""

from __future__ import annotations

import os
import subprocess
import sys

from . import peers

_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
_ANONYMOUS = """
import sys
from btrimg.cli.main import run
code = run(sys.argv[1:])
with open("/proc/self/status") as status:
    found = dict(line.split(":") for line in status)
print(code, found["RssAnon"].split()[0], file=sys.stderr)
"""


def main(image: str) -> None:
    """Print ratios; *image* holds corpus M."""
    btrfs = os.path.join(os.environ.get("BTRIMG_PROGS", ""), "btrfs")
    ours = [sys.executable, "-m", "btrimg", "check", image]
    theirs = [btrfs, "check", "--readonly", image]
    peers.compare("check", ours, "btrfs check", theirs, rounds=7)
    peers.compare("check", ours, "btrfs check --mode lowmem", [*theirs, "--mode", "lowmem"], rounds=1)
    resident = subprocess.run([sys.executable, "-c", _MEASURE, *theirs], check=True, capture_output=True, text=True)
    said = subprocess.run([sys.executable, "-c", _ANONYMOUS, *ours[3:]], check=True, capture_output=True, text=True)
    anonymous = int(said.stderr.split()[-1])
    print(f"check: RssAnon {anonymous >> 10} MiB at its end; btrfs check: RSS {int(resident.stdout) >> 10} MiB at most")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Race the listing of all extents of an image: ``PYTHONPATH=tests python -m bench.bench_extents CORPUS.img``.

Goals: all columns in a fifth of the time of a FIEMAP loop over the warm mount and in a third of ``dump-tree``'s, JSONL
in no more than ``dump-tree``'s, anonymous memory up to 400 MB.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile

from . import peers

COLUMNS = """
import sys, btrimg
with btrimg.open(sys.argv[1]) as fs:
    columns = fs.extents()
    assert columns.paths.rows and columns.physical.shape[1] == columns.rows > 0
    print(columns.rows, open("/proc/self/status").read())
"""


def main(image: str) -> None:
    """Print ratios; *image* holds corpus M."""
    columns = [sys.executable, "-c", COLUMNS, image]
    lines = [peers.PROGRAM, "extents", image, "--json"]
    dump = peers.dump_tree(image)
    with tempfile.TemporaryDirectory() as directory, peers.mounted(image) as top:
        peers.compare(
            "extents(), all columns",
            columns,
            "a FIEMAP loop",
            [peers.fiemap_loop(directory), top],
            rounds=5,
            warm=image,
        )
    peers.compare("extents(), all columns", columns, "dump-tree", dump, rounds=5, warm=image)
    peers.compare("extents --json", lines, "dump-tree", dump, rounds=5, warm=image)
    said = subprocess.run(columns, check=True, capture_output=True, text=True).stdout
    anonymous = re.search(r"RssAnon:\s+(\d+) kB", said)
    peak = re.search(r"VmHWM:\s+(\d+) kB", said)
    if anonymous and peak:
        print(
            f"extents(): {said.split()[0]} rows, RssAnon {int(anonymous[1]) >> 10} MiB, VmHWM {int(peak[1]) >> 10} MiB"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

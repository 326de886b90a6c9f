"""Race all tables of an image: ``PYTHONPATH=tests python -m bench.bench_tables CORPUS.img [LARGER.img...]``.

Goals: all columns of corpus M in memory within 1 s of the start of the process; time and memory in proportion to the
metadata, which a line for each image shows; with ``--memory`` little memory whatever the image.
"""

from __future__ import annotations

import subprocess
import sys

from . import peers

# The columns as they are kept in memory, and then every row of them as DuckDB is given it.
COLUMNS = """
import os, resource, sys, time
import btrimg
from btrimg.tables.batched import relations
from btrimg.tables.schema import RELATIONS
from btrimg.tables.spill import Spill

with btrimg.open(sys.argv[1]) as fs:
    kept = list(relations(fs, list(RELATIONS), Spill(int(sys.argv[2]))))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    first = (batch[0] for each in kept for batch in each.batches()) if sys.argv[3:] else ()
    rows = sum(values.rows if hasattr(values, "rows") else len(values) for values in first)
    with open("/proc/self/status") as status:
        found = dict(line.split(":") for line in status)
    seconds = usage.ru_utime + usage.ru_stime
    print(fs.blocks.blocks_read * fs.volume.nodesize, seconds, found["RssAnon"].split()[0], rows)
"""
IN_MEMORY, IN_FILES = str(1 << 40), str(32 << 20)  # bytes of columns in memory


def main(image: str, *larger: str) -> None:
    """Print the ratio for *image*, which holds corpus M, and what each image takes."""
    columns = [sys.executable, "-c", COLUMNS, image, IN_MEMORY]
    peers.compare("all columns", columns, "dump-tree", peers.dump_tree(image), rounds=5, warm=image)
    query = [peers.PROGRAM, "sql", image, "select source, count(*) from names group by all"]
    peers.compare("sql", query, "dump-tree", peers.dump_tree(image), rounds=5, warm=image)
    for each in (image, *larger):
        for place, budget in (("memory", IN_MEMORY), ("files", IN_FILES)):
            command = [sys.executable, "-c", COLUMNS, each, budget, "rows"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            metadata, seconds, anonymous, rows = int(said[0]), float(said[1]), int(said[2]), int(said[3])
            print(
                f"{each}, columns in {place}: {metadata >> 20} MiB of metadata, {rows} rows, processor {seconds:.2f} s"
                f" ({seconds * 1000 / (metadata >> 20):.1f} ms/MiB), RssAnon {anonymous >> 10} MiB"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])

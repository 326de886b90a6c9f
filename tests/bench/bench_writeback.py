"""What becomes of dirty pages after writeback, over time: ``PYTHONPATH=tests python -m bench.bench_writeback``.

A filesystem of 16 files of 1 MiB lives through cycles of write, writeback, reflink, snapshot and read, as a host of
containers does; once each with pages that are kept by the inode, dropped, and moved to the key of their new extent.
Printed are counts of pages, not times: they are the same on every machine.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from support.fresh import make_empty, writable

from btrimg.pagecache.aftermath import AFTER
from btrimg.pagecache.pages import PAGE
from btrimg.units import MIB

if TYPE_CHECKING:
    from btrimg.pagecache.writable import WritableCache
    from btrimg.pagecache.writablefile import WritableFile

FILES, PAGES = 16, MIB // PAGE
CYCLES = 12
_ALIVE = 3  # snapshots whose files are read in each cycle


class Cycle(NamedTuple):
    """Where a cache stands after a cycle; pages."""

    number: int
    resident: int
    duplicates: int
    hits: int  #: of this cycle's reads
    misses: int


def live(cache: WritableCache, cycles: int = CYCLES) -> list[Cycle]:
    """Let files be written, shared and read, and return how the cache fares."""
    chance = random.Random("keep, drop or move")
    names = [b"/%d" % number for number in range(FILES)]
    files = {name: cache.create(name) for name in names}
    for file in files.values():
        file.write(0, chance.randbytes(MIB))
    cache.writeback()
    found, store = [], cache.store
    for number in range(cycles):
        for name in chance.sample(names, FILES // 4):
            files[name].write(chance.randrange(PAGES * 3 // 4) * PAGE, chance.randbytes(PAGES // 4 * PAGE))
        cache.writeback()
        clone = b"/clone-%d" % number
        files[clone] = cache.create(clone)
        cache.reflink(files[chance.choice(names)], files[clone])
        cache.snapshot(b"/", b"/snapshot-%d" % number)
        hits, misses = store.hits, store.misses
        for file in (*files.values(), *_in_snapshots(cache, list(files), number)):
            assert len(file.read(0, MIB)) == MIB
        found.append(Cycle(number + 1, cache.resident, cache.duplicates(), store.hits - hits, store.misses - misses))
    return found


def _in_snapshots(cache: WritableCache, names: list[bytes], last: int) -> list[WritableFile]:
    """Open the files of the latest snapshots."""
    there = [(number, names[: FILES + number + 1]) for number in range(max(last + 1 - _ALIVE, 0), last + 1)]
    return [cache.open(b"/snapshot-%d%b" % (number, name)) for number, inside in there for name in inside]


def main(budget: str = "256,24") -> None:
    """Print a table for each budget in MiB."""
    for size in map(int, budget.split(",")):
        print(f"budget {size} MiB: resident, duplicates (MiB), hits (of the pages read) after each cycle")
        for scheme, after in (("inode", "keep"), *(("extent", after) for after in AFTER)):
            with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
                path = os.path.join(directory, "image")
                make_empty(path, 1024 * MIB)
                opened = writable(path, budget=size * MIB, scheme=scheme, policy="lru", after=after)
                with stack.enter_context(opened) as cache:
                    cycles = live(cache)
                    written = cache.written
            print(f"  {scheme}, {after}: {written.pages * PAGE / MIB:.0f} MiB in {written.commits} commits")
            for each in cycles:
                share = each.hits / (each.hits + each.misses)
                print(
                    f"    {each.number:2}  {each.resident * PAGE / MIB:6.1f}  {each.duplicates * PAGE / MIB:5.1f}"
                    f"  {share:6.1%}  {each.misses * PAGE / MIB:6.1f} MiB read"
                )


if __name__ == "__main__":
    main(*sys.argv[1:])

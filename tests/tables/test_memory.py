"""What the C library does with freed memory: it keeps what batches use again, and gives back large blocks."""

from __future__ import annotations

import subprocess
import sys

import pytest

_MEASURE = """
import re
from resource import RUSAGE_SELF, getrusage
import numpy as np
from btrimg.tables.memory import keep_for_batches

def resident():
    with open("/proc/self/status") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+)", file.read())[1])

{call}
sizes = [256 << 10, 1 << 20, 3 << 20] * 3  # bytes
blocks = [np.ones(size, np.uint8) for size in sizes]
del blocks
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(10):
    blocks = [np.ones(size, np.uint8) for size in sizes]
    del blocks
faults = getrusage(RUSAGE_SELF).ru_minflt - before
before = resident()
large = [np.ones(6 << 20, np.uint8) for _ in range(4)]
above = np.ones(1 << 20, np.uint8)
del large
print(faults, resident() - before)
"""


@pytest.mark.parametrize(
    ("call", "faults"), [("", range(10_000, 40_000)), ("keep_for_batches()", range(1_000))], ids=["glibc", "ours"]
)
def test_what_batches_need_is_kept_and_large_blocks_are_not(call: str, faults: range) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(call=call)], check=True, capture_output=True, text=True
    )
    found, kept = map(int, done.stdout.split())
    assert found in faults
    if call:
        assert kept < 4 << 10  # KiB; of 24 MiB

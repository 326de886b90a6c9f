"""Blocks that were freed are given back, whatever lies behind them."""

from __future__ import annotations

import subprocess
import sys

import pytest

_MEASURE = """
import re
import numpy as np
from btrimg.tables.memory import keep_no_large_blocks

def resident():
    with open("/proc/self/status") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+)", file.read())[1])

{call}
del (large := [np.ones(24 << 20, np.uint8)])[:]  # from now on glibc would keep what is smaller
before = resident()
blocks = [np.ones(1 << 20, np.uint8) for _ in range(64)]
del blocks[:-1]  # the last one is behind all others
print(resident() - before)
"""


@pytest.mark.parametrize(
    ("call", "kept"), [("", range(60 << 10, 80 << 10)), ("keep_no_large_blocks()", range(8 << 10))]
)
def test_large_blocks_are_given_back_at_once(call: str, kept: range) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(call=call)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) in kept

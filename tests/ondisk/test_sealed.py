"""The checksums of many tree blocks at once, against that of each."""

from __future__ import annotations

import random

import numpy as np
import pytest

from btrimg.ondisk.csum import crc32c
from btrimg.ondisk.sealed import all_sealed


@pytest.mark.parametrize("length", [4096, 16384])
def test_blocks_are_sealed_together_as_one_by_one(length: int) -> None:
    some = random.Random(length)
    bodies = [some.randbytes(length - 32) for _ in range(5)]
    sealed = b"".join(crc32c(body).to_bytes(4, "little").ljust(32, b"\0") + body for body in bodies)
    assert all_sealed(np.frombuffer(sealed, np.uint8).reshape(5, length))
    for place in (0, 3, 4, 31, 32, length - 1, length, 2 * length + 40, 5 * length - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1 << place % 8
        assert not all_sealed(np.frombuffer(changed, np.uint8).reshape(5, length))

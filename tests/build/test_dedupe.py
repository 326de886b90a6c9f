"""``--dedupe``: what is equal is stored once, whoever judges the image, and every file is what it was."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.judges import complaints
from support.program import btrimg

from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.progs, pytest.mark.kernel]

BLOCK = 4096


def sources(directory: str) -> dict[bytes, bytes]:
    """Write files that are equal, moved by sectors, mixed of each other, and different in one byte; give them."""
    os.mkdir(directory)
    rng = random.Random(7)
    base, other = rng.randbytes(300 * BLOCK + 77), rng.randbytes(100 * BLOCK)
    text = b"the same words again and again, but never the same number %d\n"
    words = b"".join(text % number for number in range(9000))
    files = {
        b"a-base": base,
        b"b-again": base,
        b"c-moved": other[:BLOCK] + base,
        b"d-mixed": base[50 * BLOCK : 90 * BLOCK] + other + base[:BLOCK] + base[-77:],
        b"e-changed": base[:500_000] + b"!" + base[500_001:],
        b"f-other": other,
        b"g-zeros": bytes(2_000_000),
        b"h-words": words,
        b"i-words-again": words,
        b"j-small": base[:3000],
        b"k-small-again": base[:3000],
    }
    for name, data in files.items():
        with open(os.path.join(os.fsencode(directory), name), "wb") as file:
            file.write(data)
    return files


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_equal_blocks_are_shared(tmp_path: Path, compress: str) -> None:
    directory, image = str(tmp_path / "tree"), str(tmp_path / "made.img")
    files = sources(directory)
    done = btrimg("build", "--from-dir", directory, "--dedupe", "--compress", compress, "-o", image)
    assert done.returncode == 0, done.stderr
    assert complaints([image]) == []
    if compress == "none":
        words = -(-len(files[b"h-words"]) // BLOCK)
        # of base, of other, the changed one, a window of zeros, of the words, the small one
        assert allocated(image) == BLOCK * (301 + 100 + 1 + 16 + words + 1)
    with kernel.mount([image], read_only=True) as top:
        where = {}
        for name, data in files.items():
            path = os.path.join(os.fsencode(top), name)
            with open(path, "rb") as file:
                assert file.read() == data
            where[name[:1]] = [(row.logical, row.length) for row in kernel.fiemap(path)]
            shared = [bool(row.flags & kernel.FIEMAP_SHARED) for row in kernel.fiemap(path)]
            # The end of the zeros is no whole chunk, as the rest is.
            assert all(shared) == (name[:1] not in (b"e" if compress == "none" else b"eg"))
    assert where[b"a"] == where[b"b"]
    assert where[b"c"][1:] == where[b"a"]
    assert where[b"h"] == where[b"i"]
    assert where[b"j"] == where[b"k"]


def allocated(image: str) -> int:
    """Return the bytes of all data extents of an image."""
    with open_image([image]) as opened:
        columns = opened.extents()
        return sum(dict(zip(columns.extent_logical.tolist(), columns.extent_length.tolist(), strict=True)).values())

"""How much is read for one answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.images import mkfs, new_devices

from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

TIB = 1 << 40


def test_a_cold_resolve_reads_few_blocks_of_a_large_filesystem(tmp_path: Path) -> None:
    """More than 2,000 chunks fill more than 50 leaves of the chunk tree; the file has an extent in the last chunk."""
    images = new_devices(str(tmp_path), 1, 4 * TIB)
    mkfs(images, metadata_profile="dup", nodesize=4096)
    with kernel.mount(images) as top:
        directory = os.path.join(top, "a", "b", "c")
        os.makedirs(directory)
        for number in range(2000):
            with open(os.path.join(directory, f"file-{number}"), "wb") as file:
                file.write(b"%d" % number * 1000)
        kernel.fallocate(os.path.join(top, "huge"), 0, 0, 2 * TIB)
        kernel.sync(top)
        with open(os.path.join(directory, "last"), "wb") as file:
            file.write(b"last" * 5000)
        kernel.sync(top)
    for path, offset in ((b"/a/b/c/last", 4096), (b"/huge", 2 * TIB - 1), (b"/a/b/c/file-999", 0)):
        with open_image(images) as image:
            answer = image.open(path).resolve(offset)
            assert image.blocks.blocks_read < 40
            assert answer.copies
    with open_image(images) as image:
        assert len(image.volume.chunk_map) > 2000
        assert image.blocks.blocks_read > 50, "the whole chunk tree is far more than one answer needs"

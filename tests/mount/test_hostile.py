"""A mount of an image with random bytes in its trees: files have errors, nothing hangs, and the server lives."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from support.mounted import PATIENCE, require_fuse, servers
from support.program import btrimg

from btrimg.filesystem.image import open_image
from btrimg.ondisk.seal import seal

ROUNDS = int(os.environ.get("BTRIMG_MUTATIONS", "100")) // 25
#: Looks at everything, as a program would, and says nothing of what it found.
WALK = """
import os, stat, sys
def look(path):
    try:
        found = os.lstat(path)
        for name in os.listxattr(path, follow_symlinks=False):
            os.getxattr(path, name, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            os.readlink(path)
        if stat.S_ISREG(found.st_mode):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.lseek(fd, 0, os.SEEK_HOLE)
                for at in (0, 1 << 20, found.st_size // 2):
                    os.pread(fd, 1 << 20, at)
            finally:
                os.close(fd)
        return stat.S_ISDIR(found.st_mode)
    except OSError:
        return False
def walk(path, depth=0):
    if look(path) and depth < 8:
        try:
            names = os.listdir(path)
        except OSError:
            return
        for name in names[:300]:
            walk(os.path.join(path, name), depth + 1)
walk(os.fsencode(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def _fuse() -> None:
    require_fuse()


def blocks_of(path: str) -> list[int]:
    """Return where the tree blocks of an image lie on its only device, both copies of each."""
    with open_image(path) as image, open(path, "rb") as device:
        fsid, nodesize = image.superblock.fsid, image.volume.nodesize
        found = []
        for chunk in image.volume.chunk_map:
            if chunk.type & 1:  # data
                continue
            for stripe in chunk.stripes:
                for at in range(stripe.offset, stripe.offset + chunk.length, nodesize):
                    device.seek(at + 32)
                    if device.read(16) == fsid:
                        found.append(at)
    return found


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_random_bytes_in_trees_are_errors(seed: int, forged: str, point: str) -> None:
    chance = random.Random(seed)
    with open_image(forged) as image, open(forged, "r+b") as device:
        for at in blocks_of(forged):
            device.seek(at)
            block = bytearray(device.read(image.volume.nodesize))
            if chance.random() < 0.2:
                for _ in range(chance.randrange(1, 4)):
                    block[chance.randrange(101, len(block))] = chance.randrange(256)
                device.seek(at)
                device.write(seal(bytes(block), image.volume.csum))
    done = btrimg("mount", forged, point)
    if done.returncode:
        assert done.stderr
        return
    subprocess.run([sys.executable, "-c", WALK, point], check=True, timeout=PATIENCE)
    assert servers(point)
    assert btrimg("umount", point).returncode == 0
    assert not servers(point)

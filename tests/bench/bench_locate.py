"""Race the way back of 100,000 random addresses: ``PYTHONPATH=tests python -m bench.bench_locate CORPUS.img``.

Goal: 20 microseconds for each, of the whole process, where the kernel's LOGICAL_INO takes 76 on the warm mount. The
kernel names inode, offset and subvolume; btrimg names paths, extents and copies, too, and verifies the copies.
"""

from __future__ import annotations

import os
import random
import shlex
import sys
import tempfile

import btrimg

from . import peers

COUNT = 100_000


def main(image: str) -> None:
    """Print ratios; *image* holds a corpus."""
    rng = random.Random(COUNT)
    with btrimg.open(image) as fs:
        data = [chunk for chunk in fs.volume.chunk_map if chunk.type & 1]
        chunks = rng.choices(data, [chunk.length for chunk in data], k=COUNT)
    logical = [chunk.logical + rng.randrange(chunk.length) for chunk in chunks]
    devices = [rng.randrange(os.path.getsize(image)) for _ in range(COUNT)]
    with tempfile.TemporaryDirectory() as directory, peers.mounted(image) as top:
        names = (os.path.join(directory, name) for name in ("logical", "devices"))
        at_logical, on_device = map(_written, names, (logical, devices))
        kernel = _fed(at_logical, peers.logical_ino_loop(directory), top)
        asked = (peers.PROGRAM, "locate", image, "--logical", "-", "--json")
        _race("locate --logical -", _fed(at_logical, *asked), kernel)
        _race("locate --logical -, unverified", _fed(at_logical, *asked, "--no-verify"), kernel)
        _race("locate -, offsets of the device", _fed(on_device, peers.PROGRAM, "locate", image, "-", "--json"), kernel)


def _race(name: str, ours: list[str], kernel: list[str]) -> None:
    found = peers.compare(name, ours, "LOGICAL_INO", kernel, rounds=5)
    print(f"{name}: {found.ours / COUNT * 1e6:.1f} us for each address, the kernel {found.peer / COUNT * 1e6:.1f} us")


def _written(path: str, addresses: list[int]) -> str:
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{address}\n" for address in addresses)
    return path


def _fed(addresses: str, *command: str) -> list[str]:
    """Return a command that runs *command* with a file as its standard input."""
    return ["sh", "-c", f"exec <{shlex.quote(addresses)} {shlex.join(command)}"]


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Race the bytes of a file of 1 GiB: ``PYTHONPATH=tests python -m bench.bench_cat``.

Goal: no more than twice the time of ``cat`` on the warm kernel mount, with every checksum verified.
"""

from __future__ import annotations

import os
import random
import tempfile

from support import images, kernel

from . import peers

GIB = 1 << 30


def main() -> None:
    """Print the ratio for every checksum that mkfs offers."""
    for csum in ("crc32c", "xxhash", "sha256", "blake2"):
        with tempfile.TemporaryDirectory() as directory:
            devices = images.new_devices(directory, 1, 3 * GIB)
            images.mkfs(devices, "single", "dup", options=["--csum", csum])
            with kernel.mount(devices) as top:
                piece = random.Random(csum).randbytes(64 << 20)
                with open(os.path.join(top, "file"), "wb") as file:
                    for _ in range(GIB // len(piece)):
                        file.write(piece)
                kernel.sync(top)
                ours, peer = [peers.PROGRAM, "cat", f"{devices[0]}:/file"], ["cat", os.path.join(top, "file")]
                peers.compare(f"cat of 1 GiB, {csum}", ours, "cat on the mount", peer, rounds=5)


if __name__ == "__main__":
    main()

"""The peer of resolve: dissect_extents.py IMAGE PATH opens the image and lists the extents of one file."""

from __future__ import annotations

import sys
from importlib import import_module


def main(image: str, path: str) -> None:
    """Print how many extents dissect.btrfs finds for *path*."""
    btrfs = import_module("dissect.btrfs")
    with open(image, "rb") as file:
        print(len(btrfs.Btrfs(file).get(path).extents()))


if __name__ == "__main__":
    main(*sys.argv[1:])

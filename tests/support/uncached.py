"""Files of which the kernel's page cache holds nothing."""

from __future__ import annotations

import os

from btrimg.pagecache import residency


def written_back(path: str) -> None:
    """Have a file written to its disk, and the page cache forget it."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    residency.drop(path)

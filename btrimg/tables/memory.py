"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc


def give_back() -> None:
    """Give freed memory back where the C library would keep it for later.

    glibc keeps what lies below something that is still used; ``malloc_trim`` gives back the pages in between. A scan of
    many leaves ends with a third of its memory free in that way. Elsewhere nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def keep_no_large_blocks() -> None:
    """Have the C library give back every block of half a MiB or more as soon as it is freed; for the whole process.

    glibc does so at first, but each larger block that is freed raises that size, up to 32 MiB, and columns come to lie
    among what is kept. On an image of 540,000 files ``check`` holds 176 MiB at its peak, not 195, in the same time; a
    lower size takes a third more of system time for 4 MiB less. Elsewhere nothing is done.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option:
        option(_M_MMAP_THRESHOLD, 1 << 19)

"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give freed memory back where the C library would keep it for later.

    glibc keeps what lies below something that is still used; ``malloc_trim`` gives back the pages in between. A scan of
    many leaves ends with a third of its memory free in that way. Elsewhere nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)

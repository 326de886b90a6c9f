"""How much memory the control groups of this process leave to it."""

from __future__ import annotations

import os
from contextlib import suppress

from btrimg.units import MIB

_USUAL = 256 * MIB  #: bytes of a cache that nobody has given a size
_GROUPS = "/sys/fs/cgroup"


def usual_cache_size() -> int:
    """Return the bytes of a cache that nobody has given a size: no more than half of what the control groups allow."""
    limit = memory_limit()
    return _USUAL if limit is None else min(_USUAL, limit // 2)


def memory_limit(memberships: str = "/proc/self/cgroup", groups: str = _GROUPS) -> int | None:
    """Return the bytes of memory that the control groups of this process allow it, the least of all; None if any.

    *memberships* is a file of the form of /proc/self/cgroup, *groups* where the hierarchies are mounted. A group that
    is not seen there, as the namespace of a container hides it, does not count.
    """
    found = []
    with suppress(OSError), open(memberships, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if not controllers:  # version 2, alone or beside version 1
                tops, name = [groups, f"{groups}/unified"], "memory.max"
            elif "memory" in controllers.split(","):
                tops, name = [f"{groups}/memory"], "memory.limit_in_bytes"
            else:
                continue
            for top in tops:
                found += _limits(top, path.strip("/"), name)
    return min(found, default=None)


def _limits(top: str, path: str, name: str) -> list[int]:
    """Return the limits of the group *path* and of all that it is in."""
    found = []
    while True:
        with suppress(OSError), open(os.path.join(top, path, name), encoding="ascii") as file:
            text = file.read().strip()
            if text != "max":
                found.append(int(text))
        if not path:
            return found
        path = os.path.dirname(path)

"""Files and directories of the host, each on its way to a path, as entries of the directory that they go to."""

from __future__ import annotations

import os

from btrimg.build.directory import Selection, read_anything

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from btrimg.build.entries import Entry
    from btrimg.build.values import Put
    from btrimg.ondisk.inodes import Timespec

MANY = 64  #: puts for which it pays to read ahead in a process of its own


def read_puts(
    puts: Sequence[Put],
    directory: bytes,
    sectorsize: int,
    selection: Selection,
    now: Timespec,
    warn: Callable[[str], None] = lambda _text: None,
) -> Iterator[Entry]:
    """Yield the entries of *puts*, with paths from the directory that they go to.

    Paths of the host go from *directory*. As cp -a cannot keep the times of change and of creation, they are *now*.
    """
    for put in puts:
        name = put.path.rpartition(b"/")[2]
        chosen = selection if put.owner is None else selection._replace(owner=put.owner)
        for entry in read_anything(os.path.join(directory, put.host), sectorsize, chosen, warn):
            path, times, same_as = entry.path, entry.times, entry.same_as
            yield entry._replace(
                path=name + b"/" + path if path else name,
                times=(*times[:2], *now, *times[4:6], *now),
                same_as=None if same_as is None else name + b"/" + same_as,
            )

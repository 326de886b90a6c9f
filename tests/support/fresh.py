"""Filesystems made for a test: empty ones, and openings of them for writing."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from btrimg.filesystem.image import open_image
from btrimg.ondisk.inodes import Timespec
from btrimg.pagecache.writable import WritableCache
from btrimg.pagecache.writeback import Committer
from btrimg.volume.fresh import fresh_devices
from btrimg.volume.sink import DeviceSink
from btrimg.write.mkfs import make_filesystem
from btrimg.write.options import new_options
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SECONDS = 1_800_000_000  # since 1970, of the first commit


def make_empty(path: str, size: int, **choices: Any) -> None:
    """Make an empty filesystem of *size* bytes, with the *choices* of ``new_options``."""
    make_empty_on([path], size, **choices)


def make_empty_on(paths: Sequence[str], size: int, **choices: Any) -> None:
    """Make an empty filesystem on several devices of *size* bytes, with the *choices* of ``new_options``."""
    uuids, sizes = seeded(b"empty"), [size] * len(paths)
    options = new_options(sizes, uuids, **choices)
    with fresh_devices(paths, sizes) as fresh:
        made = make_filesystem(
            options, fresh.devices, fresh.sink, now=Timespec(SECONDS, 0), uuids=uuids, warn=no_warning
        )
        with made as txn:
            txn.commit()


@contextmanager
def writing(path: str, **how: Any) -> Iterator[Committer]:
    """Open an image for writing, with what a Committer takes."""
    with ExitStack() as stack:
        image = stack.enter_context(open_image(path, warn=no_warning))
        sink = stack.enter_context(DeviceSink(image.volume.devices, durable=False))
        yield stack.enter_context(closing(Committer(image, sink, clock=clock(), uuids=seeded(b"writing"), **how)))


@contextmanager
def writable(path: str, *, budget: int, scheme: str, policy: str, after: str, **how: Any) -> Iterator[WritableCache]:
    """Open a cache of an image that is written to; *how* is as for a Committer. The caller closes the cache."""
    with writing(path, **how) as committer:
        yield WritableCache(committer, after=after, budget=budget, scheme=scheme, policy=policy)


def clock() -> Callable[[], Timespec]:
    """Return a clock that goes on by a second whenever it is looked at."""
    seconds = count(SECONDS + 1)
    return lambda: Timespec(next(seconds), 0)


def no_warning(message: str) -> None:
    """Hear no warning."""
    raise AssertionError(message)

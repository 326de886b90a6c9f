"""A transaction that begins from a superblock with other fields than the one on the devices."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.record import Value


@contextmanager
def assuming(image: Image, **fields: Value) -> Iterator[None]:
    """Let *image* have other *fields* in its superblock within the ``with`` block, in which a transaction is committed.

    The engine then works as they say, and the commit writes them. When the block fails, all is as on the devices again.
    """
    image.volume.superblock = image.superblock.replace(**fields)
    try:
        yield
    except BaseException:
        image.follow(image.superblock)
        raise

"""Rewrite tree blocks and superblocks of an image in place, by functions; :mod:`btrimg.corrupt` does it by words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from btrimg.corrupt import leaf
from btrimg.corrupt.engine import Corruptor
from btrimg.corrupt.words import Marks
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import KEY_MIN, Key
from btrimg.ondisk.superblock import Superblock
from btrimg.volume.draft import write_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from btrimg.filesystem.image import Image

    Items = MutableMapping[Key, bytes]


def corrupt(path: str, *edits: str) -> None:
    """Apply edits, as ``btrimg corrupt`` takes them, to an image of one device."""
    with _editing(path) as corruptor:
        corruptor.apply(edits)


@contextmanager
def _editing(path: str) -> Iterator[Corruptor]:
    with open_image(path, replay_log=None, warn=_ignore) as image:
        corruptor = Corruptor(image)
        yield corruptor
        write_pieces(dict.fromkeys(image.volume.devices, path), corruptor.pieces())


def edit_leaf(path: str, tree_id: int, change: Callable[[Items], None], at: Key = KEY_MIN) -> None:
    """Let *change* edit the items of the leaf of a tree in which *at* is, or would be: the first one by default."""

    def changed(data: bytes) -> bytes:
        items: Items = dict(leaf.entries_of(data))
        change(items)
        return pack_leaf(data, items)

    with _editing(path) as corruptor:
        descent = corruptor.finder.descent
        corruptor.change_block(descent.way_to(descent.root_of(tree_id), at).logical, changed, Marks())


def pack_leaf(data: bytes, items: Items) -> bytes:
    """Return the leaf *data* with other *items*."""
    return leaf.pack_leaf(data, [leaf.Entry(key, payload) for key, payload in sorted(items.items())])


def write_block(image: Image, path: str, logical: int, data: bytes) -> None:
    """Write a tree block, with its checksum, over every copy."""
    corruptor = Corruptor(image)
    corruptor.change_block(logical, lambda _: data, Marks())
    write_pieces(dict.fromkeys(image.volume.devices, path), corruptor.pieces())


def edit_superblock(path: str, change: Callable[[Superblock], Superblock]) -> None:
    """Let *change* make another superblock of each copy."""
    with _editing(path) as corruptor:
        corruptor.change_superblocks(lambda data: change(Superblock.unpack(data)).pack(), Marks())


def _ignore(_message: str) -> None:
    pass

"""The log tree replayed as an overlay, against the kernel's own replay.

A crash image is a copy of the image file of a mounted filesystem, taken after an fsync(). The kernel mounts one copy
of it, which replays the log, and one with ``rescue=nologreplay``. What it shows of both, and every item that its replay
leaves in the subvolumes, must be what we show of the crash image itself.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import images, kernel
from support.churn import Churn
from support.truth import record

from btrimg.errors import BtrimgError
from btrimg.filesystem import logtree
from btrimg.filesystem.image import open_image
from btrimg.filesystem.walk import walk as walk_files
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.inodes import InodeItem
from btrimg.ondisk.items import parse
from btrimg.trees.salvage import walk
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.powerloss import CutImage
    from support.truth import Entry, Truth

    from btrimg.filesystem.image import Image, Subvolume
    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.inodes import Timespec

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

ROUNDS = 5  # crashes of one filesystem
SEEDS = range(int(os.environ.get("BTRIMG_CHURN_SEEDS", "6")))


class Crash(NamedTuple):
    """A crash image, what the kernel says of it without and with replay, and the image with the kernel's replay."""

    device: str
    committed: Truth
    replayed: Truth
    taken: int  # when, in ns since 1970: times that replay made are later
    after: str


def judge(device: str, taken: int) -> Crash:
    directory = os.path.dirname(device)
    with kernel.mount([device], read_only=True, options=["rescue=nologreplay"]) as top:
        committed = record(top)
    (after,) = images.copy_sparse([device], os.path.join(directory, "after"))
    with kernel.mount([after]) as top:
        return Crash(device, committed, record(top), taken, after)


def crashes(directory: str, seed: int) -> Iterator[Crash]:
    """Yield the crashes of one filesystem, with small nodes, or without the feature NO_HOLES, for some seeds."""
    (live,) = images.new_devices(directory, 1, 256 * images.MIB)
    nodesize = (4096, 16384, 4096, 65536)[seed % 4]
    images.mkfs([live], nodesize=nodesize, options=["-O", "^no-holes"] if seed % 3 == 2 else [])
    taken: list[tuple[str, int]] = []
    with kernel.mount([live]) as top:
        churn = Churn(top, seed)
        for number in range(ROUNDS):
            churn.grow(60)
            churn.crash(12 + 10 * number)
            moment = time.time_ns()
            taken += [(device, moment) for device in images.copy_sparse([live], os.path.join(directory, str(number)))]
    for device, moment in taken:  # afterwards: they have the fsid of the live one
        yield judge(device, moment)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_changes_are_replayed_as_the_kernel_does(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    directory = str(tmp_path_factory.mktemp("churn"))
    logs = 0
    for found in crashes(directory, seed):
        with open_image([found.device], replay_log=True, warn=_fail) as image:
            logs += image.superblock.log_root != 0
            check_files(image, found.replayed, found.taken)
            check_items(image, found)
        with open_image([found.device], warn=lambda _: None) as image:
            check_files(image, found.committed)
    assert logs >= 2, "not every change forces a full commit"


def _fail(message: str) -> None:
    raise AssertionError(message)


# Files


def check_files(image: Image, truth: Truth, taken: int | None = None) -> None:
    """Compare all that can be seen of every file; times that replay made are not known before *taken*."""
    for path, entry in truth.entries.items():
        inode = image.open(path, follow=False)
        _check_inode(inode, entry, taken)
        if entry.names is not None:
            assert [found.name for found, _ in inode.entries()] == list(entry.names), path
        if entry.target is not None:
            assert inode.target() == entry.target
        if entry.content is not None:
            assert inode.read(0, len(entry.content) + 1) == entry.content, path


def _check_inode(inode: Inode, entry: Entry, taken: int | None) -> None:
    item, found = inode.item, entry.stat
    assert (inode.subvolume.id, inode.ino) == (entry.subvolume, found.ino), entry.path
    assert (item.mode, item.uid, item.gid) == (found.mode, found.uid, found.gid), entry.path
    assert (item.nlink, item.size) == (found.nlink, found.size), entry.path
    assert inode.xattrs() == entry.xattrs, entry.path
    assert (_ns(item.atime), _ns(item.otime)) == (found.atime, found.btime)
    for ours, theirs in ((item.mtime, found.mtime), (item.ctime, found.ctime)):
        assert _ns(ours) == theirs or (taken and theirs > taken), entry.path


def _ns(moment: Timespec) -> int:
    return moment.sec * 10**9 + moment.nsec


# Items


def check_items(image: Image, found: Crash) -> None:
    """Compare every item of every subvolume with what the kernel's replay wrote; orphans, it has deleted since."""
    with open_image([found.after], warn=_fail) as after:
        for subvolume in after.subvolumes():
            ours, theirs = items_without_orphans(image.subvolume(subvolume.id)), dict(subvolume.tree.items())
            for key in ours.keys() & theirs.keys():
                if key.type == ItemType.INODE_ITEM:
                    ours[key] = _as_then(ours[key], theirs[key], found.taken)
            differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
            assert _parsed(ours, differing) == _parsed(theirs, differing), f"subvolume {subvolume.id}"


def _parsed(items: dict[Key, bytes], keys: list[Key]) -> dict[Key, object]:
    return {key: parse(key.type, items[key]) for key in keys if key in items}


def items_without_orphans(subvolume: Subvolume) -> dict[Key, bytes]:
    items = dict(subvolume.tree.items())
    orphans = {key.offset for key in items if (key.objectid, key.type) == (TreeId.ORPHAN, ItemType.ORPHAN_ITEM)}
    return {key: payload for key, payload in items.items() if key.objectid not in orphans | {TreeId.ORPHAN}}


def _as_then(ours: bytes, theirs: bytes, taken: int) -> bytes:
    """Return our inode item with what only the replay itself could know."""
    then = InodeItem.unpack(theirs)
    item = InodeItem.unpack(ours).replace(transid=then.transid, sequence=then.sequence)
    times = {name: getattr(then, name) for name in ("mtime", "ctime") if _ns(getattr(then, name)) > taken}
    return item.replace(**times).pack()


# One scenario that has everything, on several devices


@pytest.mark.parametrize("options", [{}, {"profile": "raid1", "nodesize": 4096}, {"profile": "raid6"}], ids=str)
def test_what_was_fsynced_is_shown_and_what_was_not_is_not(
    cut_image: Callable[..., CutImage], options: dict[str, Any]
) -> None:
    cut = cut_image(**options)
    assert cut.committed.entries.keys() != cut.replayed.entries.keys()
    with open_image(cut.devices, replay_log=True, warn=_fail) as image:
        check_files(image, cut.replayed, taken=1)
    warnings: list[str] = []
    with open_image(cut.devices, warn=warnings.append) as image:
        check_files(image, cut.committed)
    assert any("log tree" in text for text in warnings)


# Damaged logs; none of these images is ever mounted


def log_blocks(image: Image) -> list[int]:
    """Return the physical addresses of all blocks of log trees, on the only device."""
    logs = [image.tree(TreeId.TREE_LOG).root, *(log.root for _, log in logtree.logs_of(image))]
    blocks = [at for root in logs for at, _ in walk(image.blocks, root)]
    return [image.volume.chunk_map.locate(at.logical).copies[0].physical for at in blocks]


def test_a_log_that_cannot_be_read_leaves_the_last_commit(cut_image: Callable[..., CutImage], tmp_path: Path) -> None:
    cut = cut_image()
    with open_image(cut.devices, warn=lambda _: None) as image:
        physical = log_blocks(image)
    assert len(physical) >= 3
    for block in physical:
        (damaged,) = images.copy_sparse(cut.devices, str(tmp_path))
        with open(damaged, "r+b") as file:
            file.seek(block + 1000)
            file.write(b"garbage")
        warnings: list[str] = []
        with open_image([damaged], replay_log=True, warn=warnings.append) as image:
            check_files(image, cut.committed)
        assert any("cannot be replayed" in text and "last commit" in text for text in warnings)


def test_a_log_that_lies_is_refused_or_replayed(cut_image: Callable[..., CutImage], tmp_path: Path) -> None:
    """Change bytes of log trees and make the checksums right again: all that may come is a BtrimgError."""
    cut = cut_image()
    (lying,) = images.copy_sparse(cut.devices, str(tmp_path))
    rng = random.Random("lie")
    with open_image(cut.devices, warn=lambda _: None) as image:
        physical, csum, nodesize = log_blocks(image), image.volume.csum, image.volume.nodesize
    refused = 0
    for _ in range(300):
        at = rng.choice(physical)
        with open(lying, "r+b") as file:
            file.seek(at)
            honest = file.read(nodesize)
            block = bytearray(honest)
            for _ in range(rng.randrange(1, 4)):
                block[_a_used_byte(rng, honest)] = rng.choice((0, 1, 255, rng.randrange(256)))
            block[: csum.size] = csum.digest(block[32:])
            file.seek(at)
            file.write(block)
        warnings: list[str] = []
        with open_image([lying], replay_log=True, warn=warnings.append) as image:
            for inode in walk_files(image.open(b"/")):
                with suppress(BtrimgError):
                    inode.xattrs(), inode.links(), inode.read(0, MIB)
        refused += any("cannot be replayed" in text for text in warnings)
        with open(lying, "r+b") as file:
            file.seek(at)
            file.write(honest)
    assert 0 < refused < 300


def _a_used_byte(rng: random.Random, block: bytes) -> int:
    """Return the offset of a byte behind the header that is not free space."""
    return rng.choice([at for at in range(Header.SIZE, len(block)) if block[at]] or [Header.SIZE])

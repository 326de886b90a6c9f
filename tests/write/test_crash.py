"""Wherever a commit is cut off, the image is clean and holds the old files or the new ones, and nothing in between."""

from __future__ import annotations

import os
import random
import re
import stat
from bisect import bisect_left
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import images, kernel
from support.bases import NEW_CACHE
from support.compare import compare
from support.crash import Recorder, State, crashes
from support.judges import complaints, complaints_of_btrimg
from support.populate import Filler, nocow
from support.truth import record

from btrimg.errors import DeviceError
from btrimg.filesystem.image import open_image
from btrimg.filesystem.walk import walk
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, Compression, ItemType, TreeId
from btrimg.ondisk.csum import crc32c
from btrimg.ondisk.inodes import Timespec
from btrimg.oracle.files import inode_fields
from btrimg.volume.fresh import fresh_devices
from btrimg.volume.sink import DeviceSink
from btrimg.volume.writer import VolumeWriter
from btrimg.write import contents, inodes, names, subvolumes
from btrimg.write.begin import begin
from btrimg.write.data import DataSink
from btrimg.write.fileextents import Storage
from btrimg.write.files import Files
from btrimg.write.mkfs import make_filesystem
from btrimg.write.options import new_options
from btrimg.write.reflink import clone_range
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from support.crash import Write
    from typing_extensions import Buffer

    from btrimg.filesystem.inode import Inode
    from btrimg.volume.writer import Sink
    from btrimg.write.transaction import Transaction

MIB = 1 << 20
TOP = TreeId.FIRST_FREE
NOW = Timespec(1_700_000_000, 0)


# What is committed


class Editor:
    """Files of the top-level subvolume, changed by one transaction after the other."""

    def __init__(self, txn: Transaction, sink: DataSink) -> None:
        self.sink = sink
        self.files = Files(txn, TreeId.FS_TREE)
        self.plain = Storage(sink)

    def make(self, name: bytes, data: bytes, compression: int = Compression.NONE, files: Files | None = None) -> int:
        files = files or self.files
        ino = inodes.create(files, stat.S_IFREG | 0o644)
        names.enter(files, TOP, name, ino, inodes.file_type(stat.S_IFREG))
        contents.write(files, ino, 0, data, Storage(self.sink, compression))
        return ino


def noise(size: int, seed: object) -> bytes:
    return random.Random(repr(seed)).randbytes(size)


def add(editor: Editor) -> None:
    for number in range(12):
        editor.make(b"small%d" % number, noise(number * 700, number))
    editor.make(b"large", noise(3 * MIB + 5, "large"))
    editor.make(b"text", b"extent page cache shared " * 40000, Compression.ZSTD)


def share_and_rewrite(editor: Editor) -> None:
    files = editor.files
    large = names.find_inode(files, TOP, b"large")
    clone = editor.make(b"clone", b"")
    clone_range(files, large, 0, 0, files, clone, 0, editor.plain)
    contents.write(files, large, 70000, noise(100_000, "rewritten"), editor.plain)
    contents.truncate(files, names.find_inode(files, TOP, b"small11"), 10, editor.plain)


def snapshot_and_change(editor: Editor) -> None:
    taken = subvolumes.snapshot(editor.files, editor.files, TOP, b"snapshot")
    contents.write(editor.files, names.find_inode(editor.files, TOP, b"large"), 0, noise(5000, "after"), editor.plain)
    editor.make(b"in the snapshot", noise(9000, "snapshot"), files=taken)
    names.unlink(taken, TOP, b"clone")


def delete(editor: Editor) -> None:
    for name in (b"large", b"text", *(b"small%d" % number for number in range(0, 12, 2))):
        names.unlink(editor.files, TOP, name)
    subvolumes.delete(editor.files, TOP, b"snapshot")


def fill_what_was_freed(editor: Editor) -> None:
    for number in range(10):
        editor.make(b"again%d" % number, noise(500_000, ("again", number)))


EDITS = (add, share_and_rewrite, snapshot_and_change, delete, fill_what_was_freed)


# Images


def written_by_the_kernel(directory: str, profile: str, metadata: str) -> Sequence[str]:
    paths = images.new_devices(directory, images.DEVICES[profile], 256 * MIB)
    images.mkfs(paths, profile, metadata, 4096)
    with kernel.mount(paths, options=NEW_CACHE) as top:
        fill = Filler(top)
        nocow(fill)
        kernel.set_compression(fill.mkdir(b"compressed"), "zstd")
        for number in range(8):
            fill.write(b"plain/file-%02d" % number, fill.noise(number * 3000))
            fill.write(b"compressed/file-%02d" % number, fill.text(number * 1000))
        kernel.create_snapshot(fill.path(b""), fill.path(b"before"), read_only=True)
    return paths


def written_by_us(directory: str, profile: str, metadata: str) -> Sequence[str]:
    sizes = [128 * MIB] * images.DEVICES[profile]
    paths = [os.path.join(directory, f"dev{number}.img") for number, _ in enumerate(sizes, 1)]
    uuids = seeded(f"crash {profile}".encode())
    options = new_options(sizes, uuids, data=profile, metadata=metadata)
    with fresh_devices(paths, sizes) as fresh:
        made = make_filesystem(options, fresh.devices, fresh.sink, now=NOW, uuids=uuids, warn=pytest.fail)
        with made as txn:
            txn.commit()
    return paths


def recorded(
    paths: Sequence[str],
    edits: Sequence[Callable[[Editor], None]],
    recorder_over: Callable[[Sink], Recorder] = Recorder,
) -> list[list[Write]]:
    """Commit *edits* to an image, one by one; give what was written."""
    with open_image(paths, warn=_ignore) as image, DeviceSink(image.volume.devices, durable=False) as sink:
        recorder = recorder_over(sink)
        with begin(image, recorder, now=NOW, uuids=seeded(b"edits")) as txn, closing(DataSink(txn)) as data:
            editor = Editor(txn, data)
            for edit in edits:
                edit(editor)
                txn.commit()
    assert recorder.epochs.pop() == []
    return recorder.epochs


# Judges


class Held(NamedTuple):
    """What an image holds."""

    generation: int
    files: dict[bytes, tuple[Any, ...]]  #: by path


def held(devices: Sequence[str]) -> Held:
    said: list[str] = []
    with open_image(devices, warn=said.append) as image:
        found = Held(image.superblock.generation, dict(map(everything, walk(image.open(b"/")))))
    assert unforeseen(said) == []
    return found


def everything(inode: Inode) -> tuple[bytes, tuple[Any, ...]]:
    content = crc32c(inode.read(0, inode.item.size)) if inode.is_regular else None
    return inode.path, (inode.subvolume.id, inode_fields(inode), inode.xattrs(), content)


def used(devices: Sequence[str]) -> dict[int, list[tuple[int, int]]]:
    """Return, by devid, where all that the state of an image rests on starts and ends; but for the superblocks."""
    places: dict[int, list[tuple[int, int]]] = {}
    with open_image(devices) as image:
        for key, _payload in image.tree(TreeId.EXTENT_TREE).items():  # noqa: PERF102  # it is no dict
            lengths = {ItemType.EXTENT_ITEM: key.offset, ItemType.METADATA_ITEM: image.volume.nodesize}
            at, left = key.objectid, lengths.get(ItemType(key.type), 0)
            while left > 0:
                mapping = image.volume.chunk_map.locate(at)
                piece = min(mapping.length, left)
                for devid, physical in mapping.copies:
                    places.setdefault(devid, []).append((physical, physical + piece))
                at, left = at + piece, left - piece
    return {devid: sorted(spans) for devid, spans in places.items()}


def touches(write: Write, places: dict[int, list[tuple[int, int]]]) -> bool:
    """Say whether a write changes anything of *places*, or a superblock."""
    spans = places.get(write.devid, [])
    before = bisect_left(spans, (write.physical + len(write.data), 0))
    return write.physical in SUPERBLOCK_OFFSETS or (before > 0 and spans[before - 1][1] > write.physical)


def unforeseen(complaints: Sequence[str]) -> list[str]:
    """Leave out what must be said of an image whose superblocks, or a row of parity, are written in part."""
    foreseen = re.compile("super-stale: |parity: |.*: the device was away, and is read last$")
    return [complaint for complaint in complaints if not foreseen.match(complaint)]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("make", "profile", "metadata"),
    [
        (written_by_the_kernel, "single", "dup"),
        (written_by_the_kernel, "raid1", "raid1"),
        (written_by_us, "raid6", "raid1c3"),
    ],
    ids=["one device", "mirrors", "parity"],
)
def test_every_state_is_clean_and_old_or_new(
    tmp_path: Path, make: Callable[[str, str, str], Sequence[str]], profile: str, metadata: str
) -> None:
    """Hold what every state has against the states before and after the commit; checks and kernel judge some of them.

    Before the superblocks, nothing that is written touches what the old state rests on: it is read in some states, in
    the others it is the same. While they are written, all states are read.
    """
    paths = make(str(tmp_path), profile, metadata)
    copies = images.copy_sparse(paths, str(tmp_path / "copies"))
    epochs = recorded(paths, EDITS)
    assert len(epochs) == 2 * len(EDITS), "of each commit all that is new, then the superblocks"
    for commit, (everything_new, superblocks) in enumerate(batched(epochs)):
        old, places = held(copies), used(copies)
        assert not any(touches(write, places) for write in everything_new)
        assert all(write.physical in SUPERBLOCK_OFFSETS for write in superblocks)
        seen: dict[State, Held] = {}
        for state in crashes(dict(enumerate(copies, 1)), (everything_new, superblocks), shuffled=2):
            if state.epoch or state.done in (None, len(everything_new)):
                seen[state] = held(copies)
            if (commit, *state) == (2, 1, len(superblocks) // 2):
                judge(copies, str(tmp_path / f"mounted {state}"))
        new = held(copies)
        assert new.generation == old.generation + 1
        assert new.files != old.files
        assert all(found in ((old, new) if state.epoch else (old,)) for state, found in seen.items())
        in_order = [found.generation for state, found in seen.items() if state.epoch and state.done]
        assert in_order == sorted(in_order), "once the new state is there, it stays"
        assert in_order[0] == old.generation, "the mirrors come first"
    assert new == held(paths)
    judge(copies, str(tmp_path / "mounted"))


class Failing(Recorder):
    """A sink that fails after so many writes."""

    def __init__(self, sink: Sink, writes: int) -> None:
        super().__init__(sink)
        self._left = writes

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        if not self._left:
            raise DeviceError("the host has no space left")
        self._left -= 1
        super().pwrite(devid, physical, data)


def test_a_commit_that_cannot_be_written_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    paths = written_by_us(str(tmp_path), "raid1", "raid1")
    old, other = held(paths), images.copy_sparse(paths, str(tmp_path / "other"))
    (everything_new, _) = recorded(other, [add])
    first_mirror = len(everything_new) + 1
    for writes in (0, 1, first_mirror // 2, first_mirror - 1, first_mirror):
        with pytest.raises(DeviceError, match="no space left"):
            recorded(paths, [add], partial(Failing, writes=writes))
        assert held(paths) == old, f"after {writes} writes"
    recorded(paths, [add])
    assert held(paths) == held(other)


@pytest.mark.parametrize("lag", [1, 2])
def test_a_device_that_was_away_is_not_passed_off_as_new(tmp_path: Path, lag: int) -> None:
    """One commit behind is how a crash leaves a device, which lacks nothing then."""
    paths = written_by_us(str(tmp_path), "raid1", "raid1")
    recorded(paths, EDITS[:1])
    with open_image(paths[1], warn=_ignore) as image, DeviceSink(image.volume.devices) as sink:
        before = image.superblock.replace(generation=image.superblock.generation - lag)
        VolumeWriter(image.volume, sink).write_superblock(2, before)
    if lag == 1:
        recorded(paths, EDITS[1:2])
        assert complaints_of_btrimg(paths) == []
    else:
        with pytest.raises(DeviceError, match="device 2 was away for 2 commits"):
            recorded(paths, EDITS[1:2])


def batched(epochs: Sequence[Sequence[Write]]) -> Iterator[tuple[Sequence[Write], Sequence[Write]]]:
    """Yield the two epochs of each commit."""
    return zip(epochs[::2], epochs[1::2], strict=True)


def judge(devices: Sequence[str], directory: str) -> None:
    """Ask all checks, and then the kernel, which mounts copies and reads everything."""
    assert unforeseen(complaints(devices)) == []
    copies = images.copy_sparse(devices, directory)
    with kernel.mount(copies) as top:
        truth = record(top)
    with open_image(devices, warn=_ignore) as image:
        compare(image, truth)


def _ignore(_message: str) -> None:
    pass

"""A new fsid, in every tree block or beside the old one; and what a change that was cut off leaves."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support import images, kernel
from support.crash import Recorder, crashes
from support.fresh import make_empty_on
from support.judges import complaints, complaints_of_btrimg
from support.truth import lasting, record

from btrimg.edit.identity import change_fsid, rewrite_fsid, tree_blocks
from btrimg.errors import RefusedError
from btrimg.filesystem.image import device_items, open_image
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import Incompat, SuperFlag, TreeId
from btrimg.volume.sink import DeviceSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage

    from btrimg.filesystem.image import Image

MIB = 1 << 20
NEW, CHUNKS, OTHER = b"new filesystem!!", b"uuid of chunks!!", b"another one yet!"


def rewrite(devices: Sequence[str], fsid: bytes = NEW, chunk_tree_uuid: bytes = CHUNKS) -> bytes:
    with open_image(devices, warn=lambda _: None) as image, closing(DeviceSink(image.volume.devices)) as sink:
        return rewrite_fsid(image, sink, fsid, chunk_tree_uuid)


def change(devices: Sequence[str], fsid: bytes) -> None:
    with open_image(devices, warn=lambda _: None) as image, closing(DeviceSink(image.volume.devices)) as sink:
        change_fsid(image, sink, fsid)


def stands_everywhere(image: Image, fsid: bytes, chunk_tree_uuid: bytes) -> bool:
    """Return whether every copy of every tree block, and every device item, has the fsid."""
    volume, blocks = image.volume, tree_blocks(image)
    for logical in blocks:
        for devid, physical in volume.chunk_map.locate(logical).copies:
            header = Header.unpack(volume.devices[devid].pread(Header.SIZE, physical))
            if (header.fsid, header.chunk_tree_uuid) != (fsid, chunk_tree_uuid):
                return False
    return bool(blocks) and {item.fsid for _, item in device_items(image.tree(TreeId.CHUNK_TREE))} == {fsid}


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """Give the two devices of a filesystem whose tree blocks are on both."""
    paths = [str(tmp_path / f"{number}.img") for number in (1, 2)]
    make_empty_on(paths, 80 * MIB, metadata="raid1", nodesize=4096)
    return paths


@pytest.mark.kernel
@pytest.mark.progs
def test_all_of_it_has_the_new_fsid_and_the_kernel_finds_the_same_files(
    kernel_image: Callable[..., KernelImage], tmp_path: Path
) -> None:
    made = kernel_image(profile="raid6", nodesize=4096)
    devices = made.copy(str(tmp_path))
    before = complaints(devices)
    assert rewrite(devices) == NEW
    with open_image(devices) as image:
        assert image.superblock.fsid == image.superblock.dev_item.fsid == NEW
        assert not image.superblock.flags & SuperFlag.CHANGING_FSID
        assert stands_everywhere(image, NEW, CHUNKS)
    assert complaints(devices) == before
    with kernel.mount(devices) as top:
        assert lasting(record(top)) == lasting(made.truth)
    change(devices, OTHER)
    with open_image(devices) as image:
        assert (image.superblock.fsid, image.superblock.metadata_uuid) == (OTHER, NEW)
        assert image.superblock.incompat_flags & Incompat.METADATA_UUID
        assert stands_everywhere(image, NEW, CHUNKS)
    assert complaints(devices) == before
    with kernel.mount(devices, read_only=True):
        pass
    with pytest.raises(RefusedError, match="metadata-uuid 6e657720"):
        rewrite(devices)
    change(devices, NEW)
    with open_image(devices) as image:
        assert (image.superblock.fsid, image.superblock.metadata_uuid) == (NEW, bytes(16))
        assert not image.superblock.incompat_flags & Incompat.METADATA_UUID
    assert complaints(devices) == before


def test_a_change_that_was_cut_off_anywhere_is_seen_and_finished(pair: list[str], tmp_path: Path) -> None:
    fresh = images.copy_sparse(pair, str(tmp_path / "fresh"))
    with open_image(pair) as image, closing(DeviceSink(image.volume.devices)) as sink:
        recorder = Recorder(sink)
        rewrite_fsid(image, recorder, NEW, CHUNKS)
    work = images.copy_sparse(fresh, str(tmp_path / "work"))
    finished = 0
    for state in crashes({1: work[0], 2: work[1]}, recorder.epochs, 0):
        if state.epoch == 2 and (state.done or 0) % 3:
            continue  # of the tree blocks, some are enough
        cut = images.copy_sparse(work, str(tmp_path / "cut"))
        heard: list[str] = []
        with open_image(cut, warn=heard.append) as image:
            changing = bool(image.superblock.flags & SuperFlag.CHANGING_FSID)
            assert image.volume.devices.keys() == {1, 2}, state
        if changing:
            assert rewrite(cut, OTHER, OTHER) == NEW, f"{state}: it goes on with the fsid that it began with"
            finished += 1
        with open_image(cut) as image:
            known = image.superblock.fsid
            assert known == NEW or (not changing and state.epoch == 0), state
        told = complaints_of_btrimg(cut)
        assert told == [] or (not changing and all(each.startswith("super-differs") for each in told)), state
    assert finished > 8


@pytest.mark.progs
def test_btrfstune_finishes_what_was_cut_off(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty_on([path], 80 * MIB, metadata="dup")
    with open_image(path) as image, closing(DeviceSink(image.volume.devices)) as sink:
        recorder = Recorder(sink)
        rewrite_fsid(image, recorder, NEW, CHUNKS)
    make_empty_on([str(tmp_path / "b.img")], 80 * MIB, metadata="dup")
    with open(tmp_path / "b.img", "r+b") as file:
        # of a block that is done in its first copy only, btrfstune leaves the second as it is
        for write in [each for epoch in recorder.epochs[:2] for each in epoch] + recorder.epochs[2][:2]:
            os.pwrite(file.fileno(), write.data, write.physical)
    with open_image(str(tmp_path / "b.img"), warn=lambda _: None) as image:
        assert image.superblock.flags & SuperFlag.CHANGING_FSID
    subprocess.run(["btrfstune", "-f", "-u", tmp_path / "b.img"], check=True, capture_output=True)
    with open_image(str(tmp_path / "b.img")) as image:
        assert stands_everywhere(image, NEW, CHUNKS)


def test_it_is_refused_where_it_cannot_be(pair: list[str]) -> None:
    from btrimg.edit.filesystem import seed_pieces
    from btrimg.volume.draft import write_pieces

    with open_image(pair) as image:
        pieces = list(seed_pieces(image, True))
        paths = {devid: device.path for devid, device in image.volume.devices.items()}
    write_pieces(paths, pieces)
    for edit in (rewrite, lambda devices: change(devices, OTHER)):
        with pytest.raises(RefusedError, match="it is a seed"):
            edit(pair)
    with pytest.raises(Exception, match="missing"):
        rewrite(pair[:1])

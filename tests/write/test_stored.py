"""Whole images of files that a sink stored: both checks find them clean, and the kernel reads every byte."""

from __future__ import annotations

import os
import random
import stat
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import kernel
from support.images import MIB
from support.judges import complaints

from btrimg.filesystem.data import read
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import Compression, FileType, InodeFlag
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.fresh import fresh_devices
from btrimg.write import fileextents, inodes, names
from btrimg.write.data import DataSink
from btrimg.write.files import Files
from btrimg.write.mkfs import make_filesystem
from btrimg.write.options import new_options
from btrimg.write.uuids import seeded

from .test_data import content

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from btrimg.write.transaction import Transaction

pytestmark = [pytest.mark.progs, pytest.mark.kernel]

TOP, ROOT_INO = 5, 256
SIZES = (1, 100, 2048, 2049, 4095, 4096, 4097, 20_000, 131_072, 131_073, 400_000)


@contextmanager
def making(outputs: Sequence[str], **choices: Any) -> Iterator[tuple[Transaction, DataSink, Files]]:
    """Give the first transaction of a new filesystem, a sink for it, and the files of its top-level subvolume."""
    uuids = seeded(b"stored")
    options = new_options([160 * MIB] * len(outputs), uuids, **choices)
    with fresh_devices(outputs, [device.size for device in options.devices]) as fresh:
        warned: list[str] = []
        txn = make_filesystem(options, fresh.devices, fresh.sink, now=Timespec(1, 2), uuids=uuids, warn=warned.append)
        with closing(DataSink(txn)) as sink:
            yield txn, sink, Files(txn, TOP)
        assert warned == []


def put(top: Files, name: bytes, data: bytes, storage: fileextents.Storage, flags: int = 0) -> None:
    """Make a file that is *data*."""
    inline = storage.inline(data, flags)
    pieces = [(0, inline)] if inline else storage.store(data, 0, flags)
    ino = top.new_ino()
    nbytes = fileextents.lay(top, ino, len(data), pieces)
    inodes.create(top, stat.S_IFREG | 0o644, ino=ino, size=len(data), nbytes=nbytes, flags=flags)
    names.enter(top, ROOT_INO, name, ino, FileType.REG_FILE)


def stored(outputs: Sequence[str], *, sharing: bool = False, **choices: Any) -> dict[bytes, bytes]:
    """Make a filesystem of files compressed in every way and not at all, with and without checksums; give them.

    Half of them are in a second commit, and contents come again.
    """
    rng = random.Random(3)
    files: dict[bytes, bytes] = {}
    with making(outputs, **choices) as (txn, sink, top):
        sink.sharing = sharing
        for number in range(60):
            kinds = [rng.choice(["noise", "text", "zeros"]) for _ in range(1 + number % 3)]
            data = content(kinds, [rng.choice(SIZES) for _ in kinds], number % 5)
            compression, pieces = list(Compression)[number % 4], 1 + (number % 13 == 9)
            storage = fileextents.Storage(sink, compression=compression, pieces=pieces)
            files[b"%d" % number] = data
            put(top, b"%d" % number, data, storage, InodeFlag.NODATASUM if number % 11 == 5 else 0)
            if number == 30:
                txn.commit()
        txn.commit()
    return files


@pytest.mark.parametrize(
    ("devices", "mountable", "choices"),
    [
        (1, True, {}),
        (1, True, {"sharing": True}),
        (4, True, {"data": "raid5", "metadata": "raid1", "csum": "sha256"}),
        (1, True, {"mixed": True, "nodesize": 4096, "csum": "blake2", "features": ("^no-holes",), "sharing": True}),
        (1, False, {"sectorsize": 65536, "nodesize": 65536, "csum": "xxhash"}),
    ],
)
def test_images_are_clean_and_hold_every_byte(
    tmp_path: Path, devices: int, mountable: bool, choices: dict[str, Any]
) -> None:
    outputs = [str(tmp_path / f"{number}.img") for number in range(devices)]
    files = stored(outputs, **choices)
    assert complaints(outputs) == []
    with open_image(outputs) as image:
        for name, data in files.items():
            assert read(image.open(b"/" + name), 0, len(data) + 1) == data
    if mountable:  # sectors of 64 KiB need pages of 64 KiB
        with kernel.mount(outputs, read_only=True) as top:
            for name, data in files.items():
                with open(os.path.join(os.fsencode(top), name), "rb") as file:
                    assert file.read() == data


def test_sharing_takes_less_space_and_the_same_bytes_make_the_same_image(tmp_path: Path) -> None:
    images = [str(tmp_path / f"{number}.img") for number in range(3)]
    for number, image in enumerate(images):
        stored([image], sharing=number > 0)
    used = []
    for image in images:
        with open_image([image]) as opened:
            used.append(opened.superblock.bytes_used)
    assert used[0] - used[1] > MIB
    with open(images[1], "rb") as one, open(images[2], "rb") as other:
        assert one.read() == other.read()


def test_what_no_file_uses_is_given_back_and_not_shared(tmp_path: Path) -> None:
    image, data = str(tmp_path / "1.img"), random.Random(1).randbytes(50_000)
    with making([image]) as (txn, sink, top):
        sink.sharing = True
        storage = fileextents.Storage(sink)
        put(top, b"first", data, storage)
        txn.commit()
        names.unlink(top, ROOT_INO, b"first")
        put(top, b"second", data, storage)  # before a commit has freed the extent of the first one
        txn.commit()
        kept = fileextents.rows(top, names.find_inode(top, ROOT_INO, b"second"), 0, 1)[0]
        assert kept.extent
        assert kept.extent.generation == 1
        names.unlink(top, ROOT_INO, b"second")
        txn.commit()
        put(top, b"third", data, storage)
        put(top, b"fourth", data, storage)
        names.unlink(top, ROOT_INO, b"third")
        sink.store(random.Random(2).randbytes(70_000))  # for no file at all
        txn.commit()
    assert complaints([image]) == []
    with open_image([image]) as opened:
        assert read(opened.open(b"/fourth"), 0, len(data)) == data
        extents = opened.extents()
        assert extents.extent_length.tolist() == [13 * 4096]
        assert extents.generation.tolist() == [4]

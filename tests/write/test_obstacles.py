"""Images that use what a commit would not keep right: refused with a sentence, or kept right; never silently broken."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support import images, kernel
from support.forge import corrupt
from support.judges import complaints
from support.program import btrimg

from btrimg.errors import DeviceError, UnsupportedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import TreeId
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.sink import DeviceSink
from btrimg.write import contents, inodes, names, subvolumes
from btrimg.write.begin import begin
from btrimg.write.data import DataSink
from btrimg.write.fileextents import Storage
from btrimg.write.files import Files
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MIB = 1 << 20
NOW = Timespec(1_800_000_000, 0)
NEW = bytes(range(256)) * 4000


def add_file(devices: Sequence[str], warnings: list[str], *, force: bool = False) -> None:
    """Add a file in a transaction."""
    with (
        open_image(devices, warn=warnings.append, force=force) as image,
        DeviceSink(image.volume.devices) as sink,
        begin(image, sink, now=NOW, uuids=seeded(b"obstacles")) as txn,
        closing(DataSink(txn)) as data,
    ):
        files = Files(txn, TreeId.FS_TREE)
        ino = inodes.create(files, 0o100644)
        names.enter(files, subvolumes.TOP_DIRECTORY, b"new", ino, inodes.file_type(0o100644))
        contents.write(files, ino, 0, NEW, Storage(data))
        txn.commit()


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ("super/incompat_flags|=Incompat.ZONED", "it uses zoned, which btrimg does not write"),
        ("super/incompat_flags|=Incompat.SIMPLE_QUOTA", "it uses simple-quota, which btrimg does not write"),
        ("super/incompat_flags|=0x8000000000000000", "it uses unknown incompat bits 0x8000000000000000"),
        ("super/compat_ro_flags|=0x100000", "it uses unknown compat_ro bits 0x100000: who does not know them"),
        ("super/compat_ro_flags^=CompatRo.FREE_SPACE_TREE_VALID", "its free space tree is not valid; btrimg edit"),
        ("super/flags|=SuperFlag.SEEDING", "it is a seed, which is never written to"),
        ("super/flags|=SuperFlag.ERROR", "its superblock says that an error was met; run btrimg check"),
        ("super/flags|=SuperFlag.CHANGING_FSID", "a change of its fsid was interrupted; btrimg edit IMAGE fsid"),
        ("super/flags|=SuperFlag.CHANGING_BG_TREE", "a conversion to a block group tree was interrupted"),
        ("super/flags|=SuperFlag.CHANGING_DATA_CSUM", "a change of its checksums was interrupted"),
        ("super/log_root=4096", "its log tree holds changes made after the last commit; btrimg edit"),
        ("root/BALANCE.TEMPORARY_ITEM.0=0x00*448", "a balance was interrupted; mount it"),
        ("root/TREE_RELOC.ROOT_ITEM.5={root/FS_TREE.ROOT_ITEM}", "a relocation was interrupted; mount it once"),
        ("dev/0.DEV_REPLACE.0=0x00*80 dev/0.DEV_REPLACE.0/replace_state=1", "a device is being replaced; mount it"),
    ],
)
def test_what_a_commit_would_not_keep_right_is_refused(tmp_path: Path, edit: str, why: str) -> None:
    image = str(tmp_path / "image")
    assert btrimg("mkfs", image, "-b", 128 * MIB, "--seed", "obstacles").returncode == 0
    corrupt(image, *edit.split())
    before = os.stat(image).st_mtime_ns
    with pytest.raises(UnsupportedError) as caught:
        add_file([image], [], force=True)
    assert str(caught.value).startswith(f"the image cannot be written to: {why}")
    assert os.stat(image).st_mtime_ns == before


def test_an_image_without_one_of_its_devices_is_not_written_to(tmp_path: Path) -> None:
    devices = [str(tmp_path / name) for name in "abc"]
    assert btrimg("mkfs", *devices, "-b", 128 * MIB, "-d", "raid1", "--seed", "missing").returncode == 0
    with pytest.raises(DeviceError, match=r"device 2 is missing: give it too \(-d\), nothing is written without it"):
        add_file([devices[0], devices[2]], [])


@pytest.mark.kernel
@pytest.mark.progs
def test_quota_groups_and_a_space_cache_are_left_so_that_the_kernel_counts_anew(tmp_path: Path) -> None:
    (device,) = images.new_devices(str(tmp_path), 1, 512 * MIB)
    kernel.run("mkfs.btrfs", "-q", "-R", "quota,^free-space-tree", device)
    with kernel.mount([device], options=["space_cache=v1"]) as top:
        for number in range(20):
            with open(f"{top}/{number}", "xb") as file:
                file.write(os.urandom(300_000))
    warnings: list[str] = []
    add_file([device], warnings)
    assert len(warnings) == 1
    assert "quota groups are not counted on: they are marked inconsistent" in warnings[0]
    (complaint,) = complaints([device])
    assert complaint.startswith("qgroup-inconsistent: ")
    with kernel.mount([device], options=["space_cache=v1"]) as top:
        with open(f"{top}/new", "rb") as file:
            assert file.read() == NEW
        kernel.run("btrfs", "quota", "rescan", "-w", top)
        with open(f"{top}/more", "xb") as file:
            file.write(NEW)
    assert complaints([device]) == []

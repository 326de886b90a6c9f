"""The filesystem as a whole: label, seed, features, log tree, superblocks and bad copies."""

from __future__ import annotations

import os
import shutil
from filecmp import cmp
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from support import images, kernel
from support.afterlife import live_on
from support.fresh import make_empty, make_empty_on
from support.judges import complaints, complaints_of_btrimg
from support.program import btrimg
from support.truth import lasting, record

from btrimg.corrupt.engine import Corruptor
from btrimg.edit.features import SWITCHED, switch_feature
from btrimg.edit.filesystem import label_pieces, seed_pieces
from btrimg.edit.identity import rewrite_fsid
from btrimg.edit.logs import forgotten_log, replay_log
from btrimg.edit.mend import mend
from btrimg.edit.rescue import repaired_superblocks
from btrimg.edit.resize import resize
from btrimg.edit.sizes import NewSize
from btrimg.errors import BtrimgError, DeviceError, NotFoundError, RefusedError, UnsupportedError, WorseError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, BlockGroup, CompatRo, ItemType, SuperFlag, TreeId
from btrimg.volume.device import Device
from btrimg.volume.superblocks import read_copies
from edit.plain import editing
from edit.sessions import begun, undone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage
    from support.powerloss import CutImage

    from btrimg.edit.editing import Editing
    from btrimg.edit.session import Session

MIB = 1 << 20


def damage(path: str, *places: tuple[int, int]) -> None:
    """Overwrite (physical, bytes) of a device with what is nothing."""
    with open(path, "r+b") as file:
        for physical, length in places:
            file.seek(physical)
            file.write(b"\xa5" * length)


def switch(devices: Sequence[str], name: str, state: str) -> bool:
    """Switch a feature in a session, which judges what is committed."""
    with begun(devices, devices[0] + ".undo") as session:
        session.force = False
        done = switch_feature(session, name, state)
    if os.path.exists(devices[0] + ".undo"):
        os.unlink(devices[0] + ".undo")
    return done


# In superblocks alone


def test_a_label_stands_in_every_superblock(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.img") for number in (1, 2)]
    make_empty_on(paths, 80 * MIB, label=b"old")
    with editing(paths) as session:
        session.write_pieces(label_pieces(session.image, "näw".encode()))
    for path in paths:
        with Device(path) as device:
            labels = [copy.superblock.label.rstrip(b"\0") for copy in read_copies(device) if copy.superblock]
        assert labels == ["näw".encode()] * 2
    assert complaints_of_btrimg(paths) == []
    with editing(paths) as session:
        for wrong in (b"x" * 256, b"a\0b", b"a\nb"):
            with pytest.raises(RefusedError, match="a label"):
                label_pieces(session.image, wrong)
        session.write_pieces(label_pieces(session.image, b""))
    with open_image(paths) as image:
        assert image.superblock.label == bytes(256)
    with editing(paths[:1]) as session, pytest.raises(DeviceError, match="device 2 is missing"):
        session.write_pieces(label_pieces(session.image, b"half"))


def test_a_seed_is_never_written_to_until_it_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB)
    with editing([path]) as session:
        session.write_pieces(seed_pieces(session.image, seed=True))
    with editing([path]) as session:
        assert session.image.superblock.flags & SuperFlag.SEEDING
        with pytest.raises(
            UnsupportedError, match="it is a seed, which is never written to; btrimg edit IMAGE seed off"
        ):
            session.transaction()
        session.write_pieces(seed_pieces(session.image, seed=False))
    with editing([path]) as session:
        session.transaction()
        session.commit()
    assert complaints_of_btrimg([path]) == []


# Features


@pytest.mark.kernel
@pytest.mark.progs
def test_features_are_switched_to_and_fro(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    made = kernel_image(profile="dup", size=512 * MIB)
    devices = made.copy(str(tmp_path))
    steps = (
        *(("free-space-tree", "rebuild"), ("block-group-tree", "on"), ("block-group-tree", "off")),
        *(("free-space-tree", "off"), ("space-cache-v1", "on"), ("free-space-tree", "on")),
        *(("no-holes", "off"), ("no-holes", "on"), ("no-holes", "off")),
    )
    for name, state in steps:
        assert switch(devices, name, state)
        assert complaints_of_btrimg(devices) == [], (name, state)
        assert state == "rebuild" or not switch(devices, name, state), "it is so already"
    assert complaints(devices) == []
    with kernel.mount(devices, read_only=True) as top:
        assert lasting(record(top)) == lasting(made.truth)
    assert switch(devices, "no-holes", "on")
    assert switch(devices, "block-group-tree", "on")
    assert complaints(devices) == []
    with kernel.mount(devices) as top:
        live_on(top)


@pytest.mark.kernel
@pytest.mark.progs
def test_a_filesystem_of_old_gets_what_new_ones_have(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    options = ["--runtime-features", "^free-space-tree"]
    made = kernel_image(profile="single", features=["^no-holes", "^skinny-metadata"], mkfs_options=options)
    devices = made.copy(str(tmp_path))
    for name in ("skinny-metadata", "no-holes", "free-space-tree", "block-group-tree"):
        assert switch(devices, name, "on")
    assert complaints(devices) == []
    with kernel.mount(devices, read_only=True) as top:
        assert lasting(record(top)) == lasting(made.truth)


def test_what_cannot_be_switched_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB)
    for name, state, kind, why in (
        (
            "free-space-tree",
            "off",
            RefusedError,
            "the block group tree needs the free space tree; switch that off first",
        ),
        ("no-holes", "off", RefusedError, "the block group tree needs no-holes; switch that off first"),
        ("extref", "off", RefusedError, "extref cannot be switched off: there may be items"),
        ("skinny-metadata", "off", RefusedError, "skinny-metadata cannot be switched off"),
        ("mixed-bg", "on", RefusedError, "mixed-bg cannot be switched: data and metadata would"),
        ("raid56", "off", RefusedError, "raid56 cannot be switched: it goes with the profile"),
        ("no-holes", "rebuild", RefusedError, "no-holes cannot be made anew"),
        ("holes", "on", NotFoundError, "no feature is called 'holes'; those that can be switched are no-holes,"),
    ):
        with editing([path]) as session, pytest.raises(kind, match=why):
            switch_feature(session, name, state)
    assert switch([path], "block-group-tree", "off")
    assert switch([path], "free-space-tree", "off")
    with editing([path]) as session:
        with pytest.raises(RefusedError, match="needs free-space-tree; switch that on first"):
            switch_feature(session, "block-group-tree", "on")
        assert [switch_feature(session, name, "off") for name in SWITCHED[1:4]] == [False] * 3
    assert complaints_of_btrimg([path]) == []


def test_a_free_space_tree_is_made_anew_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB)
    with editing([path]) as session:
        free = next(session.image.tree(TreeId.FREE_SPACE_TREE).items())[0]
        corruptor = Corruptor(session.image)
        corruptor.apply([f"free_space/{free.objectid}.FREE_SPACE_INFO/extent_count+=7"])
        flags = session.image.superblock.compat_ro_flags & ~CompatRo.FREE_SPACE_TREE_VALID
        corruptor.apply([f"super/compat_ro_flags={flags}", "free_space@root/header.generation+=1"])
        session.write_pieces(list(corruptor.pieces()))
    assert len(complaints_of_btrimg([path])) >= 2
    assert switch([path], "free-space-tree", "rebuild")
    assert complaints_of_btrimg([path]) == []


def test_a_free_space_tree_that_contradicts_block_groups_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB)
    for name in ("block-group-tree", "free-space-tree"):
        assert switch([path], name, "off")
    with editing([path]) as session:
        group = next(
            key for key, _ in session.image.tree(TreeId.EXTENT_TREE).items() if key.type == ItemType.BLOCK_GROUP_ITEM
        )
        corruptor = Corruptor(session.image)
        corruptor.apply(
            [f"extent/{group.objectid}.BLOCK_GROUP_ITEM.{group.offset}/slot.key.offset={group.offset // 2}"]
        )
        session.write_pieces(list(corruptor.pieces()))
    before = shutil.copy(path, tmp_path / "before")
    with pytest.raises(WorseError, match="free-space-info-missing"):
        switch([path], "free-space-tree", "on")
    assert cmp(path, before, shallow=False)


# The log tree


@pytest.mark.kernel
@pytest.mark.progs
def test_a_log_is_replayed_as_the_kernel_does(cut_image: Callable[..., CutImage], tmp_path: Path) -> None:
    cut = cut_image(profile="raid1", nodesize=4096)
    devices = images.copy_sparse(cut.devices, str(tmp_path))
    faults = complaints_of_btrimg(devices)
    with begun(devices, str(tmp_path / "undo")) as session:
        session.force = False
        with pytest.raises(UnsupportedError, match="btrimg edit IMAGE log replay commits them"):
            session.transaction()
        replay_log(session)
        assert session.image.superblock.log_root == 0
        with pytest.raises(NotFoundError, match="there is no log tree"):
            replay_log(session)
    assert [each for each in complaints(devices) if each not in faults] == []
    with kernel.mount(devices) as top:
        found, expected = lasting(record(top)), lasting(cut.replayed)
    assert found.keys() == expected.keys()
    for path, entry in found.items():  # the kernel takes "now" for the times of what a name went out of
        times = {name: 0 for name in entry.stat._fields if name.startswith(("mtime", "ctime"))}
        assert entry._replace(stat=entry.stat._replace(**times)) == expected[path]._replace(
            stat=expected[path].stat._replace(**times)
        )


@pytest.mark.kernel
@pytest.mark.progs
def test_a_log_is_forgotten(cut_image: Callable[..., CutImage], tmp_path: Path) -> None:
    cut = cut_image(profile="raid1", nodesize=4096)
    devices = images.copy_sparse(cut.devices, str(tmp_path))
    with editing(devices) as session:
        session.write_pieces(forgotten_log(session.image))
    with open_image(devices) as image:
        assert (image.superblock.log_root, image.superblock.log_root_level) == (0, 0)
    with kernel.mount(devices, read_only=True) as top:
        assert lasting(record(top)) == lasting(cut.committed)


# What was destroyed


def test_superblocks_are_repaired_from_a_mirror_or_by_older_roots(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB)
    with open(path, "rb") as file:
        before = file.read()
    damage(path, (SUPERBLOCK_OFFSETS[0], 4096))
    assert btrimg("edit", path, "super", "repair", "--from-mirror", "0").returncode
    done = btrimg("edit", path, "super", "repair")
    assert done.returncode == 0, done.stderr
    with open(path, "rb") as file:
        assert file.read() == before

    for number in range(3):
        with editing([path]) as session:
            session.transaction().change_superblock(label=b"commit %d".ljust(256, b"\0") % number)
            session.commit()
            roots = session.image.superblock.super_roots
            newest = session.image.superblock.root
    damage(path, (open_image(path).volume.chunk_map.locate(newest).copies[0].physical, 4096))
    damage(path, (open_image(path, warn=lambda _: None).volume.chunk_map.locate(newest).copies[1].physical, 4096))
    assert btrimg("ls", path).returncode
    generations = [each.tree_root_gen for each in roots]
    older = generations.index(sorted(generations)[-2])
    done = btrimg("edit", path, "super", "repair", "--backup-root", older)
    assert done.returncode == 0, done.stderr
    assert btrimg("ls", path).returncode == 0
    assert complaints_of_btrimg([path]) == []


def test_a_superblock_that_is_not_there_is_not_repaired_with(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 60 * MIB)
    with Device(path) as device:
        devices = {1: device}
        assert list(repaired_superblocks(devices)) == []
        with pytest.raises(NotFoundError, match="has no superblock 1; by its size it can have 0 at 65536"):
            list(repaired_superblocks(devices, mirror=1))
        with pytest.raises(NotFoundError, match="a superblock has 4 backups of its roots, no 4"):
            list(repaired_superblocks(devices, backup=4))
        damage(path, (SUPERBLOCK_OFFSETS[0] + 200, 4))
        with pytest.raises(RefusedError, match=r"superblock 0 of .* is not sound: its crc32c is"):
            list(repaired_superblocks(devices, mirror=0))
        with pytest.raises(NotFoundError, match="has no sound superblock: at 65536: its crc32c is"):
            list(repaired_superblocks(devices))
    assert btrimg("edit", path, "super", "repair").returncode == 1


@pytest.mark.kernel
def test_bad_copies_are_written_anew(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    """All that has checksums comes back; of what has none, nothing is touched."""
    made = kernel_image(profile="raid5")
    devices = made.copy(str(tmp_path))
    faults = complaints_of_btrimg(devices)
    with open_image(devices) as image:
        at = [
            (stripe.offset, min(chunk.stripe_length, 20 * MIB))
            for chunk in image.volume.chunk_map
            for stripe in chunk.stripes
            if stripe.devid == 2 and chunk.type & (BlockGroup.METADATA | BlockGroup.DATA)
        ]
    damage(devices[1], *[(start + 4096, length - 8192) for start, length in at])
    assert len(complaints_of_btrimg(devices)) > len(faults)
    with editing(devices) as session:
        mended = mend(session.image, session)
    assert mended.bytes > MIB
    left = [each for each in complaints_of_btrimg(devices) if each not in faults]
    superblock = [each for each in left if each.startswith("super-missing")]
    assert [each for each in left if not each.startswith(("data-copy-differs", "parity", "super-missing"))] == []
    assert len(mended.lost) == sum(each.startswith("parity") for each in left)
    if left == superblock:
        with kernel.mount(devices, read_only=True) as top:
            assert lasting(record(top)) == lasting(made.truth)


# All of it is undone


def fsid(session: Session) -> None:
    rewrite_fsid(session.image, session.sink, b"new filesystem!!", b"uuid of chunks!!")
    session.written()


def no_block_group_tree(session: Editing) -> None:
    switch_feature(session, "block-group-tree", "off")


def smaller(session: Editing) -> None:
    resize(session, NewSize(None, 0, 65 * MIB))


def superblocks(session: Session) -> None:
    session.write_pieces(repaired_superblocks(session.sink.devices))


def copies(session: Session) -> None:
    assert mend(session.image, session.sink).bytes
    session.written()


@pytest.mark.filterwarnings("ignore::btrimg.filesystem.image.BtrimgWarning")
@pytest.mark.parametrize("edit", [fsid, no_block_group_tree, smaller, superblocks, copies])
def test_every_edit_is_undone_byte_for_byte(tmp_path: Path, edit: Callable[[Session], None]) -> None:
    path, undo = str(tmp_path / "a.img"), str(tmp_path / "a.undo")
    make_empty(path, 80 * MIB, metadata="dup")
    os.truncate(path, 90 * MIB)
    with open_image(path) as image:
        chunk = next(chunk for chunk in image.volume.chunk_map if chunk.type & BlockGroup.METADATA)
    if edit in (copies, superblocks):
        damage(path, (chunk.stripes[1].offset, MIB) if edit == copies else (SUPERBLOCK_OFFSETS[0], 4096))
    (before,) = images.copy_sparse([path], str(tmp_path / "before"))
    with begun([path], undo) as session:
        session.force = False
        edit(session)
    assert not cmp(path, before, shallow=False)
    assert complaints_of_btrimg([path]) == []
    undone([path], undo)
    assert cmp(path, before, shallow=False)


def spoil(session: Session, places: Sequence[int]) -> None:
    with session.in_place() as sink:
        for physical in places:
            sink.pwrite(1, physical, bytes(4096))


def test_what_is_written_in_place_is_judged(tmp_path: Path) -> None:
    """A tree block that the extent tree does not know keeps its fsid, which would be that of another filesystem."""
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB, metadata="dup")
    with open_image(path) as image:
        block = image.tree(TreeId.CSUM_TREE).root.logical
        places = [place.physical for place in image.volume.chunk_map.locate(image.root_tree.root.logical).copies]
    done = btrimg("edit", path, "--force", "item", "delete", "extent", f"{block}.METADATA_ITEM")
    assert done.returncode == 0, done.stderr
    (before,) = images.copy_sparse([path], str(tmp_path / "before"))
    for said in ((), ("--dry-run",)):
        done = btrimg("edit", path, "--undo", path + ".2", *said, "fsid", str(UUID(int=5)))
        assert "refused, for it would make the image worse: " in done.stderr
        assert done.returncode == 1
    assert cmp(path, before, shallow=False)
    assert not os.path.exists(path + ".2")
    with begun([path], path + ".2") as session:
        session.force = False
        with pytest.raises(WorseError, match="block-"):
            spoil(session, places)
    assert cmp(path, before, shallow=False)
    done = btrimg("edit", path, "--undo", path + ".2", "metadata-uuid", str(UUID(int=5)))
    assert done.returncode == 0, f"nothing becomes worse by that: {done.stderr}"
    done = btrimg("edit", path, "--undo", path + ".3", "--force", "metadata-uuid", "original")
    assert done.returncode == 0, done.stderr
    done = btrimg("edit", path, "--undo", path + ".4", "--force", "fsid", str(UUID(int=5)))
    assert done.returncode == 0, done.stderr
    assert btrimg("ls", path).returncode == 0
    assert any(each.startswith("block-fsid") for each in complaints_of_btrimg([path]))


def test_nothing_is_written_in_place_while_edits_wait(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB)
    for line in ("fsid", "metadata-uuid random", "scrub", "label new"):
        done = btrimg("shell", path, stdin=f"begin\nmkdir /d\n{line}\n")
        assert (done.returncode, "a transaction is under way" in done.stderr) == (2, True), done.stderr


def test_nothing_else_is_under_way(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB)
    with editing([path]) as session:
        session.transaction()
        for edit in (no_block_group_tree, smaller):
            with pytest.raises(BtrimgError, match="a transaction is under way: commit or abort it"):
                edit(session)
        session.commit()
        no_block_group_tree(session)
    assert complaints_of_btrimg([path]) == []

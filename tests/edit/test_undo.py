"""Undo brings back every byte: of every kind of edit, and wherever it, or the undo itself, was cut off."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import resource
import shutil
import time
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial
from io import StringIO
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images, kernel
from support.fresh import make_empty_on
from support.judges import complaints_of_btrimg
from support.program import btrimg
from support.syscalls import Call, killed_at, watched

from btrimg.build.values import Storage
from btrimg.cli import main
from btrimg.corrupt import leaf
from btrimg.edit import judge, worse
from btrimg.edit.filesystem import label_pieces
from btrimg.edit.identity import rewrite_fsid
from btrimg.edit.items import ItemEditor
from btrimg.edit.itemwords import Manner
from btrimg.edit.resize import resize
from btrimg.edit.session import Session
from btrimg.edit.sizes import parse_new_size
from btrimg.edit.verbs import FileEditor
from btrimg.errors import BtrimgError, CorruptError, DeviceError, NotFoundError, RefusedError, WorseError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, ItemType, TreeId
from btrimg.ondisk.inodes import Timespec
from btrimg.ondisk.seal import seal
from btrimg.volume import saving
from btrimg.volume.restore import UndoFile
from btrimg.volume.sink import DeviceSink
from btrimg.volume.undofile import MAGIC, Kind, UndoReader, UndoRecord, UndoWriter
from btrimg.write.uuids import seeded

from .sessions import undone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from btrimg.ondisk.superblock import Superblock

#: With BTRIMG_LONG=1 all calls of a program are tried, not only some of them.
LONG = bool(os.environ.get("BTRIMG_LONG"))
MIB = 1 << 20
NOISE = random.Random("undo").randbytes(1 << 20)


def session(devices: Sequence[str], **how: object) -> Session:
    now = Timespec(1_800_000_000, 0)
    return Session(devices, now=now, uuids=seeded(b"undo"), report=lambda _: None, **how)  # type: ignore[arg-type]


class State(NamedTuple):
    """All of image files."""

    digests: tuple[str, ...]
    sizes: tuple[int, ...]
    holes: tuple[tuple[int, ...], ...]  #: pages that are none of the file's


def state(devices: Sequence[str]) -> State:
    digests, maps = [], []
    for path in devices:
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
            maps.append(tuple(_data_pages(file.fileno())))
    return State(tuple(digests), tuple(map(os.path.getsize, devices)), tuple(maps))


def _data_pages(fd: int) -> list[int]:
    at, end, found = 0, os.lseek(fd, 0, os.SEEK_END), []
    while at < end:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        stop = os.lseek(fd, at, os.SEEK_HOLE)
        found += [at, stop]
        at = stop
    return found


# Edits of all kinds


def put(devices: Sequence[str], **how: object) -> None:
    with session(devices, **how) as edits:
        files = FileEditor(edits)
        source = os.path.join(os.path.dirname(devices[0]), "source").encode()
        files.put([source], b"/new", Storage(), (0, 0), None)
        files.remove([b"/old"])
        edits.commit()
        files.close()


def label(devices: Sequence[str], **how: object) -> None:
    with session(devices, **how) as edits:
        edits.write_pieces(label_pieces(edits.image, b"another"))


def fsid(devices: Sequence[str], **how: object) -> None:
    with session(devices, **how) as edits:
        rewrite_fsid(edits.image, edits.sink, b"0123456789abcdef", b"fedcba9876543210")
        edits.written()


def grow(devices: Sequence[str], **how: object) -> None:
    with session(devices, **how) as edits:
        resize(edits, parse_new_size("1:+8M"))


def shrink(devices: Sequence[str], **how: object) -> None:
    with session(devices, **how) as edits:
        resize(edits, parse_new_size("1:-8M"))


def item(devices: Sequence[str], **how: object) -> None:
    with session(devices, **how) as edits:
        ItemEditor(edits).set(["5", "257.INODE_ITEM", "uid=7"], Manner(in_place=True))


def much(devices: Sequence[str], **how: object) -> None:
    """Put a file as if it were much: some is on the disk before the commit, and the rest before it is judged."""
    with patch("btrimg.edit.session._FEW", 0), patch.object(saving, "_HELD", MIB // 16):
        put(devices, **how)


EDITS: dict[str, Callable[..., None]] = {
    "put": put,
    "much": much,
    "label": label,
    "fsid": fsid,
    "grow": grow,
    "shrink": shrink,
    "item": item,
}


def make(directory: str, profile: str, count: int, *, solid: bool = False) -> list[str]:
    """Make an image with a file, what was freed, and data where nothing is used; a *solid* one has no holes.

    A hole is saved as a whole when the first byte is written there, so that later ones tell nothing.
    """
    devices = [os.path.join(directory, f"{number}.img") for number in range(count)]
    make_empty_on(devices, 48 * MIB, data=profile, metadata=profile)
    with open(os.path.join(directory, "source"), "wb") as file:
        file.write(NOISE[: 300 << 10])
    with session(devices, undo=os.path.join(directory, "gone")) as edits:
        files = FileEditor(edits)
        for name in (b"/old", b"/other", b"/third"):
            files.put([file.name.encode()], name, Storage(), (0, 0), None)
        edits.commit()
        files.close()
        FileEditor(edits).remove([b"/third"])
        edits.commit()
    os.unlink(os.path.join(directory, "gone"))
    for path in devices if solid else ():
        with open(path, "r+b") as image:
            ends = [0, *_data_pages(image.fileno()), os.path.getsize(path)]
            for start, end in zip(ends[::2], ends[1::2], strict=True):
                os.pwrite(image.fileno(), (NOISE * (end // MIB + 1))[start % MIB :][: end - start], start)
    return devices


@pytest.mark.parametrize(
    ("name", "profile", "count"),
    [
        *((name, "single", 1) for name in EDITS),
        *((name, "raid5", 3) for name in ("put", "shrink")),
        ("fsid", "raid1", 2),
    ],
)
def test_undo_brings_back_every_byte_and_hole(tmp_path: Path, name: str, profile: str, count: int) -> None:
    devices = make(str(tmp_path), profile, count, solid=name == "much")
    before, undo = state(devices), str(tmp_path / "undo")
    EDITS[name](devices, undo=undo)
    assert state(devices) != before
    undone(devices, undo)
    assert state(devices) == before


def back(devices: Sequence[str], undo: str) -> None:
    """Undo what an edit did that may have been cut off before it did anything."""
    if os.path.exists(undo):
        try:
            undone(devices, undo)
        except CorruptError as error:  # nothing has been overwritten then
            if "is no undo file" not in str(error):
                raise


@pytest.mark.parametrize(
    ("name", "profile", "count"), [("put", "raid5", 3), ("much", "raid1", 2), ("shrink", "single", 1)]
)
def test_killed_at_any_call_an_edit_can_be_undone(tmp_path: Path, name: str, profile: str, count: int) -> None:
    devices = make(str(tmp_path), profile, count, solid=name == "much")
    before, undo = state(devices), str(tmp_path / "undo")
    number, step = 0, 1 if LONG else 5
    while killed_at(number, partial(EDITS[name], devices, undo=undo)):
        back(devices, undo)
        assert state(devices)[:2] == before[:2], number
        if os.path.exists(undo):
            os.unlink(undo)
        number += step
    assert number > 10


def test_killed_at_any_call_an_undo_can_be_done_again(tmp_path: Path) -> None:
    devices, undo = make(str(tmp_path), "raid1", 2), str(tmp_path / "undo")
    before = state(devices)
    grow(devices, undo=undo)
    after = images.copy_sparse([*devices, undo], str(tmp_path / "after"))
    number = 0
    while killed_at(number, partial(undone, devices, undo)):
        if number % 2 == 0:
            killed_at(number // 2, partial(undone, devices, undo))
        undone(devices, undo)
        assert state(devices)[:2] == before[:2], number
        images.copy_sparse(after, str(tmp_path))
        number += 1 if LONG else 7
    assert number > 10


# Power cuts: of each file what was synced is there, and of the rest some pages


def _content(path: str) -> bytes:
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as file:
        return file.read()


class Disk:
    """Files as a machine that stops may leave them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.durable = {path: bytearray(_content(path)) for path in paths}
        self.waiting: dict[str, list[Call]] = {path: [] for path in paths}

    def see(self, call: Call) -> None:
        if call.path not in self.durable:
            return
        if call.what == "sync":
            for each in self.waiting[call.path]:
                _apply(self.durable[call.path], each)
            self.waiting[call.path].clear()
        else:
            self.waiting[call.path].append(call)

    def cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return what is there after a power cut now."""
        left = {}
        for path, durable in self.durable.items():
            data = bytearray(durable)
            for call in self.waiting[path]:
                for page in _pages(call):
                    if chance.random() < 0.5:
                        _apply(data, page)
            left[path] = bytes(data)
        return left


def _apply(data: bytearray, call: Call) -> None:
    if call.what == "cut":
        del data[call.length :]
        data.extend(bytes(call.length - len(data)))
        return
    content = call.data or bytes(call.length)
    data.extend(bytes(max(call.offset + len(content) - len(data), 0)))
    data[call.offset : call.offset + len(content)] = content


def _pages(call: Call) -> list[Call]:
    if call.what != "write":
        return [call]
    return [
        call._replace(offset=call.offset + at, data=call.data[at : at + 4096]) for at in range(0, len(call.data), 4096)
    ]


@pytest.mark.parametrize("name", ["put", "much", "grow"])
def test_after_a_power_cut_at_any_call_undo_has_all_that_it_needs(tmp_path: Path, name: str) -> None:
    devices, undo = make(str(tmp_path), "single", 1, solid=name == "much"), str(tmp_path / "undo")
    copy = images.copy_sparse(devices, str(tmp_path / "cut"))
    saved = str(tmp_path / "cut" / "undo")
    before = state(devices)[:2]
    chance, cuts = random.Random(name), 0
    disk = Disk([*devices, undo])

    def cut(call: Call) -> None:
        nonlocal cuts
        disk.see(call)
        if LONG or chance.random() < 0.2 or call.what == "sync":
            cuts += 1
            left = disk.cut(chance)
            for path, data in zip((*copy, saved), left.values(), strict=True):
                with open(path, "wb") as file:
                    file.write(data)
            back(copy, saved)
            assert state(copy)[:2] == before

    with watched(lambda: None, _not_within(cut)):
        EDITS[name](devices, undo=undo)
    assert cuts > 3


def _not_within(hear: Callable[[Call], None]) -> Callable[[Call], None]:
    """Return *hear*, but for what it does itself."""
    busy = False

    def outside(call: Call) -> None:
        nonlocal busy
        if not busy:
            busy = True
            try:
                hear(call)
            finally:
                busy = False

    return outside


# Refusals


def test_what_was_changed_since_is_not_undone_without_force(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "single", 1)
    image, first, second = devices[0], str(tmp_path / "first"), str(tmp_path / "second")
    put(devices, undo=first)
    after_first = state(devices)
    label(devices, undo=second)
    refused = btrimg("undo", image, first)
    assert refused.returncode == 2
    assert "the image was changed after the edit" in refused.stderr
    assert btrimg("undo", image, second).returncode == 0
    assert state(devices) == after_first
    assert btrimg("undo", image, first).returncode == 0
    again = btrimg("undo", image, first)
    assert (again.returncode, again.stdout) == (0, "it was undone already: the image is as it was before the edit\n")
    label(devices, undo=str(tmp_path / "third"))
    assert "was undone already, and the image was changed" in btrimg("undo", image, first).stderr
    assert btrimg("undo", image, first, "--force").returncode == 0


def test_a_byte_that_the_edit_wrote_and_others_changed_is_told(tmp_path: Path) -> None:
    devices, undo = make(str(tmp_path), "single", 1), str(tmp_path / "undo")
    with open_image(devices) as image:
        at = image.volume.chunk_map.locate(image.tree(5).root.logical).copies[0].physical
    item(devices, undo=undo)
    with open(devices[0], "r+b") as file:
        file.seek(at)  # of the checksum
        file.write(b"else")
    with pytest.raises(RefusedError, match="bytes at"):
        undone(devices, undo)


def test_a_damaged_undo_file_is_told(tmp_path: Path) -> None:
    devices, undo = make(str(tmp_path), "single", 1), str(tmp_path / "undo")
    put(devices, undo=undo)
    with open(undo, "r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    with pytest.raises(CorruptError, match="is damaged at"):
        UndoReader(undo)
    with pytest.raises(CorruptError, match="is no undo file"):
        UndoReader(devices[0])
    os.truncate(undo, 20)
    with UndoReader(undo) as reader, pytest.raises(NotFoundError, match="saved nothing"):
        UndoFile(reader).assign([])


def test_an_undo_file_is_never_overwritten(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "single", 1)
    for _ in range(2):
        label(devices)
        put_back = state(devices)
        with session(devices) as edits:
            edits.write_pieces(label_pieces(edits.image, b"third"))
        assert state(devices) != put_back
    assert sorted(name for name in os.listdir(tmp_path) if "undo" in name) == [
        "0.img.undo", "0.img.undo.2", "0.img.undo.3", "0.img.undo.4",
    ]  # fmt: skip
    with pytest.raises(DeviceError, match="exists; name a new file"):
        label(devices, undo=str(tmp_path / "0.img.undo"))


def test_devices_are_found_in_any_order_and_all_are_needed(tmp_path: Path) -> None:
    devices, undo = make(str(tmp_path), "raid1", 2), str(tmp_path / "undo")
    before = state(devices)
    put(devices, undo=undo)
    with pytest.raises(NotFoundError, match="is about 2 devices"):
        undone(devices[:1], undo)
    moved = [shutil.move(path, str(tmp_path / f"moved{number}")) for number, path in enumerate(devices)]
    undone(moved[::-1], undo)
    assert state(moved) == before


def test_an_image_in_use_is_refused(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "single", 1)
    before = state(devices)
    with open(devices[0], "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match="is being written by another program"):
            put(devices)
    assert state(devices) == before
    assert not os.path.exists(f"{devices[0]}.undo")


@pytest.mark.kernel
def test_an_image_that_is_mounted_or_attached_is_refused(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "single", 1)
    with kernel.loop_devices(devices), pytest.raises(DeviceError, match="is attached to /dev/loop"):
        put(devices)
    with kernel.mount(devices, read_only=True), pytest.raises(DeviceError, match="unmount"):
        put(devices)


# What is not committed, or refused


def test_what_fails_or_is_aborted_leaves_every_byte(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "raid5", 3)
    before = state(devices)
    with session(devices) as edits:
        FileEditor(edits).put([str(tmp_path / "source").encode()], b"/new", Storage(), (0, 0), None)
        for devid in edits.sink.devices:
            edits.sink.pwrite(devid, 20 * MIB, NOISE)
        edits.sink.sync()
        assert state(devices) != before
    assert state(devices) == before
    assert not [name for name in os.listdir(tmp_path) if "undo" in name]


def test_blocks_of_a_transaction_that_was_aborted_are_read_no_more(tmp_path: Path) -> None:
    with session(make(str(tmp_path), "single", 1)) as edits:
        for name in (b"one", b"two"):  # in blocks at the same addresses, of the same generation
            FileEditor(edits).make_directories([b"/" + name], parents=False, mode=None, owner=None)
            txn = edits.transaction()
            txn.flush(TreeId.FS_TREE)
            ends = {payload[-3:] for _, payload in txn.tree(TreeId.FS_TREE).items()}
            assert ends & {b"one", b"two"} == {name}
            edits.abort()


def set_item(devices: Sequence[str], words: list[str], manner: Manner = Manner(), **how: object) -> None:  # noqa: B008
    with session(devices, **how) as edits:
        ItemEditor(edits).set(words, manner)
        edits.commit()


def test_items_that_make_the_image_worse_are_refused_unless_forced(tmp_path: Path) -> None:
    devices, undo = make(str(tmp_path), "single", 1), str(tmp_path / "undo")
    before = state(devices)
    for words, manner in (
        (["5", "257.INODE_ITEM", "nlink=7"], Manner()),
        (["5", "257.INODE_ITEM", "nlink=7"], Manner(in_place=True)),
        (["super", "total_bytes=5"], Manner()),
    ):
        with pytest.raises(WorseError, match="would make the image worse"):
            set_item(devices, words, manner)
        assert state(devices) == before
    set_item(devices, ["5", "257.INODE_ITEM", "nlink=7"], undo=undo, force=True)
    assert complaints_of_btrimg(devices) != []
    set_item(devices, ["5", "257.INODE_ITEM", "uid=7"])  # what was wrong before does not keep from other edits
    undone(devices, f"{devices[0]}.undo")
    undone(devices, undo)
    assert state(devices) == before


def test_a_commit_of_very_many_blocks_is_checked_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = make(str(tmp_path), "single", 1)
    monkeypatch.setattr(judge, "_MOST_BLOCKS", 1 << 15)
    seen: list[bool] = []

    def complain(*_: object, moved: bool, **__: object) -> list[str]:
        seen.append(moved)
        return ["one"]

    monkeypatch.setattr(worse, "new_faults", complain)
    before = state(devices)
    with pytest.raises(WorseError, match="worse: one"):
        put(devices)
    assert (seen, state(devices)) == ([True], before)
    monkeypatch.setattr(worse, "new_faults", lambda *_, **__: [])
    put(devices)
    assert complaints_of_btrimg(devices) == []


def changed_leaf(superblock: Superblock, edits: Session, change: Callable[[bytes], bytes], key_type: int) -> None:
    """Change the new leaf that has an item of a type, in what waits to be written, and seal it."""
    for piece in list(edits.writes()):
        for at in range(0, len(piece.after), 16384):
            block = piece.after[at : at + 16384]
            header = Header.unpack(block.ljust(Header.SIZE, b"\0"))
            if header.generation == superblock.generation and key_type in [key.type for key in leaf.keys_of(block)]:
                changed = seal(change(block), edits.image.volume.csum)
                edits.sink.pwrite(piece.devid, piece.physical + at, changed)


def of_item(key_type: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return what changes the payload of the last item of a type."""

    def changed(data: bytes) -> bytes:
        slot = max(number for number, key in enumerate(leaf.keys_of(data)) if key.type == key_type)
        return leaf.with_payload(data, slot, change(leaf.payload_of(data, slot)))

    return changed


def one_more(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] + 1]) + data[at + 1 :]


WRONG = {
    "used": (ItemType.BLOCK_GROUP_ITEM, of_item(ItemType.BLOCK_GROUP_ITEM, one_more(1)), "block group"),
    "references": (ItemType.EXTENT_ITEM, of_item(ItemType.EXTENT_ITEM, one_more(0)), "references"),
    "size": (ItemType.INODE_ITEM, of_item(ItemType.INODE_ITEM, lambda data: data + b"\0"), "cannot be"),
    "csums": (ItemType.EXTENT_CSUM, of_item(ItemType.EXTENT_CSUM, one_more(-1)), "checksums"),
    "address": (ItemType.EXTENT_DATA, of_item(ItemType.EXTENT_DATA, one_more(22)), "data extent"),
    "header": (ItemType.EXTENT_DATA, one_more(80), "generation is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_commit_whose_accounts_are_wrong_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    devices = make(str(tmp_path), "single", 1)
    before = state(devices)
    key_type, change, sentence = WRONG[name]
    with session(devices) as edits:
        files = FileEditor(edits)
        files.put([str(tmp_path / "source").encode()], b"/new", Storage(), (0, 0), None)
        wrong = partial(changed_leaf, edits=edits, change=change, key_type=key_type)
        edits.transaction().before_superblocks.insert(0, wrong)
        with pytest.raises(WorseError, match=sentence):
            edits.commit()
        files.close()
    assert state(devices) == before


def test_a_dry_run_writes_nothing_and_tells_all(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "single", 1)
    before, names = state(devices), sorted(os.listdir(tmp_path))
    with session(devices, dry_run=True) as edits:
        files = FileEditor(edits)
        files.put([str(tmp_path / "source").encode()], b"/new", Storage(), (0, 0), None)
        edits.commit()
        files.close()
        assert edits.image.open(b"/new").read(0, MIB) == NOISE[: 300 << 10]
        planned = {(piece.devid, piece.physical): piece for piece in edits.writes()}
        assert any(change.key.type == 84 for change in edits.item_changes)
    assert (state(devices), sorted(os.listdir(tmp_path))) == (before, names)
    put_only(devices, tmp_path)
    with open(devices[0], "rb") as file:
        for piece in planned.values():
            file.seek(piece.physical)
            assert file.read(len(piece.after)) == piece.after


def put_only(devices: Sequence[str], tmp_path: Path) -> None:
    with session(devices) as edits:
        FileEditor(edits).put([str(tmp_path / "source").encode()], b"/new", Storage(), (0, 0), None)
        edits.commit()


def test_a_backup_is_made_before(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "single", 1)
    before, backup = state(devices), str(tmp_path / "backup")
    label(devices, backup=backup)
    assert state([backup])[:2] == before[:2]
    with pytest.raises(DeviceError, match="backup exists"):
        put(devices, backup=backup)


class Grown:
    """An image that was edited and grown, and all that the undo file has; its repr is short."""

    def __init__(self, image: str, records: list[UndoRecord]) -> None:
        self.image, self.records = image, records


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    devices = make(str(tmp_path_factory.mktemp("grown")), "single", 1)
    undo = f"{devices[0]}.undo"
    with session(devices, undo=undo) as edits:
        FileEditor(edits).remove([b"/old"])
        edits.commit()
        resize(edits, parse_new_size("64M"))
    with UndoReader(undo) as reader:
        records = list(reader.records())
    assert {Kind.DATA, Kind.HOLE, Kind.SIZE, Kind.AFTER, Kind.STATE} < {record.kind for record in records}
    return Grown(devices[0], records)


NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 4096, 1 << 20, 2**63 - 1, 2**64 - 1])
CHANGES = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(list(Kind))}),
    st.fixed_dictionaries({"devid": NUMBERS}),
    st.fixed_dictionaries({"physical": NUMBERS}),
    st.fixed_dictionaries({"length": NUMBERS}),
    st.fixed_dictionaries({"payload": st.binary(max_size=60)}),
    st.none(),  # it is not there
)


@settings(max_examples=50)
@given(changes=st.lists(st.tuples(st.sampled_from(list(Kind)), st.integers(0, 9), CHANGES), min_size=1, max_size=3))
def test_a_forged_undo_file_is_told_or_undone(
    grown: Grown, changes: list[tuple[Kind, int, dict[str, Any] | None]]
) -> None:
    forged = list(grown.records)
    for kind, number, change in changes:
        places = [at for at, record in enumerate(forged) if record.kind == kind] or [0]
        at = places[number % len(places)]
        forged[at : at + 1] = [] if change is None else [forged[at]._replace(**change)]
    with TemporaryDirectory() as directory:
        copy, undo = os.path.join(directory, "image"), os.path.join(directory, "undo")
        kernel.run("cp", "--sparse=always", grown.image, copy)
        with open(undo, "wb") as file:
            file.write(MAGIC + b"".join(record.pack() for record in forged))
        for force in ((), ("--force",)):
            with suppress(BtrimgError), redirect_stdout(StringIO()):
                main.run(["undo", copy, undo, "--dry-run", *force])
                assert main.run(["undo", copy, undo, *force]) == 0


# Where an undo file cannot be written


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file be written behind *size* bytes, as on a disk that is full."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.parametrize("room", [0, 100, 8192])
def test_without_room_for_the_undo_file_nothing_is_changed(tmp_path: Path, room: int) -> None:
    devices = make(str(tmp_path), "single", 1)
    before = state(devices)
    with files_end_at(room), pytest.raises(DeviceError, match=r"cannot save .*0\.img\.undo: File too large"):
        put(devices)
    assert state(devices) == before
    assert not os.path.exists(f"{devices[0]}.undo")


def test_a_session_goes_on_when_there_is_room_again_and_all_of_it_is_undone(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "single", 1)
    before, undo = state(devices), str(tmp_path / "undo")

    def change(edits: Session, name: bytes) -> None:
        FileEditor(edits).put([str(tmp_path / "source").encode()], name, Storage(), (0, 0), None)
        edits.commit()

    with session(devices, undo=undo) as edits:
        change(edits, b"/first")
        for torn in (1, 10, 20):
            with files_end_at(os.path.getsize(undo) + torn), pytest.raises(DeviceError, match="cannot save"):
                change(edits, b"/lost")
        change(edits, b"/second")
        with files_end_at(os.path.getsize(undo)):
            edits.close()  # what it says of the end is not needed
    assert complaints_of_btrimg(devices) == []
    undone(devices, undo)
    assert state(devices) == before


def test_what_cannot_be_taken_back_at_once_stays_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = make(str(tmp_path), "single", 1)
    before, undo = state(devices), str(tmp_path / "undo")

    def fail(*_: object) -> None:
        raise DeviceError("cannot write 0.img: Input/output error")

    with monkeypatch.context() as patch, session(devices, undo=undo) as edits:
        edits.sink.pwrite(1, 8 * MIB, b"new")
        edits.sink.sync()
        patch.setattr("btrimg.volume.restore.write_back", fail)
        with pytest.raises(DeviceError, match=rf"output error; .*`btrimg undo` .* {undo}"):
            edits.abort()
    assert state(devices) != before
    undone(devices, undo)
    assert state(devices) == before


def test_an_undo_file_is_beside_the_device_that_is_named_first(tmp_path: Path) -> None:
    devices = make(str(tmp_path), "raid1", 2)
    put(devices[::-1])
    assert [name for name in os.listdir(tmp_path) if "undo" in name] == ["1.img.undo"]


def test_what_was_saved_beside_a_check_that_refuses_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, undo = make(str(tmp_path), "single", 1), tmp_path / "undo"
    before, written = state(devices), []

    def refuse(*_: object) -> list[str]:
        while not undo.stat().st_size:  # until all of it is saved
            time.sleep(0.001)
        return ["one"]

    monkeypatch.setattr(judge, "faults_of_commit", refuse)
    monkeypatch.setattr(DeviceSink, "pwrite", lambda *each: written.append(each))
    with session(devices, undo=str(undo)) as edits:
        for name in (b"/first", b"/second"):
            FileEditor(edits).put([str(tmp_path / "source").encode()], name, Storage(), (0, 0), None)
            with pytest.raises(WorseError, match="worse: one"):
                edits.commit()
            assert (undo.exists(), written) == (False, [])
    assert state(devices) == before


def test_what_cannot_be_saved_beside_a_check_ends_the_commit(tmp_path: Path) -> None:
    devices, undo = make(str(tmp_path), "single", 1), str(tmp_path / "undo")
    before = state(devices)
    with session(devices, undo=undo) as edits:
        FileEditor(edits).put([str(tmp_path / "source").encode()], b"/new", Storage(), (0, 0), None)
        with files_end_at(100), pytest.raises(DeviceError, match="cannot save what is to be overwritten"):
            edits.commit()
        assert not os.path.exists(undo)
    assert state(devices) == before


@pytest.mark.parametrize("refused", [True, False])
def test_of_an_edit_that_is_large_the_rest_is_written_beside_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    devices, undo = make(str(tmp_path), "single", 1), str(tmp_path / "undo")
    before, done, beside = state(devices), list[str](), list[str]()

    def note(what: str, call: Callable[..., None]) -> Callable[..., None]:
        def noted(*given: Any) -> None:
            call(*given)
            done.append(f"{what} {given[2]}" if what == "write" and given[2] in SUPERBLOCK_OFFSETS else what)

        return noted

    def judged(*_: object) -> list[str]:
        assert edits.sink.partly
        while done[-1:] != ["durable"]:
            time.sleep(0.001)
        beside.extend(done)
        return ["one"] if refused else []

    monkeypatch.setattr("btrimg.edit.session._FEW", 0)
    monkeypatch.setattr(saving, "_HELD", MIB // 4)
    monkeypatch.setattr(judge, "faults_of_commit", judged)
    monkeypatch.setattr(UndoWriter, "sync", note("saved", UndoWriter.sync))
    monkeypatch.setattr(DeviceSink, "pwrite", note("write", DeviceSink.pwrite))
    monkeypatch.setattr(DeviceSink, "sync", note("durable", DeviceSink.sync))
    (tmp_path / "large").write_bytes(NOISE)
    with session(devices, undo=undo) as edits:
        FileEditor(edits).put([str(tmp_path / "large").encode()], b"/new", Storage(), (0, 0), None)
        with pytest.raises(WorseError, match="worse: one") if refused else nullcontext():
            edits.commit()
    assert beside[0] == "saved"
    assert beside[-2:] == ["write", "durable"]
    assert beside.count("saved") > 1
    assert all(each in ("saved", "write", "durable") for each in beside)  # no superblock
    if refused:
        assert not os.path.exists(undo)
    else:
        assert done[len(beside) :].count("write 65536") == 1
        assert complaints_of_btrimg(devices) == []
        undone(devices, undo)
    assert state(devices) == before

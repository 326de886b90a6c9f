"""Random changes of files, directories and subvolumes, against a plain model; then both checks judge the image."""

from __future__ import annotations

import random
import re
import stat
from contextlib import closing
from copy import deepcopy
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.judges import complaints
from support.populate import COLLIDING

from btrimg.errors import RefusedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import Compression, InodeFlag, ItemType, TreeId
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.fresh import fresh_devices
from btrimg.volume.sink import DeviceSink
from btrimg.write import contents, fileextents, inodes, moves, names, reflink, subvolumes, xattrs
from btrimg.write.begin import begin
from btrimg.write.data import DataSink
from btrimg.write.fileextents import Storage
from btrimg.write.files import Files
from btrimg.write.mkfs import make_filesystem
from btrimg.write.options import new_options
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

SECTOR = 4096
TOP = subvolumes.TOP_DIRECTORY
NAMES = (*COLLIDING[:4], b"a", b"b", b"\xff" * 3, b"n" * 255)
SIZES = (0, 1, 100, 2048, 2049, 4095, 4096, 4097, 8192, 12_000, 40_000, 140_000)
LARGE = 8 << 20  # bytes of a file; more are left alone
KINDS = (Compression.NONE, Compression.NONE, Compression.ZLIB, Compression.LZO, Compression.ZSTD)


class File:
    """What is no directory, as the model has it."""

    def __init__(self, *, summed: bool, regular: bool = True) -> None:
        self.data, self.summed, self.nlink, self.regular = bytearray(), summed, 1, regular
        self.xattrs: dict[bytes, bytes] = {}

    @classmethod
    def of(cls, inode: Inode) -> File:
        """Return the model of an inode that is there; one too large to be compared counts as not regular."""
        small = inode.is_regular and inode.item.size < LARGE
        file = cls(summed=inode.checksummed, regular=small)
        file.data = bytearray(inode.read(0, LARGE) if small else b"")
        file.nlink, file.xattrs = inode.item.nlink, inode.xattrs()
        return file


class World:
    """A filesystem and the model of it: for each subvolume, a directory of names -> inode or subvolume, and files.

    The numbers given to each operation choose among what is there; what makes no sense must be refused.
    """

    def __init__(self, txn: Any) -> None:
        self._txn, self._sink, self._seeds = txn, DataSink(txn), count()
        self._files = {int(TreeId.FS_TREE): Files(txn, TreeId.FS_TREE)}
        #: subvolume -> ino of a directory -> name -> (is it a subvolume, ino or id)
        self.directories: dict[int, dict[int, dict[bytes, tuple[bool, int]]]] = {5: {TOP: {}}}
        self.contents: dict[int, dict[int, File]] = {5: {}}

    def learn(self, image: Image) -> None:
        """Make the model that of a filesystem that holds files already."""
        for subvolume in image.subvolumes():
            number = subvolume.id
            self._files.setdefault(number, Files(self._txn, number))
            self.directories[number], self.contents[number] = {}, {}
            self._learn(image.open(b"/", subvolume=number))

    def _learn(self, directory: Inode) -> None:
        number = directory.subvolume.id
        entries = self.directories[number][directory.ino] = {}
        for entry, child in directory.entries():
            where = entry.location
            entries[entry.name] = where.type == ItemType.ROOT_ITEM, where.objectid
            if where.type == ItemType.ROOT_ITEM:
                continue
            if child.is_directory:
                self._learn(child)
            else:
                self.contents[number][where.objectid] = File.of(child)

    def commit(self) -> None:
        self._sink.flush()
        self._txn.commit()

    def close(self) -> None:
        self._sink.close()

    # What there is to choose from

    def _directory(self, pick: int) -> tuple[Files, int, dict[bytes, tuple[bool, int]]]:
        every = [(number, ino) for number, tree in self.directories.items() for ino in tree]
        number, ino = every[pick % len(every)]
        return self._files[number], ino, self.directories[number][ino]

    def _entry(self, pick: int, *, subvolume: bool | None = None) -> tuple[Files, int, bytes, int] | None:
        every = [
            (number, ino, name, where[1])
            for number, tree in self.directories.items()
            for ino, entries in tree.items()
            for name, where in entries.items()
            if subvolume is None or where[0] == subvolume
        ]
        if not every:
            return None
        number, directory, name, leads_to = every[pick % len(every)]
        return self._files[number], directory, name, leads_to

    def _file(self, pick: int) -> tuple[Files, int, File] | None:
        every = [
            (number, ino, file)
            for number, tree in self.contents.items()
            for ino, file in tree.items()
            if file.regular and len(file.data) < LARGE
        ]
        if not every:
            return None
        number, ino, file = every[pick % len(every)]
        return self._files[number], ino, file

    def _storage(self, pick: int) -> Storage:
        return Storage(self._sink, KINDS[pick % len(KINDS)], pieces=1 + pick % 3)

    def _fresh(self, size: int) -> bytes:
        chance = random.Random(next(self._seeds))
        if chance.random() < 0.5:
            return chance.randbytes(size)
        return (b"%d of them, " % chance.randrange(10**6) * (size // 8 + 1))[:size]

    # Operations

    def create(self, a: int, b: int, c: int) -> None:
        files, directory, entries = self._directory(a)
        name = NAMES[b % len(NAMES)]
        if name in entries:
            with pytest.raises(RefusedError, match="already"):
                names.enter(files, directory, name, TOP, inodes.file_type(stat.S_IFREG))
            return
        summed = c % 5 > 0
        flags = 0 if summed else InodeFlag.NODATASUM | (InodeFlag.NODATACOW if c % 2 else 0)
        ino = inodes.create(files, stat.S_IFREG | 0o644, flags=flags)
        names.enter(files, directory, name, ino, inodes.file_type(stat.S_IFREG))
        entries[name] = False, ino
        self.contents[files.id][ino] = File(summed=summed)
        contents.write(files, ino, 0, data := self._fresh(SIZES[c % len(SIZES)]), self._storage(c))
        self.contents[files.id][ino].data = bytearray(data)

    def make_directory(self, a: int, b: int, _c: int) -> None:
        files, directory, entries = self._directory(a)
        name = NAMES[b % len(NAMES)]
        if name in entries or len(self.directories[files.id]) > 40:
            return
        ino = inodes.create(files, stat.S_IFDIR | 0o755)
        names.enter(files, directory, name, ino, inodes.file_type(stat.S_IFDIR))
        entries[name] = False, ino
        self.directories[files.id][ino] = {}

    def write(self, a: int, b: int, c: int) -> None:
        if not (found := self._file(a)):
            return
        files, ino, file = found
        offset, data = b % (len(file.data) + 3 * SECTOR), self._fresh(SIZES[c % len(SIZES)])
        contents.write(files, ino, offset, data, self._storage(c))
        if data:
            file.data.extend(bytes(max(offset + len(data) - len(file.data), 0)))
            file.data[offset : offset + len(data)] = data

    def truncate(self, a: int, b: int, c: int) -> None:
        if found := self._file(a):
            files, ino, file = found
            size = SIZES[b % len(SIZES)] if c % 2 else b % (len(file.data) + 2 * SECTOR)
            contents.truncate(files, ino, size, self._storage(c))
            file.data = file.data[:size].ljust(size, b"\0")

    def punch(self, a: int, b: int, c: int) -> None:
        if found := self._file(a):
            files, ino, file = found
            offset = b % (len(file.data) + SECTOR)
            end = offset + c % (4 * SECTOR)
            contents.punch(files, ino, offset, end - offset, self._storage(c))
            stop = min(end, len(file.data))
            if stop > offset:
                file.data[offset:stop] = bytes(stop - offset)

    def preallocate(self, a: int, b: int, c: int) -> None:
        if found := self._file(a):
            files, ino, file = found
            offset, length = b % (len(file.data) + 2 * SECTOR), c % (5 * SECTOR)
            keep = bool(c % 2)
            contents.preallocate(files, ino, offset, length, self._storage(c), keep_size=keep)
            if length and not keep:
                file.data.extend(bytes(max(offset + length - len(file.data), 0)))

    def clone(self, a: int, b: int, c: int) -> None:
        origin, found = self._file(a), self._file(b)
        if not origin or not found:
            return
        size, length = len(origin[2].data), c % 5 * SECTOR
        offset = a // 7 % (size // SECTOR + 1) * SECTOR
        at = b // 7 % (len(found[2].data) // SECTOR + 3) * SECTOR
        if length == 0 or offset + length > size:
            length = size - offset if c % 3 else 0
        self._clone(origin, offset, length, found, at, c)

    def _clone(
        self,
        origin: tuple[Files, int, File],
        offset: int,
        length: int,
        found: tuple[Files, int, File],
        at: int,
        c: int,
    ) -> None:
        source, target = origin[2].data, found[2].data
        real = length or len(source) - offset
        end = at + real
        span = -(-real // SECTOR) * SECTOR
        overlap = origin[2] is found[2] and offset < at + span and at < offset + span
        partial_sector = real % SECTOR and (offset + real != len(source) or end < len(target))
        change = partial(reflink.clone_range, *origin[:2], offset, length, *found[:2], at, self._storage(c))
        if overlap or partial_sector or origin[2].summed != found[2].summed:
            with pytest.raises(RefusedError):
                change()
            return
        change()
        if real:
            target.extend(bytes(max(end - len(target), 0)))
            target[at:end] = source[offset : offset + real]

    def clone_whole(self, a: int, b: int, c: int) -> None:
        found = self._file(a)
        files, directory, entries = self._directory(b)
        name = NAMES[c % len(NAMES)]
        if not found or name in entries:
            return
        size, pieces = reflink.whole(found[0], found[1])
        ino = files.new_ino()
        nbytes = fileextents.lay(files, ino, size, pieces)
        flags = inodes.read(found[0], found[1]).flags
        inodes.create(files, stat.S_IFREG | 0o600, ino=ino, size=size, nbytes=nbytes, flags=flags)
        names.enter(files, directory, name, ino, inodes.file_type(stat.S_IFREG))
        entries[name] = False, ino
        copy = self.contents[files.id][ino] = File(summed=found[2].summed)
        copy.data = bytearray(found[2].data)

    def link(self, a: int, b: int, c: int) -> None:
        if not (found := self._file(a)):
            return
        files, ino, file = found
        inos = list(self.directories[files.id])
        directory = inos[b % len(inos)]
        entries, name = self.directories[files.id][directory], NAMES[c % len(NAMES)]
        if name not in entries:
            names.link(files, directory, name, ino)
            entries[name] = False, ino
            file.nlink += 1

    def unlink(self, a: int, _b: int, _c: int) -> None:
        if not (found := self._entry(a, subvolume=False)):
            return
        files, directory, name, ino = found
        if ino in self.directories[files.id]:
            if self.directories[files.id][ino]:
                with pytest.raises(RefusedError, match="not empty"):
                    names.remove_directory(files, directory, name)
                return
            names.remove_directory(files, directory, name)
            del self.directories[files.id][ino]
        else:
            names.unlink(files, directory, name)
            self._unlinked(files.id, ino)
        del self.directories[files.id][directory][name]

    def _unlinked(self, number: int, ino: int) -> None:
        file = self.contents[number][ino]
        file.nlink -= 1
        if not file.nlink:
            del self.contents[number][ino]

    def rename(self, a: int, b: int, c: int) -> None:
        if not (found := self._entry(a, subvolume=False)):
            return
        files, directory, name, ino = found
        tree = self.directories[files.id]
        new_directory = list(tree)[b % len(tree)]
        new_name = NAMES[c % len(NAMES)]
        other = tree[new_directory].get(new_name)
        if self._refuses(files.id, ino, new_directory, other):
            with pytest.raises(RefusedError):
                moves.rename(files, directory, name, new_directory, new_name)
            return
        moves.rename(files, directory, name, new_directory, new_name)
        if other == (False, ino):
            return
        if other and other[1] in tree:
            del tree[other[1]]
        elif other:
            self._unlinked(files.id, other[1])
        tree[new_directory][new_name] = tree[directory].pop(name)

    def _refuses(self, number: int, ino: int, new_directory: int, other: tuple[bool, int] | None) -> bool:
        tree = self.directories[number]
        inside, pending = set[int](), [ino]
        while pending:
            inside.add(at := pending.pop())
            pending += [where for subvolume, where in tree.get(at, {}).values() if not subvolume]
        if ino in tree and new_directory in inside:
            return True
        if other is None or other == (False, ino):
            return False
        return other[0] or (other[1] in tree) != (ino in tree) or bool(tree.get(other[1]))

    def set_xattr(self, a: int, b: int, c: int) -> None:
        if found := self._file(a):
            name, value = b"user." + NAMES[b % 6], self._fresh(c % 400)
            xattrs.set_value(found[0], found[1], name, value)
            found[2].xattrs[name] = value

    def remove_xattr(self, a: int, b: int, _c: int) -> None:
        found = self._file(a)
        if found and found[2].xattrs:
            name = sorted(found[2].xattrs)[b % len(found[2].xattrs)]
            xattrs.remove(found[0], found[1], name)
            del found[2].xattrs[name]

    def make_subvolume(self, a: int, b: int, _c: int) -> None:
        files, directory, entries = self._directory(a)
        name = NAMES[b % len(NAMES)]
        if name not in entries and len(self.directories) < 16:
            made = subvolumes.create(files, directory, name)
            self._files[made.id], self.directories[made.id], self.contents[made.id] = made, {TOP: {}}, {}
            entries[name] = True, made.id

    def snapshot(self, a: int, b: int, c: int) -> None:
        files, directory, entries = self._directory(a)
        name = NAMES[b % len(NAMES)]
        if name in entries or len(self.directories) > 16:
            return
        source = list(self.directories)[c % len(self.directories)]
        made = subvolumes.snapshot(self._files[source], files, directory, name)
        self._files[made.id] = made
        self.directories[made.id] = deepcopy(self.directories[source])
        self.contents[made.id] = deepcopy(self.contents[source])
        entries[name] = True, made.id

    def delete_subvolume(self, a: int, _b: int, _c: int) -> None:
        if not (found := self._entry(a, subvolume=True)):
            return
        files, directory, name, number = found
        if self._hangs_at(number) != (files.id, directory, name):  # a snapshot shows it
            subvolumes.delete(files, directory, name)
        elif any(self._hangs_at(other)[0] == number for other in self.directories if other != TreeId.FS_TREE):
            with pytest.raises(RefusedError, match="in it: delete that first"):
                subvolumes.delete(files, directory, name)
            return
        else:
            subvolumes.delete(files, directory, name)
            del self._files[number], self.directories[number], self.contents[number]
        del self.directories[files.id][directory][name]

    def _hangs_at(self, number: int) -> tuple[int, int, bytes]:
        place = subvolumes.place_of(self._txn, number)
        return (place.parent, place.directory, place.name) if place else (0, 0, b"")

    def flush(self, a: int, b: int, _c: int) -> None:
        if b % 3:
            self._txn.flush(list(self.directories)[a % len(self.directories)])
        else:
            self.commit()

    # Afterwards

    def compare(self, top: Inode) -> None:
        """Assert that the filesystem is what the model is."""
        self._compare_directory(top, TreeId.FS_TREE, TOP)

    def _compare_directory(self, inode: Inode, number: int, ino: int) -> None:
        expected = self.directories[number][ino]
        found = {entry.name: child for entry, child in inode.entries()}
        assert found.keys() == expected.keys()
        assert inode.item.size == sum(2 * len(name) for name in expected)
        for name, (is_subvolume, where) in expected.items():
            child = found[name]
            if is_subvolume:
                if not child.is_placeholder:
                    self._compare_directory(child, where, TOP)
            elif where in self.directories[number]:
                self._compare_directory(child, number, where)
            else:
                file = self.contents[number][where]
                assert (child.ino, child.item.nlink) == (where, file.nlink)
                assert not file.regular or child.read(0, 2 * LARGE) == file.data
                assert child.xattrs() == file.xattrs


OPERATIONS = [name for name in vars(World) if name[0] != "_" and name not in ("learn", "commit", "close", "compare")]
NUMBERS = st.integers(0, 1 << 20)
CHOICES: list[dict[str, Any]] = [{}, {"features": ["^no-holes"], "nodesize": 4096}]


@pytest.mark.progs
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    operations=st.lists(st.tuples(st.sampled_from(OPERATIONS), NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=60),
    choices=st.sampled_from(CHOICES),
)
def test_files_are_what_a_model_of_them_is(
    operations: list[tuple[str, int, int, int]], choices: dict[str, Any], tmp_path: Path
) -> None:
    image, uuids, now = str(tmp_path / "image"), seeded(b"model"), Timespec(1_700_000_000, 9)
    options = new_options([256 << 20], uuids, **choices)
    with fresh_devices([image], [256 << 20], force=True) as fresh:
        made = make_filesystem(options, fresh.devices, fresh.sink, now=now, uuids=uuids, warn=_never)
        with made as txn:
            world = World(txn)
            try:
                for name, *numbers in operations:
                    getattr(world, name)(*numbers)
                world.commit()
            finally:
                world.close()
    with open_image(image, warn=_never) as opened:
        world.compare(opened.open(b"/"))
    assert complaints([image]) == []


def kinds_of_complaints(devices: Sequence[str]) -> set[str]:
    """Return complaints without their numbers, and not those of lowmem mode, which objects to extended references."""
    return {re.sub(r"\d+|[0-9a-f-]{36}", "", each) for each in complaints(devices) if "(lowmem)" not in each}


@pytest.mark.kernel
@pytest.mark.progs
def test_files_that_the_kernel_wrote_are_changed_as_a_model_of_them_is(
    kernel_image: Callable[..., KernelImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BTRIMG_PROGS", raising=False)  # later ones object to what mkfs.btrfs 6.2 leaves
    chance = random.Random(4)
    devices = kernel_image(profile="raid1", compression="zstd").copy(str(tmp_path))
    before = kinds_of_complaints(devices)  # mkfs.btrfs 6.2 leaves heads of free space without block groups
    with open_image(devices, warn=_never) as image, DeviceSink(image.volume.devices) as sink:
        txn = begin(image, sink, now=Timespec(1_800_000_000, 9), uuids=seeded(b"changed"))
        world = World(txn)
        try:
            world.learn(image)
            for _ in range(300):
                getattr(world, chance.choice(OPERATIONS))(*(chance.randrange(1 << 40) for _ in range(3)))
            world.commit()
        finally:
            world.close()
    with open_image(devices, warn=_never) as image:
        world.compare(image.open(b"/"))
    assert kinds_of_complaints(devices) <= before


def _never(message: str) -> None:
    raise AssertionError(message)


@pytest.mark.progs
def test_where_holes_have_items_nothing_is_reserved_behind_inline_data(tmp_path: Path) -> None:
    """btrfs check --mode=lowmem finds a gap between the two, also in what the kernel writes."""
    image, uuids, now = str(tmp_path / "image"), seeded(b"reserved"), Timespec(1_700_000_000, 9)
    options = new_options([256 << 20], uuids, features=["^no-holes"])
    with fresh_devices([image], [256 << 20]) as fresh:
        made = make_filesystem(options, fresh.devices, fresh.sink, now=now, uuids=uuids, warn=_never)
        with made as txn, closing(DataSink(txn)) as sink:
            files, storage = Files(txn, TreeId.FS_TREE), Storage(sink)
            ino = inodes.create(files, stat.S_IFREG | 0o644)
            names.enter(files, TOP, b"small", ino, inodes.file_type(stat.S_IFREG))
            contents.write(files, ino, 0, b"inline" * 300, storage)
            contents.preallocate(files, ino, 1000, 70_000, storage)
            txn.commit()
    with open_image(image, warn=_never) as opened:
        small = opened.open(b"/small")
        assert [(row.offset, row.kind) for row in small.extents()] == [(0, "regular"), (4096, "prealloc")]
        assert small.read(0, 80_000) == (b"inline" * 300).ljust(71_000, b"\0")
    assert complaints([image]) == []

"""Directories of the host as a source: judged by what the host says of them."""

from __future__ import annotations

import os
import random
import resource
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support import kernel

from btrimg.build.directory import Selection, read_directory
from btrimg.build.entries import PIECE, clock
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from btrimg.build.entries import Entry

SECTOR = 4096


def read(top: Path | bytes, **selection: object) -> list[tuple[Entry, dict[int, bytes]]]:
    """Return every entry with its content: offset -> bytes."""
    entries = read_directory(os.fsencode(top), SECTOR, Selection(**selection))  # type: ignore[arg-type]
    return [(entry, dict(entry.pieces)) for entry in entries]


def by_path(top: Path, **selection: object) -> dict[bytes, Entry]:
    return {entry.path: entry for entry, _ in read(top, **selection)}


def fill(path: Path, names: str) -> None:
    """Make the files of *names*, and the directories, which end in a slash."""
    for name in names.split():
        if name.endswith("/"):
            (path / name).mkdir(parents=True)
        else:
            (path / name).write_text(name)


def test_files_come_before_directories_in_the_order_of_bytes(tmp_path: Path) -> None:
    fill(tmp_path, "b/ b/z/ b/z/1 b/a b-1 a Z é a/".replace(" a/", " c/"))
    paths = [entry.path for entry, _ in read(tmp_path)]
    assert paths == [b"", b"Z", b"a", b"b-1", "é".encode(), b"b", b"b/a", b"b/z", b"b/z/1", b"c"]


def test_an_entry_says_what_the_host_says(tmp_path: Path) -> None:
    fill(tmp_path, "file dir/")
    os.symlink(b"to\xff", os.fsencode(tmp_path / "link"))
    os.mkfifo(tmp_path / "fifo")
    os.utime(tmp_path / "file", ns=(-1, 4_294_967_296_123_456_789))
    (tmp_path / "file").chmod(0o4751)
    os.setxattr(tmp_path / "file", "user.b", b"\0\xff")
    os.setxattr(tmp_path / "file", "user.a", b"")
    os.setxattr(tmp_path / "dir", "user.d", b"d")
    paths = [os.fsencode(path) for path in (tmp_path, *sorted(tmp_path.iterdir()))]
    before = {path: os.lstat(path) for path in paths}  # reading a symlink's text changes its access time
    entries = by_path(tmp_path)
    assert len(entries) == len(before) == 5
    for path, entry in entries.items():
        host = os.path.join(paths[0], path) if path else paths[0]
        found = before[host]
        assert (entry.mode, entry.owner) == (found.st_mode, (found.st_uid, found.st_gid))
        created = kernel.stat(host).btime or found.st_mtime_ns
        assert entry.times == clock(found.st_atime_ns, found.st_ctime_ns, found.st_mtime_ns, created)
    assert entries[b"file"].times[:2] == (-1, 999_999_999)
    assert entries[b"file"].times[4:6] == (4_294_967_296, 123_456_789)
    assert entries[b"file"].xattrs == ((b"user.a", b""), (b"user.b", b"\0\xff"))
    assert entries[b"dir"].xattrs == ((b"user.d", b"d"),)
    assert entries[b"link"].target == b"to\xff"
    assert stat.S_ISFIFO(entries[b"fifo"].mode)


@pytest.mark.kernel
def test_devices_and_labels_of_links_are_read(tmp_path: Path) -> None:
    os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
    os.symlink("x", tmp_path / "link")
    os.setxattr(tmp_path / "link", "trusted.l", b"1", follow_symlinks=False)
    os.setxattr(tmp_path / "disk", "security.x", b"2")
    os.chown(tmp_path / "link", 70_001, 70_002, follow_symlinks=False)
    entries = by_path(tmp_path)
    assert entries[b"disk"].device == (259, 70_000)
    assert entries[b"disk"].xattrs == ((b"security.x", b"2"),)
    assert entries[b"link"].xattrs == ((b"trusted.l", b"1"),)
    assert entries[b"link"].owner == (70_001, 70_002)


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    fill(tmp_path, "d/ d/file")
    for path in (tmp_path / "d/file", tmp_path / "d"):
        os.utime(path, ns=(1, 10**18))
    read(tmp_path)
    assert (tmp_path / "d").stat().st_atime_ns == 1
    assert (tmp_path / "d/file").stat().st_atime_ns == 1


def test_content_comes_in_pieces_and_holes_do_not(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(2 * PIECE + 100)
    (tmp_path / "a-large").write_bytes(content)
    (tmp_path / "b-empty").write_bytes(b"")
    with open(tmp_path / "c-sparse", "wb") as file:
        os.pwrite(file.fileno(), b"x" * 5000, 1 << 20)
        os.pwrite(file.fileno(), b"y", 3 << 20)
        os.ftruncate(file.fileno(), 10 << 30)
    with open(tmp_path / "d-hole", "wb") as file:
        os.ftruncate(file.fileno(), 1 << 40)
    found = {entry.path: (entry.size, pieces) for entry, pieces in read(tmp_path)}
    assert found[b"a-large"] == (
        len(content),
        {0: content[:PIECE], PIECE: content[PIECE : 2 * PIECE], 2 * PIECE: content[2 * PIECE :]},
    )
    assert found[b"b-empty"] == (0, {})
    assert found[b"c-sparse"] == (
        10 << 30,
        {1 << 20: (b"x" * 5000).ljust(8192, b"\0"), 3 << 20: b"y".ljust(4096, b"\0")},
    )
    assert found[b"d-hole"] == (1 << 40, {})


def test_data_of_a_sparse_file_are_widened_to_sectors_of_the_image(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        for at in (70_000, 80_000, 200_000):
            os.pwrite(file.fileno(), b"x", at)
        os.ftruncate(file.fileno(), 10 << 20)
    (_, entry) = read_directory(os.fsencode(tmp_path), 65536, Selection())
    # the walk is over, but what was opened can be read while its entry is the last one
    entries = read_directory(os.fsencode(tmp_path), 65536, Selection())
    next(entries)
    pieces = dict(next(entries).pieces)
    assert entry.size == 10 << 20
    assert {at: len(data) for at, data in pieces.items()} == {65536: 65536, 196_608: 65536}
    assert pieces[65536][70_000 - 65536] == ord("x")


def test_further_names_of_a_file_name_the_first_one(tmp_path: Path) -> None:
    fill(tmp_path, "z/ z/1 a")
    os.symlink("x", tmp_path / "s")
    for first, further in (("a", "b"), ("a", "z/2"), ("z/1", "z/3"), ("s", "z/s")):
        os.link(tmp_path / first, tmp_path / further, follow_symlinks=False)
    links = {entry.path: entry.same_as for entry, _ in read(tmp_path) if entry.same_as}
    assert links == {b"b": b"a", b"z/2": b"a", b"z/3": b"z/1", b"z/s": b"s"}


def test_neither_depth_nor_open_files_are_a_limit(tmp_path: Path) -> None:
    depth, name = 300, "n" * 40
    fds = [os.open(tmp_path, os.O_RDONLY)]
    for _ in range(depth):
        os.mkdir(name, dir_fd=fds[-1])
        fds.append(os.open(name, os.O_RDONLY, dir_fd=fds.pop()))
    os.close(os.open("deepest", os.O_CREAT | os.O_WRONLY, dir_fd=fds[0]))
    os.close(fds[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
    try:
        paths = [entry.path for entry, _ in read(tmp_path)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(paths) == depth + 2
    assert paths[-1] == b"/".join([name.encode()] * depth + [b"deepest"])


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        (b"*.o", "a a/b a/b/x.c b x.c"),
        (b"b", "a a/x.o x.c x.o"),
        (b"/b", "a a/b a/b/x.c a/b/x.o a/x.o x.c x.o"),
        (b"a/*", "a b x.c x.o"),
        (b"*/*/x.?", "a a/b a/x.o b x.c x.o"),
        (b"a/b/", "a a/x.o b x.c x.o"),
        (b"[ab]", "x.c x.o"),
    ],
)
def test_what_is_excluded_is_left_out_with_all_that_is_below_it(tmp_path: Path, pattern: bytes, left: str) -> None:
    fill(tmp_path, "a/ a/b/ a/b/x.c a/b/x.o a/x.o b/ x.c x.o")
    assert sorted(by_path(tmp_path, exclude=[pattern])) == [b"", *os.fsencode(left).split()]


def test_owners_and_times_can_be_overruled(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    os.utime(tmp_path / "old", ns=(5, 7))
    entries = by_path(tmp_path, owner=(3, 4), latest=10**18)
    assert {entry.owner for entry in entries.values()} == {(3, 4)}
    assert entries[b"old"].times == (0, 5, 10**9, 0, 0, 7, 10**9, 0)
    assert entries[b""].times == (10**9, 0) * 4


def test_what_is_being_written_is_left_out_with_a_warning(tmp_path: Path) -> None:
    fill(tmp_path, "image file")
    found = os.stat(tmp_path / "image")
    selection, warnings = Selection(without={(found.st_dev, found.st_ino)}), list[str]()
    entries = list(read_directory(os.fsencode(tmp_path), SECTOR, selection, warnings.append))
    assert [entry.path for entry in entries] == [b"", b"file"]
    assert warnings == [f"{str(tmp_path / 'image')!a} is left out: it is what is being written"]


@pytest.mark.kernel
def test_other_filesystems_are_entered_unless_that_is_not_wanted(tmp_path: Path) -> None:
    fill(tmp_path, "mnt/ z")
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "mnt"], check=True)
    try:
        (tmp_path / "mnt/inside").write_text("")
        (tmp_path / "mnt/sub").mkdir()
        assert sorted(by_path(tmp_path)) == [b"", b"mnt", b"mnt/inside", b"mnt/sub", b"z"]
        assert sorted(by_path(tmp_path, one_filesystem=True)) == [b"", b"mnt", b"z"]
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True)


# Errors


@contextmanager
def refused(path: Path, why: str) -> Iterator[None]:
    with pytest.raises(BtrimgError) as caught:
        yield
    assert str(caught.value).startswith(f"{str(path)!a} {why}") or str(caught.value) == (
        f"cannot read {str(path)!a}: {why}"
    )


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    with refused(tmp_path / "file", "Not a directory"):
        read(tmp_path / "file")
    with refused(tmp_path / "nowhere", "No such file or directory"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("what", ["file", "directory/"])
def test_what_cannot_be_read_is_named(what: str) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        name = os.path.join(top, what.rstrip("/"))
        if what.endswith("/"):
            os.mkdir(name, 0o700)
        else:
            os.close(os.open(name, os.O_CREAT, 0o600))
        os.chmod(name, 0)
        if os.geteuid() == 0:
            os.seteuid(nobody)
            try:
                with pytest.raises(BtrimgError, match="Permission denied") as caught:
                    read(os.fsencode(top))
            finally:
                os.seteuid(0)
        else:
            with pytest.raises(BtrimgError, match="Permission denied") as caught:
                read(os.fsencode(top))
            os.chmod(name, 0o700)
        assert str(caught.value) == f"cannot read {name!a}: Permission denied"


def test_what_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a gone z/ z/below/ z/below/deep/")
    entries = read_directory(os.fsencode(tmp_path), SECTOR, Selection())
    while next(entries).path != b"a":
        pass
    (tmp_path / "gone").unlink()
    with refused(tmp_path / "gone", "vanished while it was read"):
        next(entries)

    (tmp_path / "large").write_bytes(bytes(2 * PIECE))
    entries = read_directory(os.fsencode(tmp_path), SECTOR, Selection())
    entry = next(entry for entry in entries if entry.path == b"large")
    os.truncate(tmp_path / "large", PIECE + 5)
    with refused(tmp_path / "large", "became shorter while it was read"):
        list(entry.pieces)

    entries = read_directory(os.fsencode(tmp_path), SECTOR, Selection())
    while next(entries).path != b"z/below/deep":
        pass
    (tmp_path / "z/below").rename(tmp_path / "elsewhere")
    with refused(tmp_path / "z", "was moved while it was read"):
        next(entries)


def test_a_file_in_whose_place_a_fifo_stands_makes_nobody_wait(tmp_path: Path) -> None:
    fill(tmp_path, "a b")
    entries = read_directory(os.fsencode(tmp_path), SECTOR, Selection())
    while next(entries).path != b"a":
        pass
    (tmp_path / "b").unlink()
    os.mkfifo(tmp_path / "b")
    with refused(tmp_path / "b", "is no regular file any more while it was read"):
        next(entries)

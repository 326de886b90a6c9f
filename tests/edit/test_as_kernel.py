"""Verbs leave what the running kernel leaves: each is done by both, on copies of an image that the kernel wrote."""

from __future__ import annotations

import fcntl
import os
import random
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import images, kernel, odd
from support.judges import complaints, complaints_of_btrimg
from support.program import btrimg
from support.truth import record

from btrimg.cli.command import load_from
from btrimg.cli.verbs import VERBS, Context
from btrimg.edit.session import Session
from btrimg.filesystem.image import open_image
from btrimg.ondisk.inodes import Timespec
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.truth import Entry

NOW = Timespec(4_000_000_000, 7)  # later than anything that the kernel does
SECOND = 10**9
NOISE = random.Random("edit").randbytes(1 << 20)
BLOCK = 4096


class Change(NamedTuple):
    """One change: words of a verb, and how the kernel does the same; HOST stands for a directory of the host."""

    words: str
    by_kernel: Callable[[str, str], Any]  # of where it is mounted, and HOST


def run(*command: str) -> None:
    kernel.run(*command)


def set_flags(path: str, *, add: int = 0, remove: int = 0) -> None:
    """Change flags by the ioctl of chattr."""
    with kernel.opened(path) as fd:
        flags = struct.unpack_from("=I", fcntl.ioctl(fd, 0x80086601, bytes(8)))[0]
        fcntl.ioctl(fd, 0x40086602, struct.pack("=II", flags & ~remove | add, 0))


def flags_of(path: bytes) -> int:
    with kernel.opened(path) as fd:
        return int(struct.unpack_from("=I", fcntl.ioctl(fd, 0x80086601, bytes(8)))[0])


def write(path: str, offset: int, data: bytes) -> None:
    with kernel.opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, data, offset)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """Return an access control list; -1 stands for no id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


NAMING = access_list((1, 7, -1), (2, 6, 1000), (4, 5, -1), (8, 7, 100), (16, 6, -1), (32, 1, -1))
PLAIN = access_list((1, 6, -1), (4, 5, -1), (32, 1, -1))
ACCESS = "system.posix_acl_access"


def set_list(path: str, value: bytes) -> None:
    os.setxattr(path, ACCESS, value)


def make(path: str) -> None:
    """Make an empty file, as a shell does."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))


def clone_new(source: str, path: str) -> None:
    make(path)
    kernel.clone(source, path)


def punched(name: str, offset: int, length: int) -> Change:
    """Punch a hole where there is one already."""
    mode = kernel.PUNCH_HOLE | kernel.KEEP_SIZE
    return Change(
        f"punch -o {offset} -l {length} /hollow/{name}",
        lambda top, _: kernel.fallocate(f"{top}/hollow/{name}", mode, offset, length),
    )


CHANGES = [
    Change("mkdir /plain/new", lambda top, _: os.mkdir(f"{top}/plain/new", 0o755)),
    Change("mkdir -p /plain/x/y/z /plain", lambda top, _: run("mkdir", "-p", f"{top}/plain/x/y/z", f"{top}/plain")),
    Change("mkdir -m 700 /setgid/below", lambda top, _: run("mkdir", f"{top}/setgid/below", "-m", "2700")),
    Change("mkdir /zstd/below", lambda top, _: os.mkdir(f"{top}/zstd/below", 0o755)),
    Change("put HOST/tree /plain/tree", lambda top, host: run("cp", "-a", f"{host}/tree", f"{top}/plain/tree")),
    Change("put HOST/tree /plain/x", lambda top, host: run("cp", "-a", f"{host}/tree", f"{top}/plain/x")),
    Change("put HOST/tree/. /plain/new", lambda top, host: run("cp", "-a", f"{host}/tree/.", f"{top}/plain/new")),
    Change(
        "put HOST/small HOST/mega /plain/x/y",
        lambda top, host: run("cp", "-a", f"{host}/small", f"{host}/mega", f"{top}/plain/x/y"),
    ),
    Change("put HOST/text /zstd/below", lambda top, host: run("cp", "-a", f"{host}/text", f"{top}/zstd/below")),
    Change("put HOST/text /nocow/text", lambda top, host: run("cp", "-a", f"{host}/text", f"{top}/nocow/text")),
    Change("put HOST/mega /to-plain/mega", lambda top, host: run("cp", "-a", f"{host}/mega", f"{top}/plain/mega")),
    Change("put HOST/small /sub/small", lambda top, host: run("cp", "-a", f"{host}/small", f"{top}/sub/small")),
    Change("rm /plain/doomed /plain/linked", lambda top, _: run("rm", f"{top}/plain/doomed", f"{top}/plain/linked")),
    Change("rm -r /plain/forest", lambda top, _: run("rm", "-r", f"{top}/plain/forest")),
    Change("mv /plain/old /plain/renamed", lambda top, _: run("mv", f"{top}/plain/old", f"{top}/plain/renamed")),
    Change("mv /plain/small /plain/x", lambda top, _: run("mv", f"{top}/plain/small", f"{top}/plain/x")),
    Change("mv /plain/x/y /setgid", lambda top, _: run("mv", f"{top}/plain/x/y", f"{top}/setgid")),
    Change("ln /plain/file /plain/hard", lambda top, _: run("ln", f"{top}/plain/file", f"{top}/plain/hard")),
    Change("ln -s ../to /plain/soft", lambda top, _: os.symlink("../to", f"{top}/plain/soft")),
    Change("write HOST/small /plain/file --offset 4K", lambda top, _: write(f"{top}/plain/file", 4096, NOISE[:8192])),
    Change("truncate -s 8K /plain/cut", lambda top, _: run("truncate", "-s", "8192", f"{top}/plain/cut")),
    Change("truncate -s 3M /plain/grown", lambda top, _: run("truncate", "-s", "3M", f"{top}/plain/grown")),
    Change(
        "punch -o 64K -l 128K /plain/punched",
        lambda top, _: kernel.fallocate(f"{top}/plain/punched", kernel.PUNCH_HOLE | kernel.KEEP_SIZE, 65536, 131072),
    ),
    *(punched("all", 4096, 4096), punched("some", 131_077, 10), punched("some-2", 2 << 20, 4096)),
    *(punched("inline", 4096, 100), punched("inline-2", 200, 100), punched("inline-3", 50, 4096)),
    punched("empty", 0, 4096),
    Change(
        "reflink /plain/file /plain/clone",
        lambda top, _: run("cp", "--reflink=always", f"{top}/plain/file", f"{top}/plain/clone"),
    ),
    Change(
        "reflink /plain/file@64K+16K /plain/clone@256K",
        lambda top, _: kernel.clone_range(f"{top}/plain/file", 65536, 16384, f"{top}/plain/clone", 262144),
    ),
    Change(
        "reflink /plain/grown /zstd/clone",
        lambda top, _: run("cp", "--reflink=always", f"{top}/plain/grown", f"{top}/zstd/clone"),
    ),
    Change(
        "reflink /plain/file /setgid/clone",
        lambda top, _: run("cp", "--reflink=always", f"{top}/plain/file", f"{top}/setgid/clone"),
    ),
    Change("subvolume create /plain/sv", lambda top, _: kernel.create_subvolume(os.fsencode(f"{top}/plain/sv"))),
    Change("subvolume create /nocow/sv", lambda top, _: kernel.create_subvolume(os.fsencode(f"{top}/nocow/sv"))),
    Change("subvolume create /zstd/sv", lambda top, _: kernel.create_subvolume(os.fsencode(f"{top}/zstd/sv"))),
    Change(
        "chattr compression=lzo /nocow/sv",
        lambda top, _: os.setxattr(f"{top}/nocow/sv", "btrfs.compression", b"lzo"),
    ),
    Change("mkdir /nocow/sv/in", lambda top, _: os.mkdir(f"{top}/nocow/sv/in")),
    Change("chattr -compress /nocow/sv/in", lambda top, _: set_flags(f"{top}/nocow/sv/in", remove=4)),
    Change(
        "subvolume create /nocow/sv/in/sv", lambda top, _: kernel.create_subvolume(f"{top}/nocow/sv/in/sv".encode())
    ),
    Change("put HOST/small /plain/sv", lambda top, host: run("cp", "-a", f"{host}/small", f"{top}/plain/sv")),
    Change("snapshot /sub /plain/snap", lambda top, _: snapshot(top, "sub", "plain/snap", read_only=False)),
    Change("snapshot -r /sub /plain", lambda top, _: snapshot(top, "sub", "plain/sub", read_only=True)),
    Change("snapshot / /plain/top", lambda top, _: snapshot(top, ".", "plain/top", read_only=False)),
    Change("mv /plain/sv /setgid/moved", lambda top, _: run("mv", f"{top}/plain/sv", f"{top}/setgid/moved")),
    Change("mv /cross/dir /sub/dir", lambda top, _: run("mv", f"{top}/cross/dir", f"{top}/sub/dir")),
    Change("mv /cross/1 /cross/2 /sub", lambda top, _: run("mv", f"{top}/cross/1", f"{top}/cross/2", f"{top}/sub")),
    Change("mv /sub/inside /cross/taken", lambda top, _: run("mv", f"{top}/sub/inside", f"{top}/cross/taken")),
    Change("mv /cross/full /sub/empty", lambda top, _: run("mv", f"{top}/cross/full", f"{top}/sub/empty")),
    Change("subvolume delete /doomed", lambda top, _: kernel.delete_subvolume(os.fsencode(f"{top}/doomed"))),
    Change(
        "set-default /sub",
        lambda top, _: kernel.set_default_subvolume(top, kernel.subvolume_id(os.fsencode(f"{top}/sub"))),
    ),
    Change("chattr readonly=true /sub", lambda top, _: run("btrfs", "property", "set", f"{top}/sub", "ro", "true")),
    Change("chmod u=rwx,g+s,o-r /plain/file", lambda top, _: run("chmod", "u=rwx,g+s,o-r", f"{top}/plain/file")),
    Change("chmod 4755 /plain/suid", lambda top, _: run("chmod", "4755", f"{top}/plain/suid")),
    Change("chmod 2755 /plain/sgid", lambda top, _: run("chmod", "2755", f"{top}/plain/sgid")),
    Change("chown 5:6 /plain/sgid", lambda top, _: run("chown", "5:6", f"{top}/plain/sgid")),
    Change("chown 1000 /plain/suid2", lambda top, _: run("chown", "1000", f"{top}/plain/suid2")),
    Change("chown :77 /setgid", lambda top, _: run("chown", ":77", f"{top}/setgid")),
    Change("touch /plain/touched /zstd/made", lambda top, _: run("touch", f"{top}/plain/touched", f"{top}/zstd/made")),
    Change(
        "touch --atime 1 --mtime 1234567890.123456789 /plain/file",
        lambda top, _: os.utime(f"{top}/plain/file", ns=(SECOND, 1234567890123456789)),
    ),
    Change("touch -t 5 /plain", lambda top, _: os.utime(f"{top}/plain", ns=(5 * SECOND, 5 * SECOND))),
    Change("chattr +nodatacow /plain/x", lambda top, _: set_flags(f"{top}/plain/x", add=0x800000)),
    Change("chattr +C /plain/touched", lambda top, _: set_flags(f"{top}/plain/touched", add=0x800000)),
    Change("chattr +compress,+noatime /plain/cut", lambda top, _: set_flags(f"{top}/plain/cut", add=0x84)),
    Change("chattr +nocompress /zstd/made", lambda top, _: set_flags(f"{top}/zstd/made", add=0x400, remove=4)),
    Change("chattr -compress /zstd/below", lambda top, _: set_flags(f"{top}/zstd/below", remove=4)),
    Change("chattr +iA /plain/hard", lambda top, _: set_flags(f"{top}/plain/hard", add=0x90)),
    Change(
        "chattr compression=lzo /plain/grown",
        lambda top, _: os.setxattr(f"{top}/plain/grown", "btrfs.compression", b"lzo"),
    ),
    Change("chattr compression= /zstd", lambda top, _: os.setxattr(f"{top}/zstd", "btrfs.compression", b"")),
    Change("xattr set /plain/cut user.a value", lambda top, _: os.setxattr(f"{top}/plain/cut", "user.a", b"value")),
    Change("mkdir /listed/new", lambda top, _: os.mkdir(f"{top}/listed/new")),
    Change("mkdir -p /listed/new/x/y", lambda top, _: os.makedirs(f"{top}/listed/new/x/y")),
    Change("mkdir -m 2750 /listed/said", lambda top, _: run("mkdir", "-m", "2750", f"{top}/listed/said")),
    Change("mkdir -m 700 /modes/said", lambda top, _: run("mkdir", "-m", "700", f"{top}/modes/said")),
    Change("mkdir /modes/new", lambda top, _: os.mkdir(f"{top}/modes/new")),
    Change("touch /listed/made", lambda top, _: make(f"{top}/listed/made")),
    Change("touch /modes/made", lambda top, _: make(f"{top}/modes/made")),
    Change("ln -s x /listed/soft", lambda top, _: os.symlink("x", f"{top}/listed/soft")),
    Change("put HOST/small /listed/new/x", lambda top, host: run("cp", "-a", f"{host}/small", f"{top}/listed/new/x")),
    Change("put HOST/tree /listed", lambda top, host: run("cp", "-a", f"{host}/tree", f"{top}/listed")),
    Change(
        "reflink /plain/file /listed/clone",
        lambda top, _: clone_new(f"{top}/plain/file", f"{top}/listed/clone"),
    ),
    Change("mv /cross/stays /listed", lambda top, _: run("mv", f"{top}/cross/stays", f"{top}/listed")),
    Change("subvolume create /listed/sv", lambda top, _: kernel.create_subvolume(os.fsencode(f"{top}/listed/sv"))),
    Change("subvolume create /modes/sv", lambda top, _: kernel.create_subvolume(os.fsencode(f"{top}/modes/sv"))),
    Change("chmod 751 /listed/made", lambda top, _: os.chmod(f"{top}/listed/made", 0o751)),
    Change("chown 3:4 /listed/clone", lambda top, _: os.chown(f"{top}/listed/clone", 3, 4)),
    Change(f"xattr set /plain/cut {ACCESS} --hex {NAMING.hex()}", lambda top, _: set_list(f"{top}/plain/cut", NAMING)),
    Change(f"xattr set /listed/new {ACCESS} --hex {PLAIN.hex()}", lambda top, _: set_list(f"{top}/listed/new", PLAIN)),
    Change(f"xattr remove /listed/said {ACCESS}", lambda top, _: os.removexattr(f"{top}/listed/said", ACCESS)),
    Change("xattr remove /plain/grown user.b", lambda top, _: os.removexattr(f"{top}/plain/grown", "user.b")),
]
"""In an order in which each finds what it needs."""
LISTED = {"listed": NAMING, "modes": PLAIN}  # directories with a default list each


def snapshot(top: str, source: str, path: str, *, read_only: bool) -> None:
    kernel.create_snapshot(os.fsencode(f"{top}/{source}"), os.fsencode(f"{top}/{path}"), read_only=read_only)


def fill(top: str) -> None:
    """Write what is there before."""
    for name in ("plain", "plain/forest", "plain/forest/deep", "setgid", "zstd", "nocow"):
        os.mkdir(f"{top}/{name}")
    for name in ("file", "cut", "grown", "punched", "doomed", "old", "suid", "sgid", "suid2", "forest/deep/leaf"):
        with open(f"{top}/plain/{name}", "wb") as file:
            file.write(NOISE[: 512 << 10])
    with open(f"{top}/plain/small", "wb") as file:
        file.write(b"few bytes")
    os.link(f"{top}/plain/small", f"{top}/plain/linked")
    os.symlink("plain", f"{top}/to-plain")
    os.chown(f"{top}/setgid", 3, 4)
    os.chmod(f"{top}/setgid", 0o2755)
    os.chmod(f"{top}/plain/suid2", 0o6755)
    os.setxattr(f"{top}/plain/suid2", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    os.setxattr(f"{top}/plain/grown", "user.b", b"value")
    kernel.set_compression(f"{top}/zstd", "zstd")
    kernel.set_nocow(f"{top}/nocow")
    for name in ("sub", "doomed"):
        kernel.create_subvolume(os.fsencode(f"{top}/{name}"))
        with open(f"{top}/{name}/inside", "wb") as file:
            file.write(NOISE[: 128 << 10])
    fill_crossing(top)
    for name, default in LISTED.items():
        os.mkdir(f"{top}/{name}")
        os.setxattr(f"{top}/{name}", "system.posix_acl_default", default)
    fill_hollow(top)
    for name in ("plain/file", "plain", "setgid", "sub/inside", "cross/dir/file", "cross/dir", "cross/full"):
        os.utime(f"{top}/{name}", ns=(1 * SECOND + 1, 2 * SECOND + 2))


def fill_hollow(top: str) -> None:
    """Write files with holes, which are punched where there is a hole already."""
    os.mkdir(f"{top}/hollow")
    sizes = {"all": 0, "some": 65536, "some-2": 65536, "inline": 100, "inline-2": 100, "inline-3": 100, "empty": 0}
    for name, size in sizes.items():
        with open(f"{top}/hollow/{name}", "wb") as file:
            file.write(NOISE[:size])
            if name.startswith(("all", "some")):
                file.truncate(1 << 20)
        os.utime(f"{top}/hollow/{name}", ns=(SECOND, SECOND))


def fill_crossing(top: str) -> None:
    """Write what is moved into another subvolume."""
    os.makedirs(f"{top}/cross/dir/deep/deeper")
    os.mkdir(f"{top}/cross/full")
    os.makedirs(f"{top}/sub/empty/full")
    for name, size in (("dir/file", 300 << 10), ("dir/deep/small", 100), ("full/in", 5000), ("1", 8192), ("taken", 9)):
        with open(f"{top}/cross/{name}", "wb") as file:
            file.write(NOISE[:size])
    os.truncate(f"{top}/cross/dir/file", 1 << 20)
    os.link(f"{top}/cross/dir/file", f"{top}/cross/dir/deep/hard")
    os.link(f"{top}/cross/dir/file", f"{top}/cross/stays")
    os.link(f"{top}/cross/1", f"{top}/cross/2")
    os.symlink("nowhere", f"{top}/cross/dir/soft")
    os.mkfifo(f"{top}/cross/dir/deep/deeper/pipe")
    os.mknod(f"{top}/cross/dir/null", 0o20644, os.makedev(1, 3))
    os.setxattr(f"{top}/cross/dir/file", "user.a", b"value")
    os.setxattr(f"{top}/cross/dir/deep", "user.b", b"")
    os.chown(f"{top}/cross/dir/file", 7, 8)
    os.chmod(f"{top}/cross/dir/file", 0o4750)
    os.chmod(f"{top}/cross/dir/deep", 0o2711)


def fill_host(host: str) -> None:
    """Write what is copied into the image."""
    os.makedirs(f"{host}/tree/empty")
    os.makedirs(f"{host}/tree/full")
    for name, data in (("small", NOISE[:8192]), ("mega", NOISE), ("text", b"a line of text\n" * 9000)):
        with open(f"{host}/{name}", "wb") as file:
            file.write(data)
        os.chmod(f"{host}/{name}", 0o4711)
        os.chown(f"{host}/{name}", 11, 12)
    for name in ("tree/1", "tree/full/2"):
        with open(f"{host}/{name}", "wb") as file:
            file.write(NOISE[:100])
    os.link(f"{host}/tree/1", f"{host}/tree/full/hard")
    os.symlink("1", f"{host}/tree/link")
    os.mkfifo(f"{host}/tree/pipe")
    with open(f"{host}/tree/holes", "wb") as file:
        file.seek(1 << 20)
        file.write(NOISE[: 64 << 10])
    set_times(host)


def set_times(host: str) -> None:
    """Give all that is copied the same times again: to read a file changes when it was read."""
    for directory, below, names in os.walk(host, topdown=False):
        for name in (*below, *names):
            os.utime(f"{directory}/{name}", ns=(3 * SECOND + 3, 4 * SECOND + 4), follow_symlinks=False)


class Left(NamedTuple):
    """What changes left at a path, without what chance decides: numbers of inodes, addresses, the time of day."""

    mode: int
    owner: tuple[int, int]
    nlink: int
    size: int
    blocks: int
    times: tuple[object, ...]  # of access, content, inode, creation; None for one while the changes were made
    xattrs: dict[bytes, bytes]
    target: bytes | None
    names: frozenset[bytes] | None
    sha256: str | None
    flags: int | None
    extents: tuple[tuple[object, ...], ...]  # offset, length, flags, and a number for what is shared


Of = dict[bytes, tuple[object, ...]]


def left_by(devices: Sequence[str], before: int) -> tuple[dict[bytes, Left], Of]:
    """Return what stands at every path, and what every subvolume says of itself."""
    with kernel.mount(devices, read_only=True) as top:
        truth = record(top)
        shared: dict[int, int] = {}

        def when(time_ns: int) -> int | None:
            return time_ns if time_ns < before else None

        def left(entry: Entry) -> Left:
            found = entry.stat
            plain = entry.target is None and (entry.names is not None or entry.content is not None)
            rows = [
                (row.offset, row.length, row.flags & ~1, shared.setdefault(row.logical, len(shared)))
                for row in entry.extents
            ]
            return Left(
                *(found.mode, (found.uid, found.gid), found.nlink, found.size, found.blocks),
                *(tuple(map(when, (found.atime, found.mtime, found.ctime, found.btime))), entry.xattrs),
                entry.target,
                None if entry.names is None else frozenset(entry.names),
                entry.sha256,
                flags_of(os.fsencode(top) + entry.path) if plain and not entry.is_placeholder else None,
                tuple(rows),
            )

        entries = {path: left(entry) for path, entry in sorted(truth.entries.items())}
        uuids = {each.info.uuid: each.path for each in truth.subvolumes.values()}
        subvolumes: Of = {
            path: (
                *(info.name, info.parent and truth.subvolumes[info.parent].path, info.flags),
                *(uuids.get(info.parent_uuid, info.parent_uuid), info.received_uuid),
                *(when(info.ctime), when(info.otime), info.stime, info.rtime),
            )
            for path, info in truth.subvolumes.values()
        }
        subvolumes[b"default"] = (kernel.run("btrfs", "subvolume", "get-default", top).split()[-1],)
        return entries, subvolumes


@pytest.mark.kernel
def test_verbs_leave_what_the_kernel_leaves(tmp_path: Path) -> None:
    host, before = str(tmp_path / "host"), 0
    fill_host(host)
    base = images.new_devices(str(tmp_path / "base"), 1, 256 * images.MIB)
    images.mkfs(base)
    with kernel.mount(base) as top:
        fill(top)
    theirs, ours = (images.copy_sparse(base, str(tmp_path / name)) for name in ("theirs", "ours"))
    time.sleep(0.01)  # the clock of file systems goes by ticks
    before = time.time_ns()
    time.sleep(0.01)
    with kernel.mount(theirs) as top:
        for change in CHANGES:
            set_times(host)
            change.by_kernel(top, host)
            kernel.sync(top)
    context = Context(lambda: Session(ours, undo=str(tmp_path / "undo"), now=NOW, uuids=seeded(b"edit")))
    for change in CHANGES:
        set_times(host)
        do(context, change.words.replace("HOST", host))
    context.commit()
    context.close()
    assert complaints(ours) == []
    expected, found = left_by(theirs, before), left_by(ours, before)
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    for path, each in expected[0].items():
        assert (path, found[0][path]) == (path, each)


def do(context: Any, line: str) -> int:
    """Do what the words of a verb say."""
    words = line.split(" ")
    count = 1 if (words[0],) in VERBS else 2
    verb = load_from(VERBS, tuple(words[:count]))
    given = verb.parse(words[count:])
    assert given is not None, line
    return verb.run(context, **given)


def test_what_shares_the_last_sector_of_the_longest_file_shares_all_of_it(tmp_path: Path) -> None:
    (device,) = odd.longest(str(tmp_path))
    done = btrimg("edit", device, "reflink", f"/data@{odd.LONGEST - BLOCK + 1}+100", "/shared")
    assert done.returncode == 0, done.stderr
    assert [found for found in complaints_of_btrimg([device]) if not found.startswith("free-space-info-orphan")] == []
    with open_image(device) as image:
        assert image.open(b"/shared").read(0, 200) == image.open(b"/data").read(odd.LONGEST - BLOCK + 1, 200)

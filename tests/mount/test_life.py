"""A mount begins when it is usable and ends when it is told to; what is wrong with an image is an error of one file."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.mounted import PATIENCE, has_helper, mounted, mounts, require_fuse, servers, within
from support.program import btrimg

from btrimg.filesystem.image import open_image
from btrimg.mount import system
from btrimg.mount.statistics import StatisticsSocket
from btrimg.volume.device import Device
from btrimg.volume.sink import DeviceSink

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _fuse() -> None:
    require_fuse()


def test_it_says_where_and_how_and_ends_with_the_mount(demo_image: str, point: str) -> None:
    done = btrimg("mount", demo_image, point)
    assert done.returncode == 0, done.stderr
    assert f"{demo_image} is mounted at {point}: files that share extents" in done.stdout
    assert len(mounts(point)) == 1
    assert " ro,nosuid,nodev" in mounts(point)[0]
    assert servers(point)
    done = btrimg("umount", point)
    assert (done.returncode, done.stderr) == (0, "")
    assert not servers(point)  # at once: it has waited


def test_what_is_mounted_is_not_written(forged: str, point: str) -> None:
    assert btrimg("mount", forged, point).returncode == 0
    for words in (
        ["edit", forged, "mkdir", "/new"],
        ["corrupt", forged, "--in-place", "/files/sparse.raw:INODE_ITEM/nlink=7"],
    ):
        done = btrimg(*words)
        assert (done.returncode, "or mounted by btrimg mount" in done.stderr) == (2, True), (words, done.stderr)
    assert btrimg("check", forged).returncode == 0, "nothing was changed"
    assert btrimg("edit", forged, "--dry-run", "mkdir", "/new").returncode == 0
    assert btrimg("umount", point).returncode == 0
    done = btrimg("edit", forged, "mkdir", "/new")
    assert done.returncode == 0, done.stderr


def test_it_can_be_mounted_twice_and_is_not_written_before_both_are_gone(
    forged: str, point: str, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    for where in point, second:
        assert btrimg("mount", forged, where).returncode == 0
    assert btrimg("umount", point).returncode == 0
    assert btrimg("edit", forged, "mkdir", "/new").returncode == 2
    assert btrimg("umount", second).returncode == 0
    assert btrimg("edit", forged, "mkdir", "/new").returncode == 0


def test_what_is_being_written_is_not_mounted(forged: str, point: str) -> None:
    with Device(forged) as device, DeviceSink({1: device}):
        done = btrimg("mount", forged, point)
    assert (done.returncode, "is being written by another program" in done.stderr) == (2, True)
    assert not mounts(point)


def test_a_killed_server_keeps_nobody_from_writing(forged: str, point: str) -> None:
    assert btrimg("mount", forged, point).returncode == 0
    for server in servers(point):
        os.kill(server, signal.SIGKILL)
    assert btrimg("umount", point).returncode == 0
    assert btrimg("edit", forged, "mkdir", "/new").returncode == 0


@pytest.mark.kernel
def test_a_mounted_block_device_is_not_written(forged: str, point: str) -> None:
    with kernel.loop_devices([forged]) as (device,):
        assert btrimg("mount", device, point).returncode == 0
        done = btrimg("edit", device, "--undo", forged + ".back", "mkdir", "/new")
        assert (done.returncode, "or mounted by btrimg mount" in done.stderr) == (2, True), done.stderr
        assert btrimg("umount", point).returncode == 0
        done = btrimg("edit", device, "--undo", forged + ".back", "mkdir", "/new")
        assert done.returncode == 0, done.stderr


def test_a_mount_is_found_by_a_link_to_its_directory(demo_image: str, point: str, tmp_path: Path) -> None:
    link = str(tmp_path / "link")
    os.symlink(point, link)
    assert btrimg("mount", demo_image, link).returncode == 0
    assert len(mounts(point)) == 1
    assert system.find(link).point == point
    assert btrimg("umount", link).returncode == 0
    assert not mounts(point)


def test_a_socket_to_which_nobody_listens_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(path)
    ours = StatisticsSocket(path, lambda: b"statistics")
    with pytest.raises(system.MountError, match="Address already in use"):
        StatisticsSocket(path, lambda: b"")
    ours.start()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        assert peer.makefile().read() == "statistics\n"
    ours.close()
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as peer:
        theirs.bind(path)
        theirs.listen(0)
        peer.connect(path)
        with pytest.raises(system.MountError, match="Address already in use"):  # although nobody accepts more
            StatisticsSocket(path, lambda: b"")
    (tmp_path / "file").touch()
    for taken, said in (tmp_path / "file", "in use"), (tmp_path / ("s" * 120), "too long"):
        with pytest.raises(system.MountError, match=said):
            StatisticsSocket(str(taken), lambda: b"")


def test_waiting_for_a_server_ends_with_the_last_of_its_processes(tmp_path: Path) -> None:
    where = str(tmp_path)
    held = system.occupy(where)
    assert held is not None
    worker = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(held,))
    os.close(held)
    with pytest.raises(system.MountError, match="its server still runs"):
        system.wait_until_left(where, 0.1)
    worker.communicate()
    system.wait_until_left(where, 0)


def test_sigterm_unmounts(demo_image: str, point: str) -> None:
    assert btrimg("mount", demo_image, point, "--json").returncode == 0
    os.kill(servers(point)[0], signal.SIGTERM)
    assert within(PATIENCE, lambda: not servers(point))
    assert not mounts(point)


def test_in_the_foreground_it_stops_at_an_interrupt(demo_image: str, point: str) -> None:
    command = [sys.executable, "-m", "btrimg", "mount", demo_image, point, "--foreground"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert "is mounted at" in server.stdout.readline()
        assert "vm" in os.listdir(point)
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0
    assert not mounts(point)


def test_a_server_that_was_killed_leaves_a_mount_that_a_lazy_umount_clears(demo_image: str, point: str) -> None:
    assert btrimg("mount", demo_image, point).returncode == 0
    with open(f"{point}/vm/disk.raw", "rb") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ) as view:
        assert len(view[:10]) == 10
        for server in servers(point):
            with suppress(ProcessLookupError):  # it has ended with the one killed before
                os.kill(server, signal.SIGKILL)
        assert within(PATIENCE, lambda: not servers(point))
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            os.listdir(point)
    assert btrimg("umount", point, "--lazy").returncode == 0
    assert not mounts(point)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor, one process that reads")
def test_what_a_process_that_was_killed_had_to_read_another_reads(tmp_path: Path) -> None:
    """An image in an image, whose server is stopped: so a read of the inner one hangs for as long as we want."""
    inner, outer, recipe = (str(tmp_path / name) for name in ("inner", "outer", "recipe.toml"))
    for image, text in (inner, _INNER), (outer, f'[[do]]\nfile = "/inner"\nhost = "{inner}"\n'):
        with open(recipe, "w", encoding="utf-8") as file:
            file.write(text)
        assert btrimg("build", recipe, "-o", image).returncode == 0
    with mounted([outer], "--share", "none") as below, mounted([f"{below}/inner"], "--share", "passthrough") as top:
        stopped, (server, *workers) = servers(below), sorted(servers(top))
        assert len(os.listdir(top)) == 3
        reader = [sys.executable, "-c", f"print(len(open({top + '/one'!r}, 'rb').read()))"]
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        assert within(PATIENCE, lambda: all(map(is_stopped, stopped)))
        with subprocess.Popen(reader, stdout=subprocess.PIPE, text=True) as reading:
            try:
                assert within(PATIENCE, lambda: any(waits(worker) for worker in workers))
                os.kill(next(filter(waits, workers)), signal.SIGKILL)
            finally:
                for process in stopped:
                    os.kill(process, signal.SIGCONT)
            said, _ = reading.communicate(timeout=PATIENCE)
            assert said == "100000\n"  # the kernel has asked again
        with open(f"{top}/two", "rb") as file:
            assert len(file.read()) == 100_000
        assert within(PATIENCE, lambda: len(servers(top)) == len(workers))
        assert within(PATIENCE, lambda: "has ended" in btrimg("cache", "top", top, "--json").stdout)
        for worker in servers(top):
            if worker != server:
                os.kill(worker, signal.SIGKILL)
        assert within(PATIENCE, lambda: not mounts(top))


_INNER = "".join(f'[[do]]\nfile = "/{name}"\nstamp = "{name}"\nsize = 100_000\n' for name in ("one", "two", "three"))


def is_stopped(process: int) -> bool:
    """Return whether all threads of a process have stopped: one that runs elsewhere goes on for a moment."""
    states = []
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/stat", encoding="ascii") as file:
            states.append(file.read().rpartition(")")[2].split()[0])
    return set(states) == {"T"}


def waits(process: int) -> bool:
    """Return whether a process waits for the stopped filesystem, in whatever function of FUSE that is."""
    with open(f"/proc/{process}/syscall", encoding="ascii") as file:
        return file.read().split()[0] in _READING


_READING = {str(number) for number in (17, 67, 295, 69, 327, 286)}  # pread64, preadv, preadv2; of x86-64, of others


def test_what_is_in_use_is_unmounted_lazily_only(demo_image: str, point: str) -> None:
    assert btrimg("mount", demo_image, point).returncode == 0
    with open(f"{point}/vm/disk.raw", "rb") as file:
        done = btrimg("umount", point)
        assert done.returncode == 2
        assert "--lazy" in done.stderr
        assert btrimg("umount", point, "--lazy").returncode == 0
        assert not mounts(point)
        assert len(file.read(1 << 20)) == 1 << 20  # whoever has it open still reads it
    assert within(PATIENCE, lambda: not servers(point))


def test_what_others_mounted_at_the_same_place_stays(demo_image: str, point: str) -> None:
    for over in (False, True):  # below ours, and over it
        try:
            if not over:
                kernel.run("mount", "-t", "tmpfs", "theirs", point)
            assert btrimg("mount", demo_image, point).returncode == 0
            ours = servers(point)
            if over:
                kernel.run("mount", "-t", "tmpfs", "theirs", point)
                os.kill(ours[0], signal.SIGTERM)
                assert within(PATIENCE, lambda: not servers(point))
            else:
                assert btrimg("umount", point).returncode == 0
                assert not servers(point)
            assert "theirs" in mounts(point)[-1]
            assert btrimg("umount", point).returncode == 1
        finally:
            while mounts(point):
                kernel.run("umount", "--lazy", point)


def test_an_idle_mount_uses_no_processor(demo_image: str, point: str) -> None:
    assert btrimg("mount", demo_image, point).returncode == 0
    assert "vm" in os.listdir(point)
    assert within(PATIENCE, lambda: stands_still(point))  # what it begins with may take a while


def stands_still(point: str) -> bool:
    before = [processor_time(server) for server in servers(point)]
    time.sleep(0.7)
    return [processor_time(server) for server in servers(point)] == before


def processor_time(process: int) -> int:
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime, stime, in ticks


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mount", "{image}", "{point}/nowhere"), "No such file or directory"),
        (("mount", "{image}", "{image}"), "Not a directory"),
        (("mount", "{image}", ""), "there is no directory without a name"),
        (("mount", "{image}:/vm", "{point}"), "--subvolume"),
        (("mount", "{image}", "{point}", "--subvolume", "999"), "there is no subvolume 999"),
        (("mount", "{image}", "{point}", "--share", "much"), "is none of auto"),
        (("mount", "{image}", "{point}", "--domain", "a,b"), "is no trust domain"),
        (("mount", "{point}/../mnt", "{point}"), ""),
        (("umount", "{point}"), "btrimg has mounted nothing at"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    words: tuple[str, ...], said: str, demo_image: str, point: str
) -> None:
    done = btrimg(*(word.format(image=demo_image, point=point) for word in words))
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not done.stdout
    assert not mounts(point)
    assert not servers(point)


def test_damaged_files_are_errors_and_the_rest_is_readable(forged: str, point: str) -> None:
    with open_image(forged) as image:
        inode = image.open(b"/vm/disk.raw")
        bad = next(row for row in inode.extents() if row.kind == "regular" and row.length >= 8192)
        good = {path: image.open(path).read(0, 1 << 20) for path in (b"/vm/disk.raw",)}
        places = inode.resolve(bad.offset + 4096).copies
        files = [entry.name for entry, child in image.open(b"/files").entries() if child.is_regular]
        others = {name: image.open(b"/files/" + name).read(0, 1 << 20) for name in files}
    with open(forged, "r+b") as device:
        for place in places:
            device.seek(place.physical)
            device.write(b"\xff" * 4096)
    assert btrimg("mount", forged, point).returncode == 0
    with open(f"{point}/vm/disk.raw", "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, bad.offset + 8192) is not None
        with pytest.raises(OSError) as failure:  # noqa: PT011 (the number says it)
            os.pread(file.fileno(), 4096, bad.offset + 4096)
        assert failure.value.errno == errno.EIO
        assert os.pread(file.fileno(), 4096, bad.offset) == good[b"/vm/disk.raw"][bad.offset : bad.offset + 4096]
    for name, content in others.items():
        with kernel.opened(os.fsencode(point) + b"/files/" + name) as fd:
            assert os.pread(fd, 1 << 20, 0) == content


@pytest.mark.parametrize("share", ["auto", "none"])
def test_without_its_top_directory_it_is_mounted_all_the_same(
    share: str, demo_image: str, point: str, tmp_path: Path
) -> None:
    bad = str(tmp_path / "bad")
    assert btrimg("corrupt", demo_image, "fs/256.INODE_ITEM=none", "--output", bad).returncode == 0
    done = btrimg("mount", bad, point, "--share", share)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(OSError) as failure:  # noqa: PT011 (the number says it)
        os.listdir(point)
    assert failure.value.errno == errno.EIO
    assert btrimg("umount", point).returncode == 0


def test_others_may_enter_and_not_see_the_statistics(demo_image: str) -> None:
    code = "import os, sys; print(os.listdir(sys.argv[1])); os.getxattr(sys.argv[1], 'btrimg.statistics')"
    with mounted([demo_image], "--allow-other") as top:
        command = ["/usr/bin/env", "python3", "-c", code, top]
        done = subprocess.run(command, user=_NOBODY, group=_NOBODY, cwd="/", capture_output=True, text=True)
        if done.returncode and "Permission" not in done.stderr:
            pytest.skip("this Python is for root only")
        assert "vm" in done.stdout
        assert "PermissionError" in done.stderr
        assert os.getxattr(top, "btrimg.statistics")


@pytest.mark.skipif(not has_helper(), reason="fusermount3 not found (package fuse3)")
def test_another_user_mounts_by_the_helper(demo_image: str) -> None:
    if not stat.S_IMODE(os.stat("/dev/fuse").st_mode) & 0o002:
        pytest.skip("/dev/fuse is for root only")
    with tempfile.TemporaryDirectory(prefix="btrimg-user-") as where:
        image, point = f"{where}/image", f"{where}/mnt"
        shutil.copy(demo_image, image)
        os.mkdir(point)
        for path in (where, image, point):
            os.chown(path, _NOBODY, _NOBODY)
        try:
            done = as_nobody("mount", image, point)
            assert "do not share" in done.stdout or "cache" in done.stdout
            assert as_nobody("mount", image, point, "--share", "passthrough").returncode == 2
            with pytest.raises(PermissionError):  # root is somebody else, too
                os.listdir(point)
            assert as_nobody("umount", point).returncode == 0
            assert not servers(point)
        finally:
            if mounts(point):
                kernel.run("umount", "--lazy", point)


def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [sys.executable, "-m", "btrimg", *words],
            user=_NOBODY,
            group=_NOBODY,
            cwd="/",
            capture_output=True,
            text=True,
        )
    except PermissionError:
        pytest.skip("this Python is for root only")


_NOBODY = 65534

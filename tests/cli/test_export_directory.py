"""Export to a directory: nothing half-written is left, and no other process turns it elsewhere."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.demo import spoil, text
from support.program import built

from btrimg.cli.export_directory import DirectoryWriter
from btrimg.cli.main import run
from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from pathlib import Path


def test_an_export_has_the_bytes_links_and_xattrs_of_the_image(demo_image: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["export", demo_image, str(out)]) == 0
    assert (out / "vm-monday/disk.raw").read_bytes() == text("disk.raw", 0, 1024)
    assert (out / "files/compressed.txt").read_bytes() == text("compressed.txt", 0, 128)
    assert (out / "files/sparse.raw").read_bytes() == text("sparse.raw", 0, 2).ljust(1 << 20, b"\0")
    assert (out / "files/inline.txt").samefile(out / "files/deep/hardlink.txt")
    assert os.readlink(out / "files/deep/er/symlink") == "../../inline.txt"
    with open_image(demo_image) as image:
        for path in (b"/files", b"/files/inline.txt", b"/vm/part.raw"):
            item, found = image.open(path).item, os.lstat(os.fsencode(out) + path)
            assert (found.st_mode, found.st_mtime_ns) == (item.mode, item.mtime.sec * 10**9 + item.mtime.nsec)


@pytest.mark.parametrize("path", [b"/files/sparse.raw", b"/vm/clone.raw"])
def test_nothing_is_left_of_a_file_that_cannot_be_read(path: bytes, forged: str, tmp_path: Path, capfd: Any) -> None:
    spoil(forged, path, 5000)
    out = os.fsencode(tmp_path / "out")
    assert run(["export", forged, os.fsdecode(out)]) == 1
    assert not os.path.lexists(out + path)
    assert f"{os.fsdecode(path)}' is left out: data at logical" in capfd.readouterr().err
    assert os.path.exists(out + b"/files/inline.txt")
    assert os.path.exists(out + b"/vm/part.raw")


def test_an_export_that_is_told_to_stop_keeps_whole_files_only(tmp_path: Path) -> None:
    image = built(
        tmp_path,
        '[[do]]\nmkdir="/d"\n[[do]]\nrepeat = 300\nfile = "/d/{n}"\nrandom = "400K"\n[[do]]\nset="/d"\nmode="700"\n',
    )
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-m", "btrimg", "export", image, str(out)]) as export:
        while not (out / "d/9").exists():
            assert export.poll() is None
            time.sleep(0.001)
        export.terminate()
        assert export.wait() == 128 + signal.SIGTERM
    with open_image(image) as opened:
        found = sorted(os.listdir(out / "d"))
        assert 9 <= len(found) < 300
        for name in found:
            assert (out / "d" / name).read_bytes() == opened.open(f"/d/{name}".encode()).read(0, 1 << 20)
            assert os.stat(out / "d" / name).st_mode == 0o100644
    assert stat.S_IMODE(os.stat(out / "d").st_mode) == 0o700


@pytest.mark.parametrize("swapped", [b"files", b"vm"])
def test_a_directory_that_another_process_swaps_for_a_link_is_not_followed(
    swapped: bytes, demo_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    make = os.mkdir

    def swap(name: bytes, mode: int, *, dir_fd: int) -> None:
        if name == swapped:
            os.symlink(outside, name, dir_fd=dir_fd)
        else:
            make(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swap)
    with open_image(demo_image) as image:
        top = image.open(b"/")
        with DirectoryWriter(str(out), top, verify=True) as writer:
            with pytest.raises(NotADirectoryError):
                writer.add(swapped, image.open(b"/" + swapped))
            name = {b"files": b"/inline.txt", b"vm": b"/part.raw"}[swapped]
            with pytest.raises(FileNotFoundError):
                writer.add(swapped + name, image.open(b"/" + swapped + name))
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("target", ["precious", "nowhere"])
def test_a_file_never_replaces_nor_follows_what_is_there(target: str, demo_image: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_text("precious")
    (out / "inline.txt").symlink_to(tmp_path / target)
    with (
        open_image(demo_image) as image,
        DirectoryWriter(str(out), image.open(b"/files"), verify=True) as writer,
        pytest.raises(FileExistsError),
    ):
        writer.add(b"inline.txt", image.open(b"/files/inline.txt"))
    assert (out / "inline.txt").is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "precious"]
    assert (tmp_path / "precious").read_text() == "precious"

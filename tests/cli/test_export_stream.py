"""An archive on a stream that fails: it ends there, and no file after it is called left out."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

EXPORT = [sys.executable, "-m", "btrimg", "export"]


def test_a_reader_that_goes_away_ends_the_export_in_silence(demo_image: str) -> None:
    with subprocess.Popen([*EXPORT, demo_image, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout
        assert export.stderr
        assert len(export.stdout.read(100)) == 100
        export.stdout.close()
        assert export.stderr.read() == b""
    assert export.returncode == 141


def test_a_full_disk_ends_the_export_with_one_sentence(demo_image: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*EXPORT, demo_image, "-"], check=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"btrimg: No space left on device\n"


def test_an_archive_that_cannot_be_finished_leaves_nothing_behind(demo_image: str, tmp_path: Path) -> None:
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20,) * 2); "
    limited += "runpy.run_module('btrimg', run_name='__main__')"
    command = [sys.executable, "-c", limited, "export", demo_image, str(tmp_path / "all.tar")]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"btrimg: File too large\n")
    assert list(tmp_path.iterdir()) == []

"""The races must be fair before they are run: a peer that stops early or miscounts would flatter us."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import kernel

import btrimg
from bench import peers
from btrimg.filesystem.locate import Locator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.images import KernelImage


def test_compare_prints_medians_and_their_ratio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = iter([9.0, 9.0, 0.1, 1.0, 0.3, 2.0, 0.2, 4.0])  # a warm-up pair, then three rounds
    monkeypatch.setattr(peers, "seconds", lambda command: next(taken))
    assert peers.compare("job", ["ours"], "peer", ["theirs"], rounds=3) == (0.2, 2.0, 0.1)
    assert capsys.readouterr().out == "job: 0.100x peer (200.0 ms against 2.00 s, median of 3)\n"


def test_a_command_that_fails_has_no_time() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        peers.seconds([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.kernel
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_fiemap_loop_counts_every_extent_of_every_subvolume(
    kernel_image: Callable[..., KernelImage], tmp_path: Path
) -> None:
    image: KernelImage = kernel_image()
    program = peers.fiemap_loop(str(tmp_path))
    with image.mount() as top:
        counted = kernel.run(program, top)
    files = [entry for entry in image.truth.entries.values() if stat.S_ISREG(entry.stat.mode)]
    assert counted == f"{len(files)} files, {sum(len(entry.extents) for entry in files)} extents\n"


@pytest.mark.kernel
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_logical_ino_loop_counts_users(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    written: KernelImage = kernel_image()
    program = peers.logical_ino_loop(str(tmp_path))
    with btrimg.open(written.devices) as image, written.mount() as top:
        locator = Locator(image)
        logical = [row.logical for row in image.open(b"/reflinks/0-repeat").extents() if row.kind == "regular"]
        users = sum(len(locator.users(each or 0)) for each in logical)
        words = "".join(f"{each}\n" for each in [*logical, 0])
        counted = subprocess.run([program, top], input=words, capture_output=True, text=True, check=True).stdout
    assert counted == f"{len(logical) + 1} addresses, {users} users\n"

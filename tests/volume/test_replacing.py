"""Files that take their names when they are complete: nothing is left behind, whenever a signal comes."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from btrimg.volume.replacing import create_files

if TYPE_CHECKING:
    from pathlib import Path


class StopError(Exception):
    """What a signal raises."""


def test_whenever_a_signal_comes_what_was_made_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise StopError

    monkeypatch.chdir(tmp_path)
    chance = random.Random("signals")
    before = signal.signal(signal.SIGALRM, stop)
    known: list[str] = []
    try:
        for number in range(1000):
            made: list[tuple[str, int]] = []
            with pytest.raises(StopError):
                create_within([f"{number}.a", f"{number}.b"], made, 10 ** chance.uniform(-6, -3))
            known += [path for path, _ in made]
            for _, descriptor in made:
                os.close(descriptor)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sorted(os.listdir()) == sorted(known)
    assert 0 < len(known) < 2000, "some come before, some after"


def create_within(paths: list[str], made: list[tuple[str, int]], seconds: float) -> None:
    """Make files while a signal is on its way, which ends this."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    create_files(paths, made)
    while True:
        pass


def test_a_file_that_is_there_is_not_taken_for_one_that_was_made(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    made: list[tuple[str, int]] = []
    with pytest.raises(FileExistsError) as failure:
        create_files([str(tmp_path / "new"), str(tmp_path / "there")], made)
    assert failure.value.filename == str(tmp_path / "there")
    assert [path for path, _ in made] == [str(tmp_path / "new")]
    os.close(made[0][1])

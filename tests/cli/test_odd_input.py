"""What people give by mistake: one sentence that says what is wrong, the right exit code, and nothing that is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.program import btrimg

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ls", "nowhere.img:/a"], "'nowhere.img' does not exist"),
        (["resolve", "nowhere.img:/a:/b", "0"], "'nowhere.img' does not exist"),
        (["ls", "nowhere.img"], "'nowhere.img' does not exist; name a file in an image as IMAGE:/PATH"),
        (["undo", "IMAGE", "text"], "text is no undo file of btrimg edit"),
        (
            ["build", "--from-tar", "text", "-o", "./text", "--force"],
            "./text would be replaced, and is read; name another file",
        ),
        (["build", "text", "-o", "text", "--force"], "text would be replaced, and is read; name another file"),
        (["edit", "IMAGE", "put", "IMAGE", "/new"], "cannot be put into the image: it is what is being written"),
        (["build", "--from-dir", "", "-o", "new.img"], "--from-dir names no directory; . is the one that you are in"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    words: list[str], says: str, forged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("text")
    before = sorted(os.listdir())
    done = btrimg(*(forged if word == "IMAGE" else word for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(says)
    assert sorted(os.listdir()) == before


def test_more_memory_than_there_can_be_is_no_limit(demo_image: str) -> None:
    done = btrimg("sql", demo_image, "--memory", "9" * 30, "--format", "csv", "select 7 as n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "n\n7\n", "")


@pytest.mark.parametrize("words", [["-f", "-a"], ["-fa"]])  # the second is for click to parse
def test_a_reader_that_is_gone_ends_a_command_as_the_signal_would(demo_image: str, words: list[str]) -> None:
    command = [sys.executable, "-m", "btrimg", "inspect", "dump-super", *words, demo_image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout
        assert program.stderr
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == 141


@pytest.mark.parametrize("module", ["btrimg.cli.main", "btrimg.cli.sql", "numpy._core._multiarray_umath", "datetime"])
def test_ctrl_c_while_modules_are_imported_ends_in_silence(demo_image: str, module: str) -> None:
    """The C code of numpy makes an ImportError of it, which tells for a page how numpy may be installed wrong."""
    program = f"""
import os, signal, sys
class Press:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
sys.modules.pop("datetime", None)
sys.argv = ["btrimg", "sql", {demo_image!r}, "select 1"]
import runpy
runpy.run_module("btrimg", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_scrub_of_what_cannot_be_read_is_not_clean(forged: str) -> None:
    os.truncate(forged, 70_000)
    done = btrimg("edit", forged, "scrub")
    assert done.returncode == 1
    assert done.stdout == "no bad copies that good ones could mend, in what can be read\n"
    assert "no copy of the 16384 bytes" in done.stderr
    assert os.path.getsize(forged) == 70_000

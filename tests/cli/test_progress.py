"""Progress is for a person who would else see nothing, and stays out of what is written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from btrimg.cli.progress import counting

WORDS = [sys.executable, "-m", "btrimg", "extents"]


def seen_on_terminal(words: list[str], *, stdout_too: bool) -> tuple[bytes, bytes]:
    """Run *words* with stderr on a terminal; return what that showed and what went to a pipe."""
    ours, theirs = os.openpty()
    with subprocess.Popen(words, stdout=theirs if stdout_too else subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        piped = process.stdout.read() if process.stdout else b""
        shown = b""
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # EIO: the last writer is gone
            pass
    os.close(ours)
    return shown.replace(b"\r\n", b"\n"), piped


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_progress_shows_beside_a_pipe_and_not_within_the_output(demo_image: str, form: list[str]) -> None:
    words = [*WORDS, demo_image, *form]
    plain = subprocess.run(words, capture_output=True, check=True)
    assert plain.stderr == b""
    shown, piped = seen_on_terminal(words, stdout_too=False)
    assert piped == plain.stdout
    assert b"listing extents" in shown
    assert seen_on_terminal(words, stdout_too=True) == (plain.stdout, b"")


def test_a_query_shows_that_it_reads(demo_image: str) -> None:
    words = [sys.executable, "-m", "btrimg", "sql", demo_image, "select count(*) as n from names"]
    shown, piped = seen_on_terminal(words, stdout_too=False)
    assert piped == b" n\n58\n"
    assert b"reading: " in shown
    assert b"tree blocks" in shown


@pytest.mark.parametrize(
    ("words", "doing"),
    [
        (["inspect", "tree-stats", "IMAGE", "--json"], b"reading: 4 trees"),
        (["inspect", "find-root", "-a", "IMAGE"], b"looking for roots"),
        (["edit", "IMAGE", "fsid", "random"], b"writing tree blocks anew"),
        (["edit", "IMAGE", "resize", "-4M"], b"moving what is in the way"),
    ],
)
def test_what_takes_long_on_large_images_says_what_it_does(words: list[str], doing: bytes, forged: str) -> None:
    program = [sys.executable, "-m", "btrimg", *(forged if word == "IMAGE" else word for word in words)]
    shown, piped = seen_on_terminal(program, stdout_too=False)
    assert doing in shown
    assert piped


def test_who_forks_has_no_thread_before_something_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    before = threading.active_count()
    with counting("testing", "things", forking=True) as add:
        assert threading.active_count() == before
        add(1, 4096)
        assert threading.active_count() == before + 1

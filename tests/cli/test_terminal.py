"""What is said on the streams of a command."""

from __future__ import annotations

import errno
import os

import pytest

from btrimg.cli.terminal import sentence


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
        (OSError(errno.EIO, os.strerror(errno.EIO), b"a\xff\n"), r"'a\udcff\n': Input/output error"),
        (OSError(errno.EIO, os.strerror(errno.EIO), 7), "Input/output error"),  # of os.stat(7), and others
        (OSError("what no system call said"), "what no system call said"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_the_system_says_is_told_without_numbers(error: Exception, said: str) -> None:
    assert sentence(error) == said

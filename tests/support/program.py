"""The program, as a person at a shell runs it."""

from __future__ import annotations

import subprocess
import sys


def btrimg(*words: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``btrimg`` with *words*; a traceback is never an answer."""
    command = [sys.executable, "-m", "btrimg", *map(str, words)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done

"""The program, as a person at a shell runs it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def btrimg(*words: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``btrimg`` with *words*; a traceback is never an answer."""
    command = [sys.executable, "-m", "btrimg", *map(str, words)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def built(directory: Path, recipe: str, *options: str) -> str:
    """Build what *recipe* says, and return the path of the image in *directory*."""
    (directory / "files.toml").write_text(recipe)
    path = str(directory / "files.img")
    done = btrimg("build", *options, directory / "files.toml", "-o", path)
    assert done.returncode == 0, done.stderr
    return path

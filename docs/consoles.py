"""Run every ``$ btrimg …`` and ``$ dd …`` line of the PAGES, and put its output below it: ``python docs/consoles.py``.

The commands work on the image of ``make demo``, from the root of the repository; tests/test_docs.py finds stale pages.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGES = ("README.md", "docs/cli.md", "docs/page-sharing.md", "docs/editing.md")
_CONSOLE = re.compile(r"^\$ ((?:btrimg|dd) .*)\n(?:(?!\$ |# |```).*\n)*", re.MULTILINE)


def output_of(command: str) -> str:
    """Return what *command* prints in a shell, standard error after standard output.

    Raises RuntimeError when it crashes: no page shall show that.
    """
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = os.environ | {"PATH": path, "TZ": "UTC", "COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(  # noqa: S602 (the pages are ours, and use pipes)
        command, shell=True, cwd=ROOT, env=environment, capture_output=True, check=False
    )
    output = (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
    if "Traceback" in output:
        raise RuntimeError(f"{command}\n{output}")
    return output


def refresh(text: str) -> str:
    """Return the page *text* with the output of each command as it is now.

    Pages make images under build/: whoever else refreshes one in this repository at the same time waits.
    """
    repository = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(repository, fcntl.LOCK_EX)
        return _CONSOLE.sub(lambda found: f"$ {found[1]}\n{output_of(found[1])}", text)
    finally:
        os.close(repository)


def main() -> None:
    """Refresh all pages."""
    for page in PAGES:
        path = os.path.join(ROOT, page)
        with open(path, encoding="utf-8") as file:
            text = refresh(file.read())  # before the page is opened to be written: a command may fail
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()

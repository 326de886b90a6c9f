"""Run the tools of btrfs-progs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple

Version = tuple[int, ...]

# What btrfs check 6.19 says of free space tree entries that mkfs 6.2 left behind: the kernel does not mind them.
_HARMLESS = re.compile(r"Space key logical \d+ length \d+ has no corresponding block group|WARNING: .*")
_MISSING = re.compile(r"(?m)^warning, device \d+ is missing\n")  # among the values, before 6.4 or so
_CHATTER = re.compile(
    r"\[\d/\d\] .*|Opening filesystem.*|Checking filesystem.*|UUID: .*|found \d+ bytes used.*|total .*|"
    r"btree space waste.*|file data blocks.*| referenced .*|"
)


class ToolError(BtrimgError):
    """Report that a tool failed; the text is the first thing that it complained of."""


class SilentToolError(ToolError):
    """Report that a tool failed and said nothing."""


class Progs(NamedTuple):
    """The tools of one version of btrfs-progs."""

    btrfs: str  #: path of the program
    map_logical: str | None  #: path of btrfs-map-logical, None where it is not installed
    version: Version

    @property
    def judge(self) -> str:
        """Return name and version."""
        return f"btrfs-progs {'.'.join(map(str, self.version))}"

    def inspect(self, *words: str, any_exit: bool = False) -> str:
        """Return what ``btrfs inspect-internal`` prints; with *any_exit* also if that is not all."""
        return run_tool(self.btrfs, "inspect-internal", *words, any_exit=any_exit)

    def why_unclean(self, device: str) -> str | None:
        """Return the first thing that ``btrfs check`` has against the filesystem on *device*, None if it is clean."""
        done = _started(self.btrfs, "check", "--readonly", device)
        lines = _text(done.stdout + done.stderr).split("\n")
        complaints = [line for line in lines if not _CHATTER.fullmatch(line)]
        serious = [line for line in complaints if not _HARMLESS.fullmatch(line)]
        if not done.returncode or (complaints and not serious):
            return None
        return serious[0] if serious else f"exit code {done.returncode}"


def find_progs(path: str) -> Progs | None:
    """Return the tools in the directories of *path*, None when there is no ``btrfs``.

    Raises ToolError when ``btrfs`` is there and does not tell its version.
    """
    btrfs = shutil.which("btrfs", path=path)
    if btrfs is None:
        return None
    found = re.search(r"v(\d+(?:\.\d+)*)", run_tool(btrfs, "version"))
    if not found:
        raise ToolError(f"{btrfs} does not tell its version")
    version = tuple(int(part) for part in found[1].split("."))
    return Progs(btrfs, shutil.which("btrfs-map-logical", path=path), version)


def run_tool(tool: str, *words: str, any_exit: bool = False) -> str:
    """Return what the program at *tool* prints, in UTC, each byte a character.

    Raises ToolError when it cannot be run or fails; with *any_exit* only when it fails and prints nothing.
    """
    done = _started(tool, *words)
    if done.returncode and not (any_exit and done.stdout):
        complaint = complaint_in(done.stderr)
        if not complaint:
            raise SilentToolError(f"{tool} ended with exit code {done.returncode}")
        raise ToolError(complaint)
    return _MISSING.sub("", _text(done.stdout))


def complaint_in(stderr: bytes) -> str:
    """Return the first line of what a tool complained of, without ``ERROR:``."""
    return _text(stderr).strip().partition("\n")[0].removeprefix("ERROR: ")


def _started(tool: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    arguments = [os.fsencode(tool), *(word.encode("utf-8", "surrogateescape") for word in words)]
    try:
        return subprocess.run(  # noqa: S603 (the tool that the person named)
            arguments, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment
        )
    except OSError as error:
        raise ToolError(f"cannot run {tool}: {error.strerror}") from None


def _text(output: bytes) -> str:
    return output.decode("latin-1")

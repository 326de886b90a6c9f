"""``btrimg cache record``: make a trace of what a command reads."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from btrimg.cli.command import Argument, Option, command
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

_TOOLS = ("strace", "tracepoints")
_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
# With a question mark, a call that the architecture does not have is none to complain about.
_CALLS = "trace=" + ",".join(
    "?" + name
    for name in (
        *("open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "lseek"),
        *("read", "readv", "pread64", "preadv", "preadv2", "sendfile", "mmap", "write", "writev"),
        *(
            "pwrite64",
            "pwritev",
            "pwritev2",
            "chdir",
            "fchdir",
            "clone",
            "clone3",
            "fork",
            "vfork",
            "execve",
            "execveat",
        ),
    )
)
_BUFFER = 16 << 10  # KiB for each CPU, until they are read


def parse_tool(text: str) -> str:
    """Return the name of what can record; raise ValueError with a sentence."""
    if text not in _TOOLS:
        raise ValueError(f"{text!a} cannot record; there are {', '.join(_TOOLS)}")
    return text


@command(
    Option("output", ("-o", "--output"), "Where to write the trace; it is written over.", str, "TRACE", is_path=True),
    Option("tool", ("--with",), "strace or tracepoints; without, the first that works.", parse_tool, "NAME"),
    Argument("words", "COMMAND", str, many=True),
)
def record(output: str | None, tool: str | None, words: tuple[str, ...]) -> int:
    """Run a command and record which parts of which files it and its children read, for `btrimg cache replay`.

    \b
      btrimg cache record -o trace -- make -C /mnt/disk/project
      btrimg cache record -o trace --with tracepoints -- /mnt/disk/bin/server --once
      btrimg cache replay disk.img trace --root /mnt/disk

    With strace, system calls are recorded: who reads what, by path; of mappings only that they were made. With the
    kernel's tracepoints of the page cache, which take root and tracefs, reads and faults are recorded by inode number,
    on kernels before 6.11 only what was brought in. The exit code is the command's.
    """
    if output is None:
        raise BtrimgError("say with -o where to write the trace")
    tool = tool or ("strace" if shutil.which("strace") else "tracepoints")
    return _with_strace(output, words) if tool == "strace" else _with_tracepoints(output, words)


def _with_strace(output: str, words: Sequence[str]) -> int:
    import subprocess

    if not shutil.which("strace"):
        raise BtrimgError("strace is not installed: install it, or record --with tracepoints, as root")
    arguments = ["strace", "-f", "-y", "-ttt", "-s", "0", "-e", _CALLS, "-o", output, "--", *words]
    done = subprocess.run(arguments, check=False)  # noqa: S603 (what the person asked to run)
    return _exit_code(done.returncode)


def _with_tracepoints(output: str, words: Sequence[str]) -> int:
    tracefs = next((path for path in _TRACEFS if os.path.isdir(f"{path}/events/filemap")), None)
    if tracefs is None or not os.access(f"{tracefs}/instances", os.W_OK):
        raise BtrimgError(
            "the tracepoints of the page cache cannot be had: they take root and tracefs"
            " (mount -t tracefs tracefs /sys/kernel/tracing); else install strace"
        )
    with open(output, "wb") as file, _Instance(f"{tracefs}/instances/btrimg-{os.getpid()}") as instance:
        return _record(instance, file, words)


class _Instance:
    """Buffers of tracefs for ourselves alone."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> _Instance:
        os.mkdir(self._path)
        self.write("buffer_size_kb", _BUFFER)
        self.write("options/event-fork", 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.write("events/filemap/enable", 0)
        os.rmdir(self._path)

    def write(self, name: str, value: int) -> None:
        """Set one of the instance's files."""
        with open(f"{self._path}/{name}", "w", encoding="ascii") as file:
            file.write(str(value))

    def lines(self) -> Iterator[bytes]:
        """Yield pieces of the text that there is by now."""
        pipe = os.open(f"{self._path}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            while piece := os.read(pipe, 1 << 16):
                yield piece
        except BlockingIOError:
            return
        finally:
            os.close(pipe)


def _record(instance: _Instance, file: BinaryIO, words: Sequence[str]) -> int:
    """Run *words*, which begin when the kernel knows whom to follow, and write what it tells to *file*."""
    import subprocess

    start, go = os.pipe()
    waiting = ["/bin/sh", "-c", f'read go <&{start}; exec {start}<&-; exec "$@"', "sh", *words]
    with subprocess.Popen(waiting, pass_fds=(start,)) as child:  # noqa: S603 (what the person asked to run)
        os.close(start)
        instance.write("set_event_pid", child.pid)
        instance.write("events/filemap/enable", 1)
        os.write(go, b"\n")
        os.close(go)
        file.write(b"# tracer: nop\n")
        while True:
            for piece in instance.lines():
                file.write(piece)
            if child.poll() is not None:
                break
            try:
                child.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        for piece in instance.lines():
            file.write(piece)
    return _exit_code(child.returncode)


def _exit_code(returned: int) -> int:
    """Return what a shell would: 128 and the signal's number for who was killed by one."""
    sys.stderr.flush()
    return returned if returned >= 0 else 128 - returned

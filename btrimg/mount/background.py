"""A server that goes to the background once it serves, and not before: what is wrong is told where it was started."""

from __future__ import annotations

import os

from btrimg.named import NamedTuple


class Background(NamedTuple):
    """The two sides of a fork, joined by a pipe."""

    child: int  #: process id of the server, 0 in the server itself
    pipe: int  #: reading end of the parent, writing end of the server

    def outcome(self) -> int:
        """Wait, as the parent, until the server serves, which is 0, or has ended: then its exit code."""
        try:
            if os.read(self.pipe, 1):
                return 0
        finally:
            os.close(self.pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1]) or 2

    def serving(self) -> None:
        """Tell the parent, as the server, that all is well, and leave its terminal and directory."""
        os.setsid()
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        os.close(nothing)
        os.write(self.pipe, b"\0")
        os.close(self.pipe)


def fork() -> Background:
    """Fork, before there are threads; both sides go on."""
    reading, writing = os.pipe()
    child = os.fork()
    os.close(writing if child else reading)
    return Background(child, reading if child else writing)

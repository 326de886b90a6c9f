"""What a process does to files: watched, and ended at any call of it as by a power cut or kill -9."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from btrimg.volume import holes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CALLS = ("pwrite", "write", "ftruncate", "fdatasync", "fsync", "unlink")


class Call(NamedTuple):
    """One call that changes a file, or makes it durable."""

    what: str  #: write, punch, cut or sync
    path: str
    offset: int = 0
    data: bytes = b""
    length: int = 0


@contextmanager
def watched(before: Callable[[], None], after: Callable[[Call], None] = lambda _: None) -> Iterator[None]:
    """Call *before* ahead of each call that changes a file within the ``with`` block, *after* behind it."""
    fallocate = holes._fallocate()

    def through(name: str, real: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            before()
            at = os.lseek(arguments[0], 0, os.SEEK_CUR) if name == "write" else 0
            result = real(*arguments)
            after(_told(name, arguments, at, result))
            return result

        return call

    with ExitStack() as stack:
        for name in _CALLS:
            stack.enter_context(patch.object(os, name, through(name, getattr(os, name))))
        stack.enter_context(patch.object(holes, "_fallocate", lambda: through("fallocate", fallocate)))
        yield


def _told(name: str, arguments: tuple[Any, ...], at: int, result: Any) -> Call:
    path = arguments[0] if name == "unlink" else os.readlink(f"/proc/self/fd/{arguments[0]}")
    if name == "pwrite":
        return Call("write", path, arguments[2], bytes(arguments[1])[:result])
    if name == "write":
        return Call("write", path, at, bytes(arguments[1])[:result])
    if name == "ftruncate":
        return Call("cut", path, length=arguments[1])
    if name == "fallocate":
        return Call("punch", path, arguments[2], length=arguments[3])
    return Call("sync" if name in ("fdatasync", "fsync") else name, path)


def killed_at(number: int, do: Callable[[], None]) -> bool:
    """Do something in a process of its own that kills itself before the call of that *number*; return whether it did.

    Raises RuntimeError when it failed otherwise.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            left = [number]

            def before() -> None:
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

            with watched(before):
                do()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"it ended with status {status}")
    return False

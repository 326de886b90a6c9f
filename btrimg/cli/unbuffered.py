"""Standard output where Python is told not to buffer it, as containers do by PYTHONUNBUFFERED."""

from __future__ import annotations

import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from _typeshed import ReadableBuffer


class _Whole(io.BufferedWriter):
    """Writes at once what it is given, and all of it."""

    def write(self, data: ReadableBuffer, /) -> int:
        count = super().write(data)
        self.flush()
        return count


def whole_output(stream: TextIO) -> io.TextIOWrapper:
    """Return what takes the place of *stream*, whose buffer is a raw file, so that no bytes get lost.

    A raw file takes only a part of what is written at once where a signal comes between, be it SIGCONT or that a
    terminal has changed its size, and nobody looks at how much: a pipe lost megabytes so.
    """
    raw = stream.detach()  # type: ignore[attr-defined]  # as the typeshed has it, any stream of text may be there
    return io.TextIOWrapper(_Whole(raw), stream.encoding, stream.errors, write_through=True)

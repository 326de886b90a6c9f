"""The scrub at the other end of a line: it begins at once, hears what there is besides, and tells what it found."""

from __future__ import annotations

import pickle
import traceback
from contextlib import closing
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from btrimg.check.scrub.told import TELLING, Outcome, hear_column
from btrimg.check.scrub.whole import Scrub
from btrimg.errors import BtrimgError
from btrimg.forked import give_way

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.check.scrub.told import Columns
    from btrimg.forked import Line
    from btrimg.trees.block import Pointer
    from btrimg.volume.volume import Volume


_SELDOM = 0.05  # seconds between two messages


def serve(volume: Volume, csum_root: Pointer | None, line: Line) -> None:
    """Judge all there is, and tell the outcome, or the error that it ended with."""
    give_way()  # the caller's work is the longer one
    heard = _Heard(line)
    judged = _Judged(line, heard)
    warned: list[str] = []
    try:
        with closing(Scrub(volume.for_thread(warned.append), csum_root, judged.add)) as work:
            work.judge(heard.told())
            judged.tell()
            outcome: object = Outcome(work.found.rows(), warned, work.errors)
    except (BrokenPipeError, EOFError):  # nobody waits for what is found any more
        return
    except BaseException as error:  # raised where it is waited for
        if not isinstance(error, BtrimgError):
            error.add_note(traceback.format_exc())
        outcome = error
    line.tell(pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))


class _Heard:
    """What comes over the line, heard by a thread: whoever tells it shall not wait for what is being judged."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._columns: SimpleQueue[Columns | BaseException] = SimpleQueue()
        self.waited_for = False  #: whether somebody wants to hear how far it is
        self.ended: BaseException | None = None  #: why nothing more will be heard
        Thread(target=self._hear, daemon=True).start()

    def told(self) -> Iterator[Columns]:
        """Yield what is ``Told`` when it comes; raises EOFError when nobody tells of it any more."""
        for _ in TELLING:
            found = self._columns.get()
            if isinstance(found, BaseException):
                raise found
            yield found

    def _hear(self) -> None:
        try:
            for names in TELLING:
                self._columns.put({name: hear_column(self._line) for name in names})
            self._line.hear()
            self.waited_for = True
            self._line.hear()
        except BaseException as error:  # at the latest EOFError, when nobody wants to hear of us any more
            self.ended = error
            self._columns.put(error)


class _Judged:
    """Tells how many bytes were judged, now and then, to who waits."""

    def __init__(self, line: Line, heard: _Heard) -> None:
        self._line, self._heard, self._count, self._told = line, heard, 0, monotonic()

    def add(self, count: int) -> None:
        """Count bytes more; EOFError or BrokenPipeError where nobody wants to hear of them any more."""
        self._count += count
        if self._heard.ended:
            raise self._heard.ended
        if self._heard.waited_for and monotonic() - self._told > _SELDOM:
            self.tell()

    def tell(self) -> None:
        """Tell what has not been told yet."""
        self._line.tell(self._count)
        self._count, self._told = 0, monotonic()

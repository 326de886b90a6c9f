"""The scrub beside other work: what it finds is asked for at the end.

It goes on in a process of its own. A thread waits for the interpreter that the other work needs, too: on an image of
540,000 files and 3 GB, ``check --data`` took a tenth longer with it.
"""

from __future__ import annotations

import os
import pickle
import traceback
from contextlib import ExitStack, closing, suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.check.scrub.badcopies import table_of
from btrimg.check.scrub.whole import TELLING, Scrub
from btrimg.errors import BtrimgError, CorruptError, NotFoundError
from btrimg.forked import alone, beside, within
from btrimg.ondisk.constants import TreeId
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from btrimg.check.scrub.whole import Told
    from btrimg.filesystem.image import Image
    from btrimg.forked import Line
    from btrimg.trees.block import Pointer
    from btrimg.volume.volume import Volume

    Columns = Mapping[str, Any]
    Progress = Callable[[int], None]

_NICENESS = 19  #: the caller's work is the longer one: it shall not wait for us where there are few processors
_SELDOM = 0.05  # seconds between two messages
_AT_ONCE = 16 * MIB  # bytes of a column in a message


class _Outcome(NamedTuple):
    """What the scrub has to say in the end."""

    rows: NDArray[np.void]  #: of ``BadCopies``
    warned: Sequence[str]
    errors: Sequence[CorruptError]  #: of what could not be read


class BegunScrub:
    """Judges all copies and parity of an opened image; *progress* hears of bytes of devices that were judged.

    Data with checksums, nearly all there is to read, are judged at once: that takes only the checksum tree. The others
    wait until they are told of. A caller that does not come to ask for the ``table`` must ``stop``.
    """

    def __init__(self, image: Image, progress: Progress) -> None:
        self._image, self._progress = image, progress
        self._errors: list[CorruptError] = []
        root = self._csum_root()
        len(image.volume.chunk_map)  # reads it to its end, which two must not do at once
        self._telling = iter(TELLING)
        self._stack = ExitStack()
        self._line = _line_to(partial(_serve, image.volume, root), self._stack)

    def _csum_root(self) -> Pointer | None:
        try:
            return self._image.tree(TreeId.CSUM_TREE).root
        except NotFoundError:
            return None
        except CorruptError as error:
            self._errors.append(error)
            return None

    def stop(self) -> None:
        """End the scrub; nothing more is told of what it found."""
        self._stack.close()

    def tell(self, *several: Columns) -> None:
        """Have the next ones of what is ``Told`` judged; they are copied. Raises what ended the scrub."""
        try:
            for columns in several:
                for name in next(self._telling):
                    _tell_column(self._line, columns[name])
        except BrokenPipeError:
            self._outcome()

    def table(self) -> dict[str, NDArray[Any]]:
        """Return the columns of ``bad_copies``, once all is judged, and pass on what there is to say.

        What cannot be read of the checksum tree is reported to the image. Raises what ended the scrub.
        """
        with suppress(BrokenPipeError):  # it has ended, as its outcome tells
            self._line.tell(None)
        outcome = self._outcome()
        for error in (*self._errors, *outcome.errors):
            self._image.report(error)
        for said in outcome.warned:
            self._image.volume.warn(said)
        return table_of(outcome.rows)

    def _outcome(self) -> _Outcome:
        """Wait until all is judged; raise what ended it before."""
        try:
            while isinstance(told := self._line.hear(), int):
                self._progress(told)
        except EOFError:
            raise BtrimgError("what judges the data has ended: was it killed? If memory was short, try again") from None
        outcome = pickle.loads(told)  # noqa: S301  # of a process of our own
        if isinstance(outcome, BaseException):
            raise outcome
        found: _Outcome = outcome
        return found


def scrub(image: Image, told: Told, progress: Progress) -> dict[str, NDArray[Any]]:
    """Return the columns of ``bad_copies``, as ``BegunScrub`` does."""
    begun = BegunScrub(image, progress)
    try:
        begun.tell(*told)
        return begun.table()
    finally:
        begun.stop()


def _line_to(serve: Callable[[Line], None], stack: ExitStack) -> Line:
    if alone():
        with suppress(OSError):
            return stack.enter_context(beside(serve))
    return stack.enter_context(within(serve))


def _tell_column(line: Line, column: NDArray[Any]) -> None:
    """Tell an array of numbers in parts."""
    line.tell((column.dtype.str, len(column)))
    rows = _AT_ONCE // column.dtype.itemsize
    for first in range(0, len(column), rows):
        line.tell(column[first : first + rows].tobytes())


# What goes on beside


def _serve(volume: Volume, csum_root: Pointer | None, line: Line) -> None:
    """Judge all there is, and tell the outcome, or the error that it ended with."""
    with suppress(OSError):
        os.nice(_NICENESS)  # of this thread, in Linux
    heard = _Heard(line)
    judged = _Judged(line, heard)
    warned: list[str] = []
    try:
        with closing(Scrub(volume.for_thread(warned.append), csum_root, judged.add)) as work:
            work.judge(heard.told())
            judged.tell()
            outcome: object = _Outcome(work.found.rows(), warned, work.errors)
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
                self._columns.put({name: self._column() for name in names})
            self._line.hear()
            self.waited_for = True
            self._line.hear()
        except BaseException as error:  # at the latest EOFError, when nobody wants to hear of us any more
            self.ended = error
            self._columns.put(error)

    def _column(self) -> NDArray[Any]:
        dtype, count = self._line.hear()
        column = np.empty(count, dtype)
        rows = _AT_ONCE // column.dtype.itemsize
        for first in range(0, count, rows):
            column[first : first + rows] = np.frombuffer(self._line.hear(), column.dtype)
        return column


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

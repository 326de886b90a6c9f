"""The scrub beside other work: what it finds is asked for at the end.

It goes on in a process of its own. A thread waits for the interpreter that the other work needs, too: on an image of
540,000 files and 3 GB, ``check --data`` took a tenth longer with it.
"""

from __future__ import annotations

import os
import pickle
from contextlib import ExitStack, closing, suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread, get_native_id
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.check.scrub.badcopies import table_of
from btrimg.check.scrub.whole import TELLING, Scrub
from btrimg.errors import BtrimgError, CorruptError, NotFoundError
from btrimg.forked import alone, beside, within
from btrimg.ondisk.constants import TreeId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.forked import Line
    from btrimg.trees.block import Pointer
    from btrimg.volume.volume import Volume

    Columns = Mapping[str, Any]
    Progress = Callable[[int], None]

_NICENESS = 10  #: the caller's work is the longer one, where the two compete for processors
_SELDOM = 0.05  # seconds: what is told sooner than it is heard fills the line


class _Outcome(NamedTuple):
    """What the scrub has to say in the end."""

    rows: NDArray[np.void]  #: of ``BadCopies``
    warned: Sequence[str]
    errors: Sequence[CorruptError]  #: of what could not be read


class BegunScrub:
    """Judges all copies and parity of an opened image; *progress* hears of bytes of devices that were judged.

    Data with checksums, nearly all there is to read, are judged at once: that takes only the checksum tree. The others
    wait until they are told of by ``go_on``. A caller that does not come to ask for the ``table`` must ``stop``.
    """

    def __init__(self, image: Image, progress: Progress) -> None:
        self._image, self._progress = image, progress
        self._errors: list[CorruptError] = []
        serve = partial(_serve, image.volume, self._csum_root())
        self._stack = ExitStack()
        self._line = _line_to(serve, self._stack)

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

    def go_on(self, extents: Columns, file_extents: Columns) -> None:
        """Have the rest judged, which these columns tell of, as those of ``Scrub.judge``."""
        relations = (extents, file_extents)
        told = [{name: columns[name] for name in names} for columns, names in zip(relations, TELLING, strict=True)]
        with suppress(BrokenPipeError):  # it has ended, which the table tells
            self._line.tell(pickle.dumps(told, pickle.HIGHEST_PROTOCOL))

    def table(self) -> dict[str, NDArray[Any]]:
        """Return the columns of ``bad_copies``, once all is judged, and pass on what there is to say.

        What cannot be read of the checksum tree is reported to the image. Raises what ended the scrub.
        """
        try:
            while isinstance(told := self._line.hear(), int):
                self._progress(told)
        except EOFError:
            raise BtrimgError("the process that judges data has ended: if memory was short, try again") from None
        outcome = pickle.loads(told)  # noqa: S301  # of a process of our own
        if isinstance(outcome, BaseException):
            raise outcome
        for error in (*self._errors, *outcome.errors):
            self._image.report(error)
        for said in outcome.warned:
            self._image.volume.warn(said)
        return table_of(outcome.rows)


def scrub(image: Image, extents: Columns, file_extents: Columns, progress: Progress) -> dict[str, NDArray[Any]]:
    """Return the columns of ``bad_copies``, as ``BegunScrub`` does."""
    begun = BegunScrub(image, progress)
    try:
        begun.go_on(extents, file_extents)
        return begun.table()
    finally:
        begun.stop()


def _line_to(serve: Callable[[Line], None], stack: ExitStack) -> Line:
    if alone():
        with suppress(OSError):
            return stack.enter_context(beside(serve))
    return stack.enter_context(within(serve))


# What goes on beside


def _serve(volume: Volume, csum_root: Pointer | None, line: Line) -> None:
    """Judge all there is, and tell the outcome, or the error that it ended with."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)
    relations: SimpleQueue[bytes | None] = SimpleQueue()
    Thread(target=_hear, args=(line, relations), daemon=True).start()  # whoever tells of them shall not wait

    def told() -> Any:
        heard = relations.get()
        if heard is None:
            raise EOFError("nobody waits for what is found any more")
        return pickle.loads(heard)  # noqa: S301  # of a process of our own

    warned: list[str] = []
    judged = _Judged(line)
    try:
        with closing(Scrub(volume.for_thread(warned.append), csum_root, judged.add)) as work:
            work.judge(told)
            judged.tell()
            outcome: object = _Outcome(work.found.rows(), warned, work.errors)
    except (BrokenPipeError, EOFError):
        return
    except BaseException as error:  # raised where it is waited for
        outcome = error
    line.tell(pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))


def _hear(line: Line, relations: SimpleQueue[bytes | None]) -> None:
    try:
        relations.put(line.hear())
    except (EOFError, ValueError):  # ValueError: closed by us
        relations.put(None)


class _Judged:
    """Tells how many bytes were judged, now and then."""

    def __init__(self, line: Line) -> None:
        self._line, self._count, self._told = line, 0, monotonic()

    def add(self, count: int) -> None:
        """Count bytes more; BrokenPipeError where nobody hears of them."""
        self._count += count
        if monotonic() - self._told > _SELDOM:
            self.tell()

    def tell(self) -> None:
        """Tell what has not been told yet."""
        self._line.tell(self._count)
        self._count, self._told = 0, monotonic()

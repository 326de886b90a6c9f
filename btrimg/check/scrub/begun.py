"""The scrub beside other work: what it finds is asked for at the end.

It goes on in a process of its own. A thread waits for the interpreter that the other work needs, too: on an image of
540,000 files and 3 GB, ``check --data`` took a tenth longer with it.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from btrimg.check.scrub.told import TELLING, tell_column
from btrimg.errors import BtrimgError, CorruptError, NotFoundError
from btrimg.forked import alone, beside, within
from btrimg.ondisk.constants import TreeId

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btrimg.check.scrub.told import Columns, Outcome, Told
    from btrimg.filesystem.image import Image
    from btrimg.forked import Line
    from btrimg.trees.block import Pointer
    from btrimg.volume.volume import Volume

    Progress = Callable[[int], None]


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
                    tell_column(self._line, columns[name])
        except BrokenPipeError:
            self._outcome()

    def table(self) -> dict[str, NDArray[Any]]:
        """Return the columns of ``bad_copies``, once all is judged, and pass on what there is to say.

        What cannot be read of the checksum tree is reported to the image. Raises what ended the scrub.
        """
        from btrimg.check.scrub.badcopies import table_of

        with suppress(BrokenPipeError):  # it has ended, as its outcome tells
            self._line.tell(None)
        outcome = self._outcome()
        for error in (*self._errors, *outcome.errors):
            self._image.report(error)
        for said in outcome.warned:
            self._image.volume.warn(said)
        return table_of(outcome.rows)

    def _outcome(self) -> Outcome:
        """Wait until all is judged; raise what ended it before."""
        import pickle

        try:
            while isinstance(told := self._line.hear(), int):
                self._progress(told)
        except EOFError:
            raise BtrimgError("what judges the data has ended: was it killed? If memory was short, try again") from None
        outcome = pickle.loads(told)  # noqa: S301  # of a process of our own
        if isinstance(outcome, BaseException):
            raise outcome
        found: Outcome = outcome
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


def _serve(volume: Volume, csum_root: Pointer | None, line: Line) -> None:
    from btrimg.check.scrub.serving import serve  # takes 40 ms, beside those that the caller's own modules take

    serve(volume, csum_root, line)

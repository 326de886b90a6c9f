"""Files that take their names when all of them are complete, or leave nothing behind."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from itertools import repeat
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.volume.mounted import refuse_if_in_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


@contextmanager
def replacing(outputs: Sequence[str], *, force: bool | None = None) -> Iterator[list[str]]:
    """Make an empty file beside each of *outputs*, and give their paths, to be written to within the ``with`` block.

    At its end they are made durable and renamed; when it fails they are removed. Raises DeviceError when one cannot be
    made, or an output exists: unless *force* (None where the user cannot ask for it), and then when it is in use.
    """
    targets = [os.path.realpath(output) for output in outputs]  # what a symlink leads to is replaced, not the symlink
    paths = [f"{target}.partial" for target in targets]
    for output, target in zip(outputs, targets, strict=True):
        _refuse_to_replace(output, target, force)
        if target in paths:
            raise DeviceError(f"{output} is the name of another output while that is written; take another name")
    partials: list[tuple[str, int]] = []
    try:
        _create(paths, partials)
        yield paths
        _complete(partials, targets)
    finally:
        for path, _ in partials:
            with suppress(FileNotFoundError):
                os.unlink(path)


def create_files(paths: Iterable[str], made: list[tuple[str, int]]) -> None:
    """Make empty files, and add their paths to *made*, each with a descriptor to write to it. Raises OSError.

    A signal may end the program between any two of Python's instructions. Here is none between a file and its place in
    the list, so whoever removes what is listed leaves nothing behind.
    """
    paths = list(paths)
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    made.extend(zip(paths, map(os.open, paths, repeat(how), repeat(0o666)), strict=True))


def _complete(partials: list[tuple[str, int]], targets: Sequence[str]) -> None:
    """Rename all of *partials*; what is left of them after an error has not been renamed."""
    try:
        for path, _ in partials:
            _make_durable(path)
        for target in targets:
            os.rename(partials[0][0], target)
            del partials[0]
        for directory in sorted({os.path.dirname(target) for target in targets}):
            _make_durable(directory)
    except OSError as error:
        raise DeviceError(f"cannot write {error.filename}: {error.strerror}") from None


def _refuse_to_replace(output: str, target: str, force: bool | None) -> None:
    if not output:
        raise DeviceError("an output without a name cannot be written; name a file")
    if not os.path.lexists(target):
        return
    if not force or not os.path.isfile(target):
        hint = ", or give --force to replace it" if force is False and os.path.isfile(target) else ""
        raise DeviceError(f"{output} exists; name a new file{hint}")
    refuse_if_in_use(target)


def _create(paths: Sequence[str], made: list[tuple[str, int]]) -> None:
    try:
        create_files(paths, made)
    except FileExistsError as error:
        told = f"{error.filename} exists: another program is writing it, or was killed; if so, remove it"
        raise DeviceError(told) from None
    except OSError as error:
        raise DeviceError(f"cannot make {error.filename}: {error.strerror}") from None
    for _, descriptor in made:
        os.close(descriptor)


def _make_durable(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

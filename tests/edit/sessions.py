"""Sessions of edits in tests: the clock stands, uuids are counted, nothing is refused for being worse."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

from btrimg.edit.session import Session
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.device import Device
from btrimg.volume.restore import UndoFile
from btrimg.volume.sink import DeviceSink
from btrimg.volume.undofile import UndoReader

if TYPE_CHECKING:
    from collections.abc import Sequence


def begun(paths: Sequence[str], undo: str, *, broken: bool = False) -> Session:
    """Return a session on the image at *paths* with that undo file; one that becomes *broken* is not warned of."""
    numbers = count(1)
    now = Timespec(1_700_000_000, 5)
    uuids, hear = (lambda: next(numbers).to_bytes(16, "big")), (lambda _message: None)
    return Session(paths, undo=undo, force=True, now=now, uuids=uuids, report=hear if broken else None)


def undone(paths: Sequence[str], undo: str) -> None:
    """Take back what a session did to the devices at *paths*; they must be as it left them."""
    with ExitStack() as stack:
        file = UndoFile(stack.enter_context(UndoReader(undo)))
        devices = file.assign([stack.enter_context(Device(path)) for path in paths])
        file.require_unchanged(devices)
        file.restore(stack.enter_context(DeviceSink(devices)))

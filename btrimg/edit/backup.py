"""Copies of an image that are made before it is edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.volume.copying import copies

if TYPE_CHECKING:
    from collections.abc import Sequence


def back_up(devices: Sequence[str], target: str) -> None:
    """Copy *devices* to *target*, a directory for several of them: whole, or not at all.

    What the host's filesystem can share with the originals is not copied. Raises DeviceError when something is there
    already, or cannot be written.
    """
    try:
        with copies(devices, target):
            pass
    except OSError as error:
        raise DeviceError(f"cannot copy to {target}: {error.strerror}") from None

"""Copies of an image that are made before it is edited."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.volume.copying import copy_image
from btrimg.volume.replacing import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def back_up(devices: Sequence[str], target: str, progress: Callable[[int], None] = lambda _bytes: None) -> None:
    """Copy *devices* to *target*, a directory for several of them: whole, or not at all.

    What the host's filesystem can share with the originals is not copied. *progress* hears of bytes. Raises DeviceError
    when something is there already, or cannot be written.
    """
    try:
        if len(devices) > 1:
            os.makedirs(target, exist_ok=True)
        names = [os.path.join(target, os.path.basename(path)) if len(devices) > 1 else target for path in devices]
        with replacing(names) as partials:
            for path, partial in zip(devices, partials, strict=True):
                copy_image(path, partial, progress)
    except OSError as error:
        raise DeviceError(f"cannot copy to {target}: {error.strerror}") from None

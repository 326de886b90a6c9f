"""Many pieces of equal size from all over the devices, read in the order in which they lie there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.volume.volume import Volume


def device_order(devid: NDArray[Any], physical: NDArray[Any]) -> NDArray[np.intp]:
    """Return the order in which places lie on the devices."""
    order: NDArray[np.intp] = np.lexsort((physical, devid))
    return order


def gather(volume: Volume, devid: NDArray[Any], physical: NDArray[Any], size: int) -> list[bytes | None]:
    """Return the *size* bytes at each place, None where they cannot be read."""
    found: list[bytes | None] = []
    for number, at in zip(devid.tolist(), physical.tolist(), strict=True):
        device = volume.devices.get(number)
        try:
            found.append(device.pread(size, at) if device else None)
        except DeviceError:
            found.append(None)
    return found

"""Many pieces of equal size from all over the devices, read in the order in which they lie there."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.volume.device import Device
    from btrimg.volume.volume import Volume


def device_order(devid: NDArray[Any], physical: NDArray[Any]) -> NDArray[np.intp]:
    """Return the order in which places lie on the devices."""
    order: NDArray[np.intp] = np.lexsort((physical, devid))
    return order


def gather(volume: Volume, devid: NDArray[Any], physical: NDArray[Any], size: int) -> list[bytes | None]:
    """Return the *size* bytes at each place, None where they cannot be read."""
    found: list[bytes | None] = []
    places, breaks = physical.tolist(), (np.flatnonzero(devid[1:] != devid[:-1]) + 1).tolist()
    for start, end in pairwise([0, *breaks, len(places)] if places else []):
        device, some = volume.devices.get(int(devid[start])), places[start:end]
        if device is None:
            found += [None] * len(some)
            continue
        try:
            found += device.pread_each(size, some)
        except DeviceError:  # of one of them
            found += [_alone(device, size, at) for at in some]
    return found


def _alone(device: Device, size: int, at: int) -> bytes | None:
    try:
        return device.pread(size, at)
    except DeviceError:
        return None

"""Windows show what reading gives; areas are tested by the views that are made of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from btrimg.errors import DeviceError
from btrimg.units import MIB
from btrimg.volume.device import Device
from btrimg.volume.mapping import GRAIN, Window

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 5 * MIB + 100


@pytest.fixture
def device(tmp_path: Path) -> Device:
    path = tmp_path / "device"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return Device(str(path))


@pytest.mark.parametrize(("physical", "length"), [(0, SIZE), (3 * GRAIN, 3 * MIB), (5 * MIB, 100)])
def test_a_window_shows_what_reading_gives(device: Device, physical: int, length: int) -> None:
    window = Window(device, physical, length)
    assert window.load(0, length)
    assert memoryview(window) == device.pread(length, physical)


def test_a_window_does_not_reach_beyond_the_device(device: Device) -> None:
    with pytest.raises(DeviceError, match=f"ends at {SIZE}: no 101 bytes"):
        Window(device, 5 * MIB, 101)


def test_what_is_gone_by_now_is_not_loaded(device: Device) -> None:
    window = Window(device, 0, 4 * MIB)
    with open(device.path, "r+b") as file:
        file.truncate(MIB)
    assert window.load(0, MIB)
    assert not window.load(MIB, GRAIN)

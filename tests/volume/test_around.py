"""Reading around the page cache gives what reading gives, wherever and however much is read."""

from __future__ import annotations

import mmap
import random
from typing import TYPE_CHECKING

import pytest

from btrimg.errors import DeviceError
from btrimg.volume.around import WINDOW, AroundCache
from btrimg.volume.volume import open_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.volume.volume import Volume


@pytest.fixture
def volume(demo_image: str) -> Iterator[Volume]:
    with open_volume([demo_image], warn=print) as opened:
        yield opened


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "through the page cache"])
def test_all_reads_give_the_devices_bytes(volume: Volume, direct: bool) -> None:
    chance, around = random.Random(1), AroundCache(volume)
    device = volume.devices[1]
    if not direct:
        around.close()  # as where O_DIRECT cannot be had
    memory = memoryview(mmap.mmap(-1, 1 << 20))
    for _ in range(200):
        size = chance.choice((4096, 8192, 32768, 65536, 1 << 20))
        start = chance.randrange((device.size - size) // 4096) * 4096 % (3 * WINDOW) + (100 << 20)
        around.read_into(1, memory[:size], start)
        assert memory[:size] == device.pread(size, start)
    around.close()


def test_the_end_of_a_device_and_a_missing_one(volume: Volume) -> None:
    around, device = AroundCache(volume), volume.devices[1]
    memory = memoryview(mmap.mmap(-1, 8192))
    for _ in range(3):  # the window around it reaches past the end
        around.read_into(1, memory[:4096], device.size - 4096)
        assert memory[:4096] == device.pread(4096, device.size - 4096)
    with pytest.raises(DeviceError):
        around.read_into(1, memory, device.size - 4096)
    with pytest.raises(DeviceError, match="device 2 is missing"):
        around.read_into(2, memory, 0)
    around.close()

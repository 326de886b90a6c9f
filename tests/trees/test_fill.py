"""Blocks from their places: every one that can be read is, and only those."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btrimg.errors import DeviceError
from btrimg.trees.batches import fill
from btrimg.units import KIB
from btrimg.volume.device import Device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 4 * KIB
BLOCKS = 100  # of a device


class CountedDevice(Device):
    """A device that counts its reads and cannot be read in some blocks."""

    reads = 0
    broken: frozenset[int] = frozenset()

    def pread_into(self, buffer: memoryview, offset: int) -> None:
        self._refuse(buffer.nbytes, offset)
        super().pread_into(buffer, offset)

    def _refuse(self, length: int, offset: int) -> None:
        self.reads += 1
        if not self.broken.isdisjoint(range(offset // SIZE, (offset + length) // SIZE)):
            raise DeviceError("broken here")


def content(devid: int) -> NDArray[np.uint8]:
    return np.random.default_rng(devid).integers(1, 255, (BLOCKS, SIZE), dtype=np.uint8)


CONTENTS = {devid: content(devid) for devid in (1, 2)}


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, CountedDevice]]:
    directory: Path = tmp_path_factory.mktemp("devices")
    found = {}
    for devid, blocks in CONTENTS.items():
        path = directory / str(devid)
        path.write_bytes(blocks.tobytes())
        found[devid] = CountedDevice(str(path))
    yield found
    for device in found.values():
        device.close()


def filled(
    devices: dict[int, CountedDevice], places: Sequence[tuple[int, int]], wanted: Sequence[bool]
) -> tuple[list[bool], list[bool], int]:
    """Read blocks by devid and number; return which were got, which of these are right, and how many reads it took."""
    rows = np.zeros((len(places), SIZE), np.uint8)
    devid = np.array([devid for devid, _ in places], np.uint64)
    physical = np.array([number * SIZE for _, number in places], np.int64)
    before = sum(device.reads for device in devices.values())
    volume: Any = SimpleNamespace(devices=devices)
    got = fill(volume, rows, devid, physical, np.array(wanted, np.bool_))
    reads = sum(device.reads for device in devices.values()) - before
    right = [
        devid in CONTENTS and number < BLOCKS and bool((row == CONTENTS[devid][number]).all())
        for row, (devid, number) in zip(rows, places, strict=True)
    ]
    return got.tolist(), right, reads


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 2, 3]), st.integers(0, 60), st.booleans()), min_size=1, max_size=40),
    st.booleans(),
    st.frozensets(st.integers(0, 60), max_size=3),
)
def test_every_block_is_read_that_is_wanted_and_can_be(
    devices: dict[int, CountedDevice], several: list[tuple[int, int, bool]], ordered: bool, broken: frozenset[int]
) -> None:
    several = sorted({*several}) if ordered else several
    devices[1].broken = broken
    try:
        got, right, _ = filled(devices, [each[:2] for each in several], [wanted for *_, wanted in several])
    finally:
        devices[1].broken = frozenset()
    expected = [
        wanted and devid in devices and not (devid == 1 and number in broken) for devid, number, wanted in several
    ]
    assert got == expected
    assert [is_right for is_right, is_got in zip(right, got, strict=True) if is_got] == [True] * sum(got)


def test_what_lies_behind_the_end_of_a_device_keeps_nothing_else_from_being_read(
    devices: dict[int, CountedDevice],
) -> None:
    got, right, _ = filled(devices, [(1, BLOCKS - 2), (1, BLOCKS - 1), (1, BLOCKS), (2, 7)], [True] * 4)
    assert got == right == [True, True, False, True]


def test_neighbours_are_read_at_once(devices: dict[int, CountedDevice]) -> None:
    assert filled(devices, [(1, 3), (1, 4), (1, 5), (2, 6), (2, 8)], [True] * 5) == ([True] * 5, [True] * 5, 3)

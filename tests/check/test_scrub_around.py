"""Reading around the page cache: what it does not hold is read right, and it does not grow."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.uncached import written_back

from btrimg.check.scrub.around import AroundReader, new_room
from btrimg.check.scrub.copies import GROUP_BYTES, Pieces, expect_copy
from btrimg.errors import DeviceError
from btrimg.pagecache import residency
from btrimg.units import KIB, MIB
from btrimg.volume.cachestat import cached_bytes
from btrimg.volume.device import Device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DEVID = 3


class OneDevice:
    """What the reader asks of a volume."""

    def __init__(self, device: Device) -> None:
        self.devices = {DEVID: device}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Give a file of 16 MiB that is on its disk only; skip where files cannot be read around the page cache."""
    found = tmp_path / "device"
    found.write_bytes(random.Random(7).randbytes(16 * MIB))
    written_back(str(found))
    try:
        Device(str(found), direct=True).close()
    except DeviceError as error:
        pytest.skip(str(error))
    if residency.resident(str(found)):
        pytest.skip("this filesystem keeps files in memory")
    return str(found)


@pytest.fixture
def reader(path: str) -> Iterator[AroundReader]:
    """Give a reader of that file."""
    with Device(path) as device:
        volume: Any = OneDevice(device)
        reader = AroundReader(volume)
        yield reader
        reader.close()


def pieces_of(parts: Sequence[tuple[int, int]]) -> Pieces:
    """Return *parts*, (physical, length) of whole groups together, as pieces with one copy."""
    physical, length = (np.array(column, np.int64) for column in zip(*parts, strict=True))
    at = np.cumsum(length) - length
    groups = int(length.sum()) // GROUP_BYTES
    bounds = np.searchsorted(at // GROUP_BYTES, np.arange(groups + 1))
    devid = np.full((1, len(parts)), DEVID, np.uint64)
    return Pieces(4096, at, length, at // 4096, devid, physical[None], bounds, at % GROUP_BYTES)


def test_parts_are_read_with_what_lies_between_them_and_nothing_stays(path: str, reader: AroundReader) -> None:
    parts = [(MIB, 768 * KIB), (MIB + 800 * KIB, 256 * KIB), (8 * MIB, 256 * KIB), (8 * MIB + 300 * KIB, 768 * KIB)]
    read = reader.read(pieces_of(parts), range(2), 0, new_room())
    assert read is not None
    with open(path, "rb") as file:
        assert [bytes(part) for part in read] == [os.pread(file.fileno(), size, at) for at, size in parts]
    written_back(path)
    reader.read(pieces_of(parts), range(2), 0, new_room())
    assert residency.resident(path) == 0


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(number * 128 * KIB + number * 160 * KIB, 128 * KIB) for number in range(8)], id="short"),
        pytest.param([(0, 512 * KIB), (MIB + 1, 512 * KIB)], id="not aligned"),
        pytest.param([(16 * MIB - 512 * KIB, MIB)], id="beyond the end"),
    ],
)
def test_what_is_not_read_so(reader: AroundReader, parts: list[tuple[int, int]]) -> None:
    assert reader.read(pieces_of(parts), range(1), 0, new_room()) is None


def test_what_is_cached_is_left_to_the_cache(path: str, reader: AroundReader) -> None:
    with open(path, "rb") as file:
        file.read(3 * MIB)
    assert reader.read(pieces_of([(MIB, MIB)]), range(1), 0, new_room()) is None
    assert reader.read(pieces_of([(12 * MIB, MIB)]), range(1), 0, new_room()) is not None


def test_a_file_that_has_taken_the_place_of_a_device_is_not_read(path: str) -> None:
    with Device(path) as device:
        os.rename(path, path + ".old")
        with open(path, "wb") as file:
            file.truncate(16 * MIB)
        volume: Any = OneDevice(device)
        reader = AroundReader(volume)
        assert reader.read(pieces_of([(MIB, MIB)]), range(1), 0, new_room()) is None
        reader.close()


class ToldDevice(Device):
    """A device that keeps what it was told to expect."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.expected: list[tuple[int, int]] = []

    def expect(self, length: int, offset: int) -> None:
        self.expected.append((offset, length))


def test_the_kernel_is_asked_to_read_only_what_it_does_not_have(path: str) -> None:
    parts = [(MIB, 768 * KIB), (MIB + 800 * KIB, 256 * KIB)]
    with ToldDevice(path) as device:
        try:
            cached_bytes(device.fileno())
        except OSError as error:
            pytest.skip(str(error))
        volume: Any = OneDevice(device)
        expect_copy(volume, pieces_of(parts), range(1), 0)
        assert device.expected == parts
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # nothing of what lies between
            for at, size in parts:
                os.pread(file.fileno(), size, at)
        device.expected.clear()
        expect_copy(volume, pieces_of(parts), range(1), 0)
        assert device.expected == []

"""Pieces from many places: each one is what one read of it gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import DeviceError
from btrimg.volume.device import Device
from btrimg.volume.gather import device_order, gather

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_can_be_read_comes_and_the_rest_is_none(tmp_path: Path) -> None:
    contents = {1: bytes(range(200)), 7: bytes(range(100, 250))}
    for number, content in contents.items():
        (tmp_path / str(number)).write_bytes(content)
    volume: Any = SimpleNamespace(devices={number: Device(str(tmp_path / str(number))) for number in contents})
    devid, physical = np.repeat(np.array([1, 3, 7], np.uint64), 4), np.tile([0, 5, 195, 142], 3)
    order = device_order(devid, physical)
    found = gather(volume, devid[order], physical[order], 8)
    expected = [
        contents[number][at : at + 8] if number in contents and at + 8 <= len(contents[number]) else None
        for number, at in zip(devid[order].tolist(), physical[order].tolist(), strict=True)
    ]
    assert found == expected
    assert found.count(None) == 1 + 4 + 1
    assert gather(volume, devid[:0], physical[:0], 8) == []


def test_one_place_that_cannot_be_read_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image").write_bytes(bytes(64))
    device = Device(str(tmp_path / "image"))
    real = device.pread

    def failing(length: int, offset: int) -> bytes:
        if offset == 16:
            raise DeviceError("a bad sector")
        return real(length, offset)

    def refuse(_length: int, _offsets: object) -> list[bytes]:
        raise DeviceError("a bad sector, one of many")

    monkeypatch.setattr(device, "pread", failing)
    monkeypatch.setattr(device, "pread_each", refuse)
    volume: Any = SimpleNamespace(devices={1: device})
    found = gather(volume, np.ones(4, np.uint64), np.arange(0, 64, 16), 16)
    assert found == [bytes(16), None, bytes(16), bytes(16)]

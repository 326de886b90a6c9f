"""``tree_blocks.csum``: the state of every copy, sound, damaged, another block's, or on a device that is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from btrimg.filesystem.image import open_image
from btrimg.filesystem.locate import Locator
from btrimg.tables.build import build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.images import KernelImage

    from btrimg.filesystem.image import Image


def states(image: Image) -> dict[int, str]:
    table = build(image, ["tree_blocks"])["tree_blocks"]
    return dict(zip(table["logical"].tolist(), table["csum"].tolist(), strict=True))


def test_a_copy_is_bad_when_it_is_damaged_or_another_block(forged: str) -> None:
    with open_image(forged, warn=pytest.fail) as image:
        before = states(image)
        first, second, third, *_ = (logical for logical, said in before.items() if said == "ok ok")
        places = {each: image.volume.chunk_map.locate(each).copies for each in (first, second, third)}
    with open(forged, "r+b") as file:
        file.seek(places[third][0].physical)
        block = file.read(16384)
        file.seek(places[first][0].physical)
        file.write(block)
        file.seek(places[second][1].physical + 9999)
        file.write(b"?")
    with open_image(forged, warn=lambda _: None) as image:
        after = states(image)
    assert after == before | {first: "bad ok", second: "ok bad"}
    assert set(before.values()) <= {"ok", "ok ok"}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("profile", ["raid1c3", "raid10", "raid5"])
def test_states_are_those_that_locate_finds(
    profile: str, kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btrimg.tables.blockcopies.BATCH_BYTES", 1 << 17)
    whole: Sequence[str] = kernel_image(profile=profile).devices
    with open_image(whole) as image:
        lost = image.volume.devices[image.volume.chunk_map.locate(image.root_tree.root.logical).copies[0].devid].path
    for devices in (whole, [path for path in whole if path != lost]):
        with open_image(devices, warn=lambda _: None) as image:
            found, locator = states(image), Locator(image)
            for logical, said in found.items():
                piece = next(locator.at_logical(logical, 1))
                assert said.split() == [copy.csum for copy in piece.copies]
        assert {word for said in found.values() for word in said.split()} == {"ok", *(["missing"] * (devices != whole))}

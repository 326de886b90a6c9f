"""The checker finds nothing in what the kernel wrote."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from support import odd
from support.matrix import name_of, options_of, variants

from btrimg.check.rule import rules
from btrimg.check.run import check
from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from support.images import KernelImage
    from support.powerloss import CutImage

FURTHER: dict[str, dict[str, Any]] = {
    "mixed": {"profile": "dup", "nodesize": 4096, "mkfs_options": ("--mixed",)},
    "old": {"profile": "raid1", "features": ("^no-holes", "^skinny-metadata")},
    "space-cache": {"profile": "raid0", "mkfs_options": ("-R", "^free-space-tree")},
    "block-group-tree": {"profile": "raid1c4", "features": ("block-group-tree",)},
}
IMAGES = {name_of(cell): options_of(cell) for cell in variants()} | FURTHER


LEFT_BY_MKFS = "free-space-info-orphan"  # a warning that is right where mkfs.btrfs is older than 6.19


def findings(devices: Sequence[str], **opening: Any) -> list[str]:
    chosen = [rule for rule in rules().values() if not rule.needs_data and rule.code != LEFT_BY_MKFS]
    with open_image(devices, **opening) as image:
        return [f"{finding.rule.code}: {finding.sentence()}" for finding in check(image, chosen)]


def test_the_demo_is_clean(demo_image: str) -> None:
    assert findings([demo_image]) == []


@pytest.mark.kernel
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_the_kernel_is_clean(name: str, kernel_image: Callable[..., KernelImage]) -> None:
    assert findings(kernel_image(**IMAGES[name]).devices) == []


@pytest.mark.kernel
@pytest.mark.parametrize("nodesize", [4096, 16384])
def test_an_image_whose_power_was_cut_is_clean(nodesize: int, cut_image: Callable[..., CutImage]) -> None:
    assert findings(cut_image(nodesize=nodesize).devices, replay_log=None) == []


@pytest.mark.kernel
@pytest.mark.parametrize(
    "make", [odd.quotas, odd.simple_quotas, odd.received, odd.replaced, odd.paused], ids=lambda make: make.__name__
)
def test_an_odd_image_is_clean(make: Callable[[str], Sequence[str]], tmp_path: Path) -> None:
    devices = make(str(tmp_path))
    assert findings(devices) == []
    if make is not odd.simple_quotas:  # btrfs-progs 6.2 do not open it
        done = subprocess.run(["btrfs", "check", "--readonly", devices[0]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

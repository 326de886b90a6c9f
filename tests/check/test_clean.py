"""The checker finds nothing in what the kernel wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import odd
from support.broken import broken, progs_verdict, progs_version
from support.images import mkfs_features
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
    if name == "block-group-tree" and name not in mkfs_features():
        pytest.skip("this mkfs.btrfs makes no block group tree")
    assert findings(kernel_image(**IMAGES[name]).devices) == []


@pytest.mark.kernel
@pytest.mark.parametrize("nodesize", [4096, 16384])
def test_an_image_whose_power_was_cut_is_clean(nodesize: int, cut_image: Callable[..., CutImage]) -> None:
    assert findings(cut_image(nodesize=nodesize).devices, replay_log=None) == []


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize(
    "make",
    [odd.quotas, odd.simple_quotas, odd.received, odd.longest, odd.replaced, odd.paused],
    ids=lambda make: make.__name__,
)
def test_an_odd_image_is_clean(make: Callable[[str], Sequence[str]], tmp_path: Path) -> None:
    if make is odd.simple_quotas and progs_version() < (6, 7):
        pytest.skip("this btrfs-progs does not know simple quotas")
    devices = make(str(tmp_path))
    assert findings(devices) == []
    verdict, said = progs_verdict(devices)
    assert verdict == "clean", said


@pytest.mark.kernel
def test_what_a_balance_moves_may_have_no_checksums(base_image: Callable[[str], Sequence[str]]) -> None:
    """The inode that it moves a block group by holds data of files with checksums and without; it has no such flag."""
    devices = base_image("rich")
    moved = ["data_reloc/300.INODE_ITEM.0={/nocow/file-0:INODE_ITEM.0}", "data_reloc/300.INODE_ITEM.0/flags=0"]
    with broken(devices, [*moved, "data_reloc/300.EXTENT_DATA.0={/nocow/file-0:EXTENT_DATA.0}"]):
        codes = {sentence.partition(":")[0] for sentence in findings(devices)}
    assert codes == {"inode-nlink", "backref-missing"}

"""What snapshots share is judged once, and still all that is wrong is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.broken import broken

from btrimg.check.rule import rules
from btrimg.check.run import check
from btrimg.filesystem.image import open_image
from btrimg.tables import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from btrimg.tables.leafscan import LeafScan

    Leaves = NDArray[np.int64]

SNAPSHOT = "{/snaps/rw:subvolume}"
EDITS = (
    f"{SNAPSHOT}/256.DIR_INDEX.*[0]=none",
    f"{SNAPSHOT}/256.DIR_ITEM.hash:a/type=FileType.FIFO",
    f"{SNAPSHOT}/256.DIR_ITEM.hash:a/location.objectid=77777",
    "/snaps/rw/a:INODE_REF.*=none",
    "/snaps/rw/a:INODE_ITEM/nlink+=1",
    "/snaps/rw/a:INODE_ITEM/mode^=0o030000",
    "/snaps/rw/a:INODE_ITEM/nbytes+=4096",
    "/snaps/rw/a:INODE_ITEM=none",
    "/sub/c:INODE_ITEM/flags|=InodeFlag.NODATASUM",
    "/sub/c:EXTENT_DATA.*[0]=none",
)


def found(devices: Sequence[str]) -> set[tuple[str, object]]:
    """Return what is found, and where, in whatever subvolume."""
    chosen = [rule for rule in rules().values() if not rule.needs_data]
    with open_image(devices) as image:
        return {(one.rule.code, one.row.get("inode") or one.row.get("parent")) for one in check(image, chosen)}


@pytest.mark.kernel
@pytest.mark.parametrize("edit", EDITS)
def test_findings_are_those_of_whole_subvolumes(
    edit: str, base_image: Callable[[str], Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = base_image("rich")
    with_bases = differences._with_bases

    def without_bases(scan: LeafScan, leaves_of: Callable[[int], Leaves]) -> Iterator[tuple[int, Leaves, None]]:
        return ((number, leaves, None) for number, leaves, _ in with_bases(scan, leaves_of))

    with broken(devices, [edit]):
        quick = found(devices)
        monkeypatch.setattr(differences, "_with_bases", without_bases)
        assert quick == found(devices)
    assert quick

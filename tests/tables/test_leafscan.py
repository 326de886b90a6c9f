"""Relations of trees without files can be had before the trees of files have been read."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.forge import corrupt

from btrimg.filesystem.image import open_image
from btrimg.filesystem.leafrows import LeafTable
from btrimg.filesystem.strings import Strings
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import TreeId
from btrimg.tables.build import objects_of
from btrimg.tables.leafscan import TAKES, LeafScan, every_tree
from btrimg.tables.schema import EXTENTS, RELATIONS
from btrimg.trees.leafbatch import LeafBatch, leaf_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.images import KernelImage

    from btrimg.errors import CorruptError
    from btrimg.tables.leafscan import Gathered

OTHERS = [RELATIONS[name] for name in TAKES if TreeId.FS_TREE not in RELATIONS[name].trees]


class Sizes(NamedTuple):
    """A row for each item."""

    size: Any


def rows_of(gathered: Gathered) -> list[tuple[object, ...]]:
    """Return the rows, those of the first tree first."""
    columns = []
    for column in gathered.relation.columns:
        values = gathered.different[column.name]
        columns.append((objects_of(column, values) if isinstance(values, Strings) else values)[gathered.rows].tolist())
    return list(zip(gathered.trees.tolist(), *columns, strict=True))


@pytest.mark.kernel
@pytest.mark.progs
def test_they_are_what_they_are_in_the_end(
    kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btrimg.trees.batches.BATCH_BYTES", 1 << 17)  # so that leaves come in many batches
    with open_image(kernel_image(profile="raid10", nodesize=4096, csum="sha256").devices) as image:
        leaves: list[int] = []
        soon: dict[str, Gathered] = {}

        def ask(scan: LeafScan) -> None:
            soon.update((relation.name, scan.gathered(relation)) for relation in OTHERS)
            assert sum(leaves) < scan.leaves

        LeafScan(image, OTHERS, every_tree(image), soon=ask, progress=lambda count, _bytes: leaves.append(count))
        scan = LeafScan(image, OTHERS, every_tree(image))
        for relation in OTHERS:
            assert rows_of(soon[relation.name]) == rows_of(scan.gathered(relation))


@pytest.mark.parametrize("at_once", [False, True])
def test_of_items_in_a_wrong_tree_is_told_all_the_same(demo_image: str, tmp_path: Path, *, at_once: bool) -> None:
    shutil.copyfile(demo_image, image_path := str(tmp_path / "image"))
    corrupt(image_path, "fs/256.168.7=0x0102")  # an EXTENT_ITEM of two bytes
    told: list[CorruptError] = []
    with open_image(image_path) as image:
        image.listen(told.append)
        LeafScan(image, [EXTENTS], every_tree(image), soon=lambda scan: at_once and scan.take(EXTENTS))
    assert ["its 2 bytes are fewer than 24" in str(each) for each in told] == [True]


def test_a_table_that_is_finished_takes_no_more() -> None:
    def sizes(batch: LeafBatch) -> tuple[LeafBatch, Sizes]:
        return batch, Sizes(batch.size)

    table = LeafTable(sizes)
    table.add(leaf_of([(Key(1, 1, 0), b"abc")], 0))
    table.finish()
    table.add(leaf_of([(Key(1, 1, 0), b"a")], 1))
    table.finish()
    assert table.rows.size.tolist() == [3]

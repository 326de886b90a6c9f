"""What scanning met: which trees could not be read whole."""

from __future__ import annotations

from btrimg.check.faults import bad_blocks, unread_trees
from btrimg.errors import BlockError, CorruptError
from btrimg.ondisk.constants import TreeId


def test_every_tree_without_files_that_a_bad_block_hangs_in_is_unread() -> None:
    faults = [
        BlockError(4096, "csum", "", tree=TreeId.DEV_TREE),
        BlockError(4096, "csum", "", tree=TreeId.EXTENT_TREE),  # the same block, by another way
        BlockError(8192, "csum", "", tree=TreeId.FS_TREE),
        BlockError(8192, "level", "", tree=300),
        BlockError(12288, "csum", ""),
        CorruptError("something else"),
    ]
    assert unread_trees(faults)["tree"].tolist() == [TreeId.EXTENT_TREE, TreeId.DEV_TREE]
    assert bad_blocks(faults)["tree"].tolist() == [TreeId.DEV_TREE, TreeId.FS_TREE, 300, 0]
    assert unread_trees([])["tree"].tolist() == []

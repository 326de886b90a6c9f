"""What an image says of its trees: the log tree's place, and root items that an old kernel left stale."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.demo import VM_MONDAY
from support.forge import edit_leaf, edit_superblock, pack_leaf, write_block

from btrimg.cli.main import run
from btrimg.errors import BlockError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import BlockGroup, ItemType, TreeId
from btrimg.ondisk.roots import RootItem

if TYPE_CHECKING:
    from support.forge import Items


@pytest.mark.parametrize(("later", "refused"), [(1, False), (0, True), (2, True)])
def test_the_log_tree_is_of_the_next_transaction(later: int, refused: bool, forged: str) -> None:
    key = Key(TreeId.TREE_LOG, ItemType.ROOT_ITEM, 300)
    with open_image(forged) as image:
        volume = image.volume
        chunk = next(chunk for chunk in volume.chunk_map if chunk.type & BlockGroup.METADATA)
        logical = chunk.logical + chunk.length - volume.nodesize  # free
        header = image.blocks.read(image.root_tree.root).header
        header = header.replace(
            bytenr=logical, level=0, generation=image.superblock.generation + later, owner=TreeId.TREE_LOG
        )
        empty = header.pack().ljust(volume.nodesize, b"\0")
        write_block(image, forged, logical, pack_leaf(empty, {key: bytes(439)}))
    edit_superblock(forged, lambda superblock: superblock.replace(log_root=logical))
    with open_image(forged, warn=lambda _: None) as image:
        tree = image.tree(TreeId.TREE_LOG)
        if refused:
            with pytest.raises(BlockError, match=rf"generation is {12 + later}, its parent says 13"):
                list(tree.items())
        else:
            assert [key for key, _ in tree.items()] == [key]


def test_uuids_of_a_root_item_that_an_old_kernel_wrote_are_not_shown(
    forged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> dict[str, Any]:
        assert run(["stat", "--json", f"{forged}:/vm-monday"]) == 0
        root: dict[str, Any] = json.loads(capsys.readouterr().out)["root"]
        return root

    def age(items: Items) -> None:
        key = max(key for key in items if key[:2] == (VM_MONDAY, ItemType.ROOT_ITEM))
        item = RootItem.unpack(items[key])
        items[key] = item.replace(generation_v2=item.generation - 1).pack()

    before = shown()
    assert isinstance(before["uuid"], str)
    assert isinstance(before["parent_uuid"], str)
    edit_leaf(forged, TreeId.ROOT_TREE, age, at=Key(VM_MONDAY, ItemType.ROOT_ITEM, 0))
    assert shown() == before | dict.fromkeys(("uuid", "parent_uuid", "received_uuid"))

"""Tree blocks as text and as objects, and the walk that also shows broken ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.blocks import AT, FS_TREE, LEAVES, NODES, NODESIZE, ROOT, header, inode_ref, leaf, node, reader, seal, tree

from btrimg.errors import BlockError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, DiskKey, Header, Item, Key
from btrimg.ondisk.constants import ItemType
from btrimg.ondisk.inodes import InodeRef
from btrimg.render.answers import json_line
from btrimg.render.dump_json import block_object
from btrimg.render.dump_tree import found_lines, root_line, tree_heading
from btrimg.render.style import Style
from btrimg.trees.block import Block, Pointer
from btrimg.trees.salvage import BadBlock, claim_of, fault_of, read_anyway, walk

if TYPE_CHECKING:
    from random import Random


def order(blocks: dict[int, list[bytes]], *keys: Key, depth_first: bool = False) -> list[int]:
    return [at.logical for at, _ in walk(reader(blocks), AT, *keys, depth_first=depth_first)]


def test_breadth_first_shows_level_by_level_and_depth_first_parents_before_children() -> None:
    assert order(tree()) == [ROOT, *NODES, *LEAVES]
    assert order(tree(), depth_first=True) == [ROOT, NODES[0], *LEAVES[:3], NODES[1], *LEAVES[3:]]


def test_a_key_range_reads_no_block_beside_it() -> None:
    def at(ino: int) -> Key:
        return Key(ino, ItemType.INODE_REF, 256)

    assert order(tree(), at(264), at(267)) == [ROOT, *NODES, LEAVES[2], LEAVES[3]]
    assert order(tree(), at(260), at(260)) == [ROOT, NODES[0], LEAVES[1]]
    assert order(tree(), KEY_MIN, at(256)) == [ROOT]
    assert order(tree(), at(999), KEY_MAX) == [ROOT, NODES[1], LEAVES[4]]


def shown(data: bytes, style: Style | None = None, *keys: Key) -> list[str]:
    return list(found_lines(Block(Header.unpack(data), data), style or Style(1), *keys))


def test_leaf_text() -> None:
    data = leaf(LEAVES[0], [inode_ref(257), (Key(257, ItemType.ORPHAN_ITEM, 0), b"")])
    assert shown(data) == [
        "leaf 4194304 items 2 free space 3931 generation 9 owner FS_TREE",
        "leaf 4194304 flags 0x3(WRITTEN|RELOC) backref revision 1",
        "fs uuid 00010203-0405-0607-0809-0a0b0c0d0e0f",
        "chunk uuid 64656667-6869-6a6b-6c6d-6e6f70717273",
        "\titem 0 key (257 INODE_REF 256) itemoff 3981 itemsize 14",
        "\t\tindex 257 namelen 4 name: \\ 257",
        "\titem 1 key (257 ORPHAN_ITEM 0) itemoff 3981 itemsize 0",
        "\t\torphan item",
    ]
    assert shown(data, Style(1, csum_headers=True))[1].endswith(f" backref revision 1 csum 0x{data[:8].hex()}")
    only = Key(257, ItemType.ORPHAN_ITEM, 0)
    assert [line for line in shown(data, None, only, only) if "item " in line and "key" in line] == [
        "\titem 1 key (257 ORPHAN_ITEM 0) itemoff 3981 itemsize 0"
    ]
    assert shown(leaf(LEAVES[0], []))[0].startswith("leaf 4194304 items 0 free space 3995 ")


def test_node_text() -> None:
    assert shown(tree()[NODES[1]][0])[:1] + shown(tree()[NODES[1]][0])[4:] == [
        "node 3145728 level 1 items 2 free space 119 generation 9 owner FS_TREE",
        "\tkey (266 INODE_REF 256) block 4206592 gen 9",
        "\tkey (269 INODE_REF 256) block 4210688 gen 9",
    ]


def test_an_item_that_points_outside_the_leaf_says_so() -> None:
    data = seal(header(LEAVES[0], 0, 1), Item(DiskKey(1, ItemType.INODE_ITEM, 0), 4000, 160).pack())
    assert shown(data)[4:] == [
        "\titem 0 key (ROOT_TREE INODE_ITEM 0) itemoff 4000 itemsize 160",
        "\t\titem data lies outside the data area",
    ]
    item = block_object(AT, Block(Header.unpack(data), data), None)["items"][0]
    assert (item["size"], item["records"], item["tail"]) == (160, None, None)


def damaged(data: bytes, at: int = 2000) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_a_bad_block_is_shown_below_a_line_that_says_why_and_its_children_too() -> None:
    blocks = tree()
    blocks[NODES[0]] = [damaged(data) for data in blocks[NODES[0]]]
    found = dict(walk(reader(blocks), AT))
    assert [at.logical for at in found] == [ROOT, *NODES, *LEAVES]
    bad = next(block for at, block in found.items() if at.logical == NODES[0])
    assert [fault_of(block) is None for block in found.values()] == [True, False, *[True] * 6]
    text = list(found_lines(bad, Style(1)))
    assert text[0].startswith(f"BAD tree block {NODES[0]}: bad checksum")
    assert text[1:] == shown(tree()[NODES[0]][0])
    object_ = block_object(AT, bad, Key(5, 132, 0))
    assert object_["fault"] == text[0].removeprefix("BAD ")
    assert [pointer["blockptr"] for pointer in object_["pointers"]] == LEAVES[:3]


def test_the_good_one_of_two_copies_is_taken() -> None:
    blocks = tree()
    blocks[NODES[0]][0] = damaged(blocks[NODES[0]][0])
    assert all(fault_of(block) is None for _, block in walk(reader(blocks), AT))


def test_of_two_bad_copies_the_one_that_knows_its_place_is_shown() -> None:
    blocks = tree()
    blocks[LEAVES[0]] = [bytes(NODESIZE), damaged(blocks[LEAVES[0]][0])]
    bad = read_anyway(reader(blocks), Pointer(LEAVES[0], 0, 9, FS_TREE))
    assert (bad.header.bytenr, len(bad)) == (LEAVES[0], 3)


def test_what_cannot_be_read_at_all_is_an_error_in_its_place() -> None:
    blocks = tree()
    del blocks[LEAVES[1]]
    found = [block for _, block in walk(reader(blocks), AT)]
    lost = found[4]
    assert isinstance(lost, BlockError)
    assert len(found) == 8
    assert list(found_lines(lost, Style(1))) == [f"BAD {lost}"]
    object_ = block_object(Pointer(LEAVES[1], 0), lost, None)
    assert (object_["block"], object_["fault"], object_["header"]) == (LEAVES[1], str(lost), None)


def test_a_block_alone_is_read_by_what_it_claims() -> None:
    blocks = reader(tree())
    assert claim_of(blocks, NODES[1]) == Pointer(NODES[1], 1)
    assert fault_of(read_anyway(blocks, claim_of(blocks, NODES[1]))) is None
    assert [at.logical for at, _ in walk(blocks, claim_of(blocks, NODES[1]))] == [NODES[1], *LEAVES[3:]]


def test_a_bad_node_that_points_to_its_like_ends() -> None:
    blocks = tree()
    loop = node(NODES[0], 1, [(Key(n, 1, 0), NODES[0]) for n in range(100)])
    blocks[NODES[0]] = [damaged(loop, 4000)]
    blocks[ROOT] = [damaged(node(ROOT, 2, [(Key(n, 1, 0), NODES[0]) for n in range(100)]), 4000)]
    assert order(blocks, depth_first=True) == [ROOT, NODES[0]]
    assert order(blocks) == [ROOT, NODES[0]]


@given(st.randoms(use_true_random=False), st.integers(0, 9), st.integers(0, (1 << 32) - 1))
def test_any_bytes_can_be_shown_as_a_bad_block(random: Random, level: int, count: int) -> None:
    bad = BadBlock(header(ROOT, level, count).pack() + random.randbytes(NODESIZE - Header.SIZE), "noise")
    assert all(line.isascii() for line in found_lines(bad, Style(1)))
    parsed = json.loads(json_line(block_object(AT, bad, None)))
    assert parsed["header"]["nritems"] == count
    assert len(parsed["items"] or parsed["pointers"] or []) == min(count, 3995 // (33 if level else 25))


def test_object_of_a_leaf() -> None:
    data = leaf(LEAVES[0], [(Key(257, ItemType.INODE_REF, 256), InodeRef(2, 3, b"a\xff ").pack() + b"\x01\x02")])
    found = block_object(Pointer(LEAVES[0], 0, 9, FS_TREE), Block(Header.unpack(data), data), Key(5, 132, 0))
    assert list(found) == ["block", "tree", "root", "fault", "header", "pointers", "items"]
    assert (found["block"], found["tree"], found["fault"], found["pointers"]) == (LEAVES[0], FS_TREE, None, None)
    assert found["root"] == {"objectid": 5, "type": 132, "offset": 0}
    assert found["header"]["fsid"] == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert found["header"]["csum"] == data[:32].hex()
    assert found["items"] == [
        {
            "slot": 0,
            "key": {"objectid": 257, "type": 12, "offset": 256},
            "type": "INODE_REF",
            "offset": 3980,
            "size": 15,
            "records": [{"record": "InodeRef", "index": 2, "name_len": 3, "name": "a\udcff "}],
            "tail": "0102",
        }
    ]
    assert json.loads(json_line(found)) == found
    hidden = block_object(AT, Block(Header.unpack(data), data), None, hide_names=True)["items"][0]
    assert (hidden["records"][0]["name"], hidden["tail"]) == ("HIDDEN", "HIDDEN")


@pytest.mark.parametrize(
    ("tree_id", "key", "heading", "line"),
    [
        (1, None, "root tree", "root tree: 77 level 2"),
        (2**64 - 6, None, "log root tree", "log root tree: 77 level 2"),
        (5, Key(5, 132, 0), "fs tree key (FS_TREE ROOT_ITEM 0) ", "fs tree key (FS_TREE ROOT_ITEM 0) 77 level 2"),
        (300, Key(300, 132, 9), "file tree key (300 ROOT_ITEM 9) ", "file tree key (300 ROOT_ITEM 9) 77 level 2"),
    ],
)
def test_headings(tree_id: int, key: Key | None, heading: str, line: str) -> None:
    assert tree_heading(tree_id, key) == heading
    assert root_line(tree_id, key, Pointer(77, 2)) == line

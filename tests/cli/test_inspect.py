"""``btrimg inspect`` on the demo's image, whole and broken, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.images import copy_sparse

from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, TreeId

if TYPE_CHECKING:
    from pathlib import Path

FS_TREE, CSUM_TREE = 5, 7


class Ran(NamedTuple):
    """What one run gave."""

    code: int
    out: list[str]
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out]


def inspect(*words: str) -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "btrimg", "inspect", *words], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout.splitlines(), done.stderr)


def places(image: str, logical: int) -> list[int]:
    """Return where every copy of a tree block lies."""
    with open_image([image]) as opened:
        return [copy.physical for copy in opened.volume.chunk_map.locate(logical).copies]


def root_of(image: str, tree: int) -> int:
    with open_image([image]) as opened:
        return opened.tree(tree).root.logical


@pytest.fixture
def broken(demo_image: str, tmp_path: Path) -> str:
    return copy_sparse([demo_image], str(tmp_path))[0]


def overwrite(image: str, offset: int, content: bytes) -> None:
    with open(image, "r+b") as file:
        file.seek(offset)
        file.write(content)


def break_block(image: str, logical: int, at: int = 3000, content: bytes = b"\xee" * 8) -> None:
    for physical in places(image, logical):
        overwrite(image, physical + at, content)


def test_text_and_json_show_the_same_items(demo_image: str) -> None:
    text, objects = inspect("dump-tree", demo_image), inspect("dump-tree", "--json", demo_image)
    assert (text.code, objects.code, text.err, objects.err) == (0, 0, "", "")
    lines = [line.split(" ") for line in text.out if line.startswith("\titem ")]
    items = [item for block in objects.objects for item in block["items"] or []]
    assert len(items) > 150
    assert [(words[1], words[-3], words[-1]) for words in lines] == [
        (str(item["slot"]), str(item["offset"]), str(item["size"])) for item in items
    ]
    assert [words[4] for words in lines] == [item["type"] for item in items]


def test_several_trees_and_a_key_range(demo_image: str) -> None:
    both = inspect("dump-tree", "-t", "fs", "-t", "CSUM", demo_image)
    headings = [line for line in both.out if " tree key (" in line]
    assert headings == ["fs tree key (FS_TREE ROOT_ITEM 0) ", "checksum tree key (CSUM_TREE ROOT_ITEM 0) "]
    ranged = inspect("dump-tree", "-t", "fs", "--from", "257,inode_ref", "--to", "258,1", "--json", demo_image)
    keys = [tuple(item["key"].values()) for block in ranged.objects for item in block["items"] or []]
    assert keys
    assert keys == sorted(keys)
    assert keys[0] >= (257, 12, 0)
    assert keys[-1] < (258, 2, 0)


def test_roots_and_backups_as_objects(demo_image: str) -> None:
    objects = inspect("dump-tree", "-R", "--json", demo_image).objects
    roots, backups = objects[:-4], objects[-4:]
    assert [root["root"] and root["root"]["objectid"] for root in roots[:3]] == [None, None, 2]
    assert {root["tree"] for root in roots} >= {1, 2, 3, 4, 5, 7, 9, 10, 256, 257}
    assert all(root["bytenr"] == root_of(demo_image, root["tree"]) for root in roots)
    assert [backup["slot"] for backup in backups] == [0, 1, 2, 3]
    assert max((backup["tree_root_gen"], backup["tree_root"]) for backup in backups)[1] == roots[0]["bytenr"]


def test_a_tree_that_is_not_there_is_exit_code_1_and_the_others_are_shown(demo_image: str) -> None:
    ran = inspect("dump-tree", "-t", "9999", "-t", "fs", demo_image)
    assert ran.code == 1
    assert "found no tree 9999" in ran.err
    assert "fs tree key (FS_TREE ROOT_ITEM 0) " in ran.out


@pytest.mark.parametrize(
    "words",
    [
        ["dump-tree", "-t", "no-such-tree"],
        ["dump-tree", "--from", "1,2,3,4"],
        ["dump-tree", "--to", "5,300"],
        ["dump-tree", "-b", "x"],
        ["dump-super", "-s", "3"],
        ["list-chunks", "--sort", "colour"],
        ["find-root", "-g", "new"],
        ["find-root", "-l", "-1"],
        ["min-dev-size", "--id", "sda"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_and_names_the_word(demo_image: str, words: list[str]) -> None:
    ran = inspect(*words, demo_image)
    assert ran.code == 2
    assert repr(words[2].split(",")[-1] if words[1] == "--to" else words[2]) in ran.err
    assert "int()" not in ran.err


def test_a_broken_leaf_is_shown_below_a_marked_line_and_the_rest_stays(demo_image: str, broken: str) -> None:
    whole = inspect("dump-tree", demo_image).out
    root = root_of(broken, CSUM_TREE)
    break_block(broken, root)
    ran = inspect("dump-tree", broken)
    assert ran.code == 1
    bad = [line for line in ran.out if line.startswith("BAD ")]
    assert [line.partition(":")[0] for line in bad] == [f"BAD tree block {root}"]
    assert bad[0].removeprefix("BAD ") in ran.err
    assert [line for line in ran.out if line not in bad] == whole
    objects = inspect("dump-tree", "--json", "-t", "csum", broken)
    assert objects.code == 1
    assert [block["fault"] for block in objects.objects if block["block"] == root] == [bad[0].removeprefix("BAD ")]


def test_without_the_root_tree_what_the_superblock_leads_to_is_shown(broken: str) -> None:
    root = root_of(broken, TreeId.ROOT_TREE)
    break_block(broken, root, 0, os.urandom(16384))
    ran = inspect("dump-tree", broken)
    assert ran.code == 1
    assert f"BAD tree block {root}: " in "\n".join(ran.out)
    assert "chunk tree" in ran.out
    assert any("FIRST_CHUNK_TREE CHUNK_ITEM" in line for line in ran.out)
    assert ran.out[-3].startswith("total bytes ")
    named = inspect("dump-tree", "-t", "fs", broken)
    assert named.code == 1
    assert named.err.index(f"tree block {root}: ") < named.err.index("found no tree 5")


def test_trees_are_found_through_a_root_tree_with_a_bad_checksum(demo_image: str, broken: str) -> None:
    whole = inspect("dump-tree", demo_image).out
    break_block(broken, root_of(broken, TreeId.ROOT_TREE), 0, b"\xee" * 4)
    ran = inspect("dump-tree", broken)
    assert ran.code == 1
    assert [line for line in ran.out if not line.startswith("BAD ")] == whole


def test_chunks_are_listed_without_their_use_when_no_block_group_can_be_read(broken: str) -> None:
    whole = inspect("list-chunks", "--json", broken)
    assert whole.code == 0
    assert all(0 <= row["used"] <= row["length"] for row in whole.objects)
    assert {row["devid"] for row in whole.objects} == {1}
    break_block(broken, root_of(broken, TreeId.EXTENT_TREE))
    lost = inspect("list-chunks", "--json", broken)
    assert lost.code == 1
    assert [row | {"used": None} for row in whole.objects] == lost.objects
    assert {line.split()[-1] for line in inspect("list-chunks", broken).out[2:]} == {"-"}


def test_every_superblock_copy_is_shown(demo_image: str) -> None:
    size = os.path.getsize(demo_image)
    inside = [offset for offset in SUPERBLOCK_OFFSETS if offset + SUPERBLOCK_SIZE <= size]
    ran = inspect("dump-super", "--all", "--json", demo_image)
    assert ran.code == 0
    assert [(copy["offset"], copy["bytenr"], copy["valid"]["csum"]) for copy in ran.objects] == [
        (offset, offset, True) for offset in inside
    ]
    assert inspect("dump-super", "-s", "2", demo_image).code == 1


def test_a_superblock_is_shown_whatever_is_wrong_with_it(broken: str) -> None:
    overwrite(broken, 65536 + 72, b"\x07")  # a byte of the generation
    ran = inspect("dump-super", broken)
    assert ran.code == 0
    assert next(line for line in ran.out if line.startswith("csum\t")).endswith(" [DON'T MATCH]")
    overwrite(broken, 65536 + 64, b"#")
    ran = inspect("dump-super", broken, broken)
    assert (ran.code, ran.out) == (1, [])
    assert ran.err.count("no btrfs magic at 65536") == 2
    forced = inspect("dump-super", "--force", broken)
    assert forced.code == 0
    assert "magic\t\t\t#BHRfS_M [DON'T MATCH]" in forced.out
    other = inspect("dump-super", "--force", "--bytenr", "1M", broken)
    assert (other.code, other.out[0]) == (0, f"superblock: bytenr=1048576, device={broken}")

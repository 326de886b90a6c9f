"""Exit codes and output where an image is damaged, or more is asked for than a file has."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.demo import COMPRESSED, SPARSE, change_extent, change_size, spoil, text
from support.forge import edit_leaf, edit_superblock

from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import TreeId

if TYPE_CHECKING:
    from pathlib import Path


def btrimg(*words: str) -> tuple[int, bytes, str]:
    """Run the program; return its exit code and what it writes to standard output and standard error."""
    done = subprocess.run([sys.executable, "-m", "btrimg", *words], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.decode()


COMMANDS = [["ls"], ["extents"], ["inspect", "list-chunks"], ["inspect", "dump-tree"]]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_image_too_damaged_to_open_is_exit_code_2(words: list[str], forged: str) -> None:
    edit_superblock(forged, lambda superblock: superblock.replace(sys_chunk_array_size=2049))
    code, out, said = btrimg(*words, forged)
    assert (code, out) == (2, b"")
    assert f"cannot open {forged}: no sound btrfs superblock" in said
    assert said.count("\n") == 1


def test_damage_met_after_opening_is_exit_code_1(forged: str) -> None:
    with open_image(forged) as image, open(forged, "r+b") as device:
        root = image.tree(TreeId.FS_TREE).root.logical
        for place in image.volume.chunk_map.locate(root).copies:
            os.pwrite(device.fileno(), bytes(image.volume.nodesize), place.physical)
    code, out, said = btrimg("stat", f"{forged}:/files/inline.txt")
    assert (code, out) == (1, b"")
    assert f"tree block {root}: bad checksum" in said
    assert "cannot open" not in said


@pytest.mark.parametrize("where", ["", ":/files"])
def test_extents_lists_what_it_can_and_ends_with_exit_code_1(where: str, forged: str) -> None:
    code, whole, said = btrimg("extents", "--json", forged + where)
    assert (code, said) == (0, "")
    edit_leaf(forged, TreeId.FS_TREE, lambda items: change_extent(items, SPARSE, ram_bytes=1))
    code, out, said = btrimg("extents", "--json", forged + where)
    assert code == 1
    assert f"file extent at 0 of inode {SPARSE}" in said
    assert out.splitlines() == [line for line in whole.splitlines() if b'"/files/sparse.raw"' not in line]


@pytest.mark.parametrize("length", ["39", "40", "4096", "1GiB"])
@pytest.mark.parametrize("offset", [0, 2])
def test_cat_ends_with_the_file_whatever_length_is_asked_for(offset: int, length: str, demo_image: str) -> None:
    expected = b"a file this short lies in the metadata\n"[offset:]
    words = ["cat", f"{demo_image}:/files/inline.txt", "--offset", str(offset), "--length", length]
    assert btrimg(*words) == (0, expected, "")


@pytest.mark.parametrize("words", [[], ["--length", "8K"], ["--length", "2MiB"]])
@pytest.mark.parametrize(("ino", "name"), [(SPARSE, "sparse.raw"), (COMPRESSED, "compressed.txt")])
def test_cat_leaves_out_what_an_extent_holds_past_the_end(ino: int, name: str, words: list[str], forged: str) -> None:
    change_size(forged, ino, 5000)
    assert btrimg("cat", f"{forged}:/files/{name}", *words) == (0, text(name, 0, 2)[:5000], "")


def test_cat_ends_a_file_that_ends_in_a_hole(demo_image: str) -> None:
    expected = text("sparse.raw", 0, 2).ljust(1 << 20, b"\0")
    words = ["cat", f"{demo_image}:/files/sparse.raw", "--offset", "4096", "--length"]
    assert btrimg(*words, "2MiB") == (0, expected[4096:], "")
    assert btrimg(*words, "5000") == (0, expected[4096:9096], "")


def test_cat_writes_what_is_sound_before_a_bad_sector(forged: str, tmp_path: Path) -> None:
    spoil(forged, b"/vm/disk.raw", (1 << 20) + 5000)
    whole = text("disk.raw", 0, 1024)
    code, out, said = btrimg("cat", f"{forged}:/vm/clone.raw")
    assert (code, out) == (1, whole[: (1 << 20) + 4096])
    assert "fails its checksum on every copy" in said
    start = (1 << 20) - 10_000
    code, out, _ = btrimg("cat", f"{forged}:/vm/clone.raw", "--offset", str(start))
    assert (code, out) == (1, whole[start : (1 << 20) + 4096])
    code, out, said = btrimg("cat", f"{forged}:/vm/clone.raw", "--no-verify")
    assert (code, said) == (0, "")
    assert [at for at in range(len(whole)) if out[at] != whole[at]] == [(1 << 20) + 5000]

"""What verbs say of what they did: results, and last what became of the image; in a dry run, what would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support import images
from support.fresh import make_empty
from support.program import btrimg

from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
NEW = "00000000-0000-0000-0000-000000000005"


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Give an empty filesystem."""
    path = str(tmp_path / "a.img")
    make_empty(path, 80 * MIB, metadata="dup")
    return path


def objects(*words: object) -> list[dict[str, Any]]:
    """Return what a command says with --json."""
    done = btrimg("edit", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "results"),
    [
        (("mkdir", "/a"), []),
        (("label", "x"), []),
        (("seed", "on"), []),
        (("fsid", NEW), [{"fsid": NEW}]),
        (("metadata-uuid", NEW), [{"fsid": NEW}]),
        (("resize", "+1M"), [{"devid": 1, "bytes": 81 * MIB}]),
        (("feature", "no-holes", "off"), None),
        (("item", "set", "fs", "256.INODE_ITEM.0", "uid=3"), None),
    ],
)
def test_a_verb_that_writes_ends_with_the_generation_and_the_undo_file(
    image: str, words: tuple[str, ...], results: list[dict[str, Any]] | None
) -> None:
    if words[0] == "feature":
        assert objects(image, "feature", "block-group-tree", "off")[-1:] == []
    *told, outcome = objects(image, "--json", "--backup", image + ".bak", *words)
    assert results is None or told == results
    with open_image(image) as after:
        generation = after.superblock.generation
    undo = image + (".undo.2" if words[0] == "feature" else ".undo")
    assert outcome == {"generation": generation, "undo": undo, "backup": image + ".bak"}


def test_what_is_only_read_or_stays_has_no_outcome(image: str) -> None:
    assert objects(image, "--json", "label") == [{"label": ""}]
    assert {each["feature"]: each["state"] for each in objects(image, "--json", "feature")}["no-holes"] == "on"
    assert objects(image, "--json", "feature", "no-holes", "on") == [{"feature": "no-holes", "state": "on"}]
    assert objects(image, "--json", "scrub") == [{"mended": 0, "lost": []}]
    assert objects(image, "--json", "super", "repair") == []
    assert objects(image, "label", "quiet") == [], "as text, a pipe hears only of results"


def test_a_shell_that_writes_nothing_shows_all_that_it_would(image: str, tmp_path: Path) -> None:
    (before,) = images.copy_sparse([image], str(tmp_path / "before"))
    lines = ("mkdir a", "label x", "mkdir a", "begin", "rm -r a", "abort", "resize +1M", "touch a/b", "ls a", "begin")
    done = btrimg("shell", image, "--dry-run", stdin="\n".join((*lines, "touch a/never")))
    assert done.returncode == 2, "that of the second mkdir"
    said = done.stderr.splitlines()
    assert (len(said), "is there already" in said[0], "not committed" in said[1]) == (2, True, True)
    assert "b" in done.stdout.splitlines(), "what is read is the draft"
    assert done.stdout.count("new item (258.INODE_ITEM.0)") == 1
    assert "  mode: none -> 33188 (0o100644)" in done.stdout.splitlines()
    assert "  label: 0x -> x" in done.stdout.splitlines()
    assert f"  total_bytes: {80 * MIB} -> {81 * MIB}" in done.stdout.splitlines()
    assert "never" not in done.stdout
    with open(image, "rb") as file, open(before, "rb") as other:
        assert file.read() == other.read()

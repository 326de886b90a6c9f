"""The damaged images of btrfs-progs' own tests: no traceback, hang or flood of memory, and what is sound is listed.

They are looked for in the directory BTRIMG_CRAFTED. None is ever mounted.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import select
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIRECTORY = os.environ.get("BTRIMG_CRAFTED") or os.path.join(os.path.dirname(ROOT), "shared", "crafted")
MOST_FILES = "100000" if os.environ.get("BTRIMG_FULL_MATRIX") == "1" else "2"  #: of one image that are read
SECONDS = 600
MOST_KIB = 1 << 20

#: Paths, or how many there are, that a reader must list in spite of what is wrong with the image.
LISTED: dict[str, int | set[str]] = {
    "fsck-tests/003-shift-offsets": 11,
    "fsck-tests/006-bad-root-items/default_case": 509,
    "fsck-tests/006-bad-root-items/skinny_case": 582,
    "fsck-tests/010-no-rootdir-inode-item": {"/foo"},
    "fsck-tests/014-no-extent-info/no_extent.raw": 100,
    "fsck-tests/017-missing-all-file-extent": 1,
    "fsck-tests/049-dir-hard-link": 3,
    "fuzz-tests/images/bko-199833-reloc-recovery-crash": {"/foo", "/foo/bar", "/foo/bar/baz", "/foo/bar/æøå"},
    "fuzz-tests/images/bko-199839": 9,
    "fuzz-tests/images/bko-200403": 8,
    "fuzz-tests/images/superblock-stripsize-bogus": 9,
    "fuzz-tests/images/superblock-total-bytes-0": 9,
}
#: Exit codes of ``btrimg check`` by what is expected of ``btrfs check``; what that cannot open, ours may judge.
VERDICTS = {"clean": (0,), "dirty": (1,), "refused": (1, 2)}
#: All that btrfs-progs 6.19 finds in it is what mkfs.btrfs left in the free space tree, which the kernel does not mind.
CLEAN_ALL_THE_SAME = "misc-tests/051-warning-rw-subvol-received-uuid/subvol-rw-recv.img"
#: Names of directories that hang nowhere, in images that are clean all the same.
ORPHANS = {"fsck-tests/054-orphan-directory/default.img.xz": {"bar", "baz"}}


def crafted() -> list[Any]:
    """Return the images of the manifest; one that says why there are none, where there are none."""
    try:
        with open(os.path.join(DIRECTORY, "manifest.json")) as file:
            found = json.load(file)["images"]
    except OSError:
        reason = f"no crafted images in {DIRECTORY} (BTRIMG_CRAFTED names the directory)"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="none")]
    marks = {"dump": [pytest.mark.progs]}
    return [pytest.param(each, marks=marks.get(each["restore"], []), id=each["name"]) for each in found]


def restore(packed: str, how: str, image: str) -> None:
    """Restore an image as the manifest says."""
    if how == "tar":
        with tarfile.open(packed) as archive:
            (member,) = archive
            archive.makefile(member, image)  # keeps holes, and sets no attributes
    elif how == "raw":
        subprocess.run([sys.executable, os.path.join(ROOT, "fixtures/unpack.py"), packed, image], check=True)
    else:
        with lzma.open(packed) as source, open(f"{image}.dump", "wb") as file:
            file.write(source.read())
        subprocess.run(["btrfs-image", "-r", f"{image}.dump", image], check=True, capture_output=True)


class EveryCommand:
    """A process that runs every command on images; what all commands import, it imports once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, images: list[str]) -> list[dict[str, Any]]:
        """Run every command on an image; the first is ``ls -R --json``."""
        if not self._process:
            command = [sys.executable, os.path.join(ROOT, "tests/support/every_command.py"), MOST_FILES]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(images).encode() + b"\n")
        self._process.stdin.flush()
        in_time = select.select([self._process.stdout], [], [], SECONDS)[0]
        line = self._process.stdout.readline() if in_time else b""
        if not line:
            self.end()
        assert line, "it ended" if in_time else f"it takes more than {SECONDS} s"
        results: list[dict[str, Any]] = json.loads(line)
        return results

    def end(self) -> None:
        """End the process, whatever it is at; another one is started when it is needed."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="session")
def every_command() -> Iterator[EveryCommand]:
    """Give the process that all crafted images share."""
    process = EveryCommand()
    yield process
    process.end()


def names_by_progs(images: list[str]) -> set[str]:
    """Return the names of directory entries in all trees of files, as dump-tree prints them."""
    text = subprocess.run(
        ["btrfs", "inspect-internal", "dump-tree", "--noscan", *images], capture_output=True, check=True
    ).stdout.decode(errors="replace")
    trees = re.split(r"\n(?=\S[^\n]* tree(?: key|\n))", text)
    files = [tree for tree in trees if re.match(r"(?:fs|file) tree key", tree)]
    items = [item for tree in files for item in re.findall(r" DIR_INDEX \d+\) (?s:.*?)(?=\n\titem |\Z)", tree)]
    return {name for item in items for name in re.findall(r"\n\t\tname: (.*)", item)}


@pytest.mark.parametrize("crafted_image", crafted())
def test_a_crafted_image_ends_in_sentences(
    crafted_image: dict[str, Any], every_command: EveryCommand, tmp_path: Any
) -> None:
    images = []
    for number, file in enumerate(crafted_image["files"]):
        images.append(str(tmp_path / f"{number}.img"))
        restore(os.path.join(DIRECTORY, file["file"]), crafted_image["restore"], images[-1])
    results = every_command.run(images)
    for result in results:
        assert result["code"] in (0, 1, 2), result
        assert "Traceback" not in result["err"], result
        assert result["code"] == 0 or result["err"].startswith("btrimg: "), result
        assert result["peak_kib"] < MOST_KIB
    (checked,) = (result for result in results if result["words"][0] == "check")
    expected = "clean" if crafted_image["name"] == CLEAN_ALL_THE_SAME else crafted_image["expected"]
    assert checked["code"] in VERDICTS[expected], checked
    listed = [json.loads(line) for line in results[0]["out"].splitlines()]
    name = crafted_image["name"]
    for start, expected in LISTED.items():
        if name.startswith(start):
            paths = {entry["path"] for entry in listed}
            assert len(paths) == expected if isinstance(expected, int) else expected <= paths
    if crafted_image["expected"] == "clean":
        assert results[0]["code"] == 0
        if crafted_image["restore"] == "dump":
            missing = names_by_progs(images) - {entry["name"].rpartition("/")[2] for entry in listed}
            assert missing == ORPHANS.get(name, set())

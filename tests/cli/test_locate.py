"""``btrimg locate``, ``inspect logical-resolve`` and ``inode-resolve``: as a person runs them, and against btrfs."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import kernel, program
from support.images import copy_sparse

from btrimg.cli.locate import FEW
from btrimg.filesystem.backrefs import Backrefs
from btrimg.filesystem.image import open_image
from btrimg.filesystem.locate import Locator
from btrimg.filesystem.namei import paths_of
from btrimg.ondisk.constants import TreeId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from support.images import KernelImage

    from btrimg.filesystem.image import Image


KERNEL_BUFFER = 3800  # of INO_PATHS, as btrfs-progs 6.2 calls it: 4 KiB, and the paths behind are left out


class Ran(NamedTuple):
    """What one run gave."""

    code: int
    out: list[str]
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out]


def btrimg(*words: object, stdin: str | None = None) -> Ran:
    done = program.btrimg(*words, stdin=stdin)
    return Ran(done.returncode, done.stdout.splitlines(), done.stderr)


FIELDS = (
    *("kind", "length", "devid", "physical", "logical", "parity_of", "chunk", "copies", "extent", "tree_block"),
    *("bookend", "files", "kept_by", "found_by"),
)


def test_the_way_there_and_back(demo_image: str) -> None:
    there = btrimg("resolve", f"{demo_image}:/vm/part.raw", 81920, "--json").objects[0]
    for copy in there["copies"]:
        back = btrimg("locate", demo_image, copy["physical"], "--length", "4K", "--json")
        assert (back.code, back.err) == (0, "")
        (piece,) = back.objects
        assert tuple(piece) == FIELDS
        assert (piece["kind"], piece["length"], piece["logical"]) == ("data", 4096, there["logical"])
        assert (piece["devid"], piece["physical"]) == (copy["devid"], copy["physical"])
        assert piece["copies"] == [{**copy, "csum": "ok"}]
        files = [(path, file["offset"]) for file in piece["files"] for path in file["paths"]]
        assert files == [
            *(("/vm/disk.raw", 1064960), ("/vm/clone.raw", 1064960), ("/vm/part.raw", 81920)),
            *(("/vm-monday/disk.raw", 1064960), ("/vm-monday/clone.raw", 1064960), ("/vm-monday/part.raw", 81920)),
        ]
    both = btrimg("locate", demo_image, "--logical", there["logical"], "--json").objects[0]
    assert (both["devid"], both["physical"], both["chunk"]["profile"]) == (None, None, "dup")
    assert both["copies"] == [{**copy, "csum": "ok"} for copy in there["copies"]]


def test_text_says_what_json_says(demo_image: str) -> None:
    with open_image(demo_image) as image:
        block = image.tree(TreeId.CSUM_TREE).root.logical
    for words in (["--logical", block], [0, "--length", "4MiB"], ["--logical", 71303168, "--length", "4MiB"]):
        text, objects = btrimg("locate", demo_image, *words), btrimg("locate", demo_image, *words, "--json").objects
        heads = [line for line in text.out if not line.startswith(" ")]
        assert [line.partition(": ")[2].rpartition(", ")[0] for line in heads] == [each["kind"] for each in objects]
        names = [line.split()[1] for line in text.out if line.startswith("  file ")]
        assert names == [path for each in objects for file in each["files"] for path in file["paths"]]
    tree = btrimg("locate", demo_image, "--logical", block, "--json").objects[0]["tree_block"]
    assert (tree["trees"], tree["level"], tree["owner"]) == ([7], 0, 7)
    assert tree["first_key"][:2] == tree["last_key"][:2] == [TreeId.EXTENT_CSUM, 128]
    assert "  block     leaf of CSUM_TREE, generation 12" in btrimg("locate", demo_image, "--logical", block).out


def test_a_missing_devices_bytes_are_told_too(demo_image: str, tmp_path: Path) -> None:
    ran = btrimg("locate", demo_image, 1, "--devid", 3)
    assert (ran.code, ran.out) == (1, [])
    assert "there is no device 3" in ran.err
    ran = btrimg("locate", demo_image, 1 << 40)
    assert ran.code == 1
    assert "device 1 ends at 268435456" in ran.err
    assert btrimg("locate", demo_image, "x").code == 2
    assert btrimg("locate", demo_image).code == 2
    moved = copy_sparse([demo_image], str(tmp_path))[0]
    assert btrimg("locate", moved, 65536).out[0] == "device 1, 65536: superblock, 1 byte"


def test_addresses_come_in_many_ways(demo_image: str) -> None:
    places = [114311168, 65536, 72368128, 1 << 20, 240373760]
    each = [line for place in places for line in btrimg("locate", demo_image, place).out]
    assert btrimg("locate", demo_image, *places).out == each
    assert btrimg("locate", demo_image, *(f"1:{place}" for place in places)).out == each
    words = " ".join(map(str, places[:3])) + "\n1:1MiB\n0xe53d000\n"
    assert btrimg("locate", demo_image, "-", stdin=words).out == each
    logical = btrimg("locate", demo_image, "--logical", 72368128, "--logical", 71303168).out
    assert btrimg("locate", demo_image, "--logical", "-", stdin="72368128 71303168").out == logical
    assert btrimg("locate", demo_image, 65536, "--logical", 72368128).out == [
        *btrimg("locate", demo_image, 65536).out,
        *btrimg("locate", demo_image, "--logical", 72368128).out,
    ]
    ran = btrimg("locate", demo_image, "-", stdin="65536 a:1")
    assert (ran.code, ran.out) == (2, [])
    assert "on standard input, 'a:1' is no place on a device" in ran.err
    assert btrimg("locate", demo_image, "-", stdin="").out == []
    assert "there is no device 4" in btrimg("locate", demo_image, "4:0").err


def test_many_addresses_are_answered_as_a_few(demo_image: str) -> None:
    rng = random.Random("many")
    places = [rng.randrange(268435456) for _ in range(FEW)] + [65536, 240373760]
    words = "\n".join(map(str, places))
    several = [
        btrimg("locate", demo_image, *places[:101], "--json"),
        btrimg("locate", demo_image, *places[101:], "--json"),
    ]
    few, many = (
        [each for ran in several for each in ran.objects],
        btrimg("locate", demo_image, "-", "--json", stdin=words),
    )
    assert (many.code, many.err) == (0, "")
    assert {each["found_by"] for each in many.objects} == {"scan", None}
    assert [{**each, "found_by": None} for each in many.objects] == [{**each, "found_by": None} for each in few]
    text = btrimg("locate", demo_image, "-", stdin=words)
    assert text.out == [
        line for piece in (places[:101], places[101:]) for line in btrimg("locate", demo_image, *piece).out
    ]
    unchecked = btrimg("locate", demo_image, "-", "--json", "--no-verify", stdin=words).objects
    assert {copy["csum"] for each in unchecked if each["extent"] for copy in each["copies"]} == {"unchecked"}


def test_logical_resolve_and_inode_resolve(demo_image: str) -> None:
    inspect = "inspect", "logical-resolve"
    ran = btrimg(*inspect, "-P", 72531968, demo_image)
    assert ran.out == [
        "inode 258 offset 1228800 root 256",
        "inode 259 offset 245760 root 256",
        "inode 257 offset 1228800 root 257",
        "inode 258 offset 1228800 root 257",
        "inode 259 offset 245760 root 257",
    ]
    every = btrimg(*inspect, "-v", "-o", "-s", "64K", 72531968, demo_image)
    assert every.out.count("/vm/disk.raw") == 2
    objects = btrimg(*inspect, "-o", 72531968, demo_image, "--json").objects
    assert [path for each in objects for path in each["paths"]] == every.out
    block = btrimg(*inspect, 31326208, demo_image)
    assert (block.code, block.out) == (1, [])
    assert "31326208 is in no data extent: tree block" in block.err
    assert btrimg("inspect", "inode-resolve", 261, demo_image).out == ["/files/inline.txt", "/files/deep/hardlink.txt"]
    named = btrimg("inspect", "inode-resolve", 257, f"{demo_image}:/vm", "--json").objects
    assert named == [{"subvolume": 256, "inode": 257, "paths": ["/vm/disk.raw"]}]
    assert btrimg("inspect", "inode-resolve", "-v", 256, f"{demo_image}:/vm-monday/disk.raw").out == ["/vm-monday"]
    assert btrimg("inspect", "inode-resolve", 9999, demo_image).code == 1
    assert btrimg("inspect", "inode-resolve", "x", demo_image).code == 2


def theirs(*words: str) -> list[str]:
    return sorted(kernel.run("btrfs", "inspect-internal", *words).splitlines())


def lines(names: Iterable[bytes], top: str) -> list[str]:
    """Return what btrfs prints of *names* below the mount point *top*; a name can hold a line break."""
    text = "\n".join(top + name.decode("utf-8", "surrogateescape") for name in names)
    return sorted(text.splitlines())


def agree(found: list[str], ours: list[str]) -> None:
    """Compare paths: btrfs leaves out those of subvolumes that are not mounted by themselves, and what is too long."""
    named = [line for line in found if not line.endswith("not mounted")]
    cut = len(named) < len(found) or len("".join(ours)) > KERNEL_BUFFER
    assert named == ours or (cut and set(named) < set(ours))


def sampled(image: Image) -> list[int]:
    """Return addresses at the start, inside and at the end of some data extents, bookends among them."""
    extents = [extent for extent in Backrefs(image).extents(0, 1 << 63) if extent.level is None][::7]
    return [at for each in extents for at in (each.logical, each.logical + each.length // 2 // 4096 * 4096)]


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize(
    "options",
    [{"profile": "raid10"}, {"profile": "dup", "nodesize": 4096, "csum": "xxhash", "compression": "zstd"}],
    ids=["raid10", "compressed"],
)
def test_the_kernel_resolves_addresses_alike(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**options)
    with open_image(written.devices) as image, written.mount() as top:
        locator = Locator(image)
        counts: list[int] = []
        for logical in sampled(image):
            for flags in ([], ["-o"]):
                users = locator.users(logical, ignore_offset=bool(flags))
                found = [f"inode {user.inode} offset {user.offset} root {user.subvolume}" for user in users]
                assert theirs("logical-resolve", "-P", *flags, str(logical), top) == sorted(found)
                names = [name for user in users for name in paths_of(image, user.subvolume, user.inode)]
                agree(theirs("logical-resolve", *flags, str(logical), top), lines(names, top))
                counts.append(len(users))
        assert len(counts) > 40
        assert min(counts) == 0, "of bookends that no file reaches"
        assert max(counts) > 5


@pytest.mark.kernel
@pytest.mark.progs
def test_the_kernel_resolves_inodes_alike(kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image()
    with open_image(written.devices) as image, written.mount() as top:
        files = {entry.stat.ino: entry for entry in written.truth.entries.values() if entry.subvolume == TreeId.FS_TREE}
        linked = [ino for ino, entry in files.items() if entry.stat.nlink > 2 and entry.names is None]
        assert linked
        for ino in [*linked, *list(files)[1::40]]:
            agree(theirs("inode-resolve", str(ino), top), lines(paths_of(image, TreeId.FS_TREE, ino), top))

"""Directories copied into images: judged by all checks, and by the kernel, which shows the same tree again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from support import hosttree, kernel
from support.judges import complaints

from btrimg.build import tree, values
from btrimg.build.image import build_image
from btrimg.build.recipe import Origin
from btrimg.errors import BtrimgError, RecipeError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.constants import Compression, InodeFlag
from btrimg.ondisk.inodes import Timespec
from btrimg.trees.stats import tree_stats

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = Origin("the test", None, "", "", None)
PLAIN = values.Storage()
BLANK = values.Filesystem()._replace(sizes=(None,), seed=b"the test")


def build(image: Path, *operations: Any, filesystem: values.Filesystem = BLANK, **options: Any) -> str:
    """Build *image* by operations; return its path."""
    build_image(filesystem, [(ORIGIN, operation) for operation in operations], [str(image)], **options)
    return str(image)


def copied(source: Path | str, to: bytes = b"/", storage: values.Storage = PLAIN, **more: Any) -> values.FromDirectory:
    return values.FromDirectory(os.fsencode(source), to, storage, **more)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    top = str(tmp_path_factory.mktemp("source"))
    hosttree.make(top, as_root=os.geteuid() == 0)
    return top


VARIANTS: dict[str, tuple[values.Filesystem, values.Storage]] = {
    "usual": (BLANK, PLAIN),
    "zstd": (BLANK._replace(compress=values.Compression(Compression.ZSTD)), PLAIN),
    "holes have items, large sectors": (
        BLANK._replace(features=("^no-holes",), sectorsize=16384, csum="xxhash"),
        values.Storage(compress=values.Compression(Compression.LZO)),
    ),
    "no checksums": (BLANK, values.Storage(nodatacow=True)),
    "mixed, dup, small nodes": (BLANK._replace(mixed=True, nodesize=4096, metadata="dup", data="dup"), PLAIN),
}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_kernel_shows_the_tree_that_was_copied(source: str, tmp_path: Path, variant: str) -> None:
    filesystem, storage = VARIANTS[variant]
    before = hosttree.describe(source)
    image = build(tmp_path / "image", copied(source, storage=storage), filesystem=filesystem)
    assert complaints([image]) == []
    if filesystem.sectorsize not in (None, os.sysconf("SC_PAGE_SIZE")):
        return  # not every kernel mounts them
    with kernel.mount([image], read_only=True) as where:
        after = hosttree.describe(where)
    assert list(after) == list(before)
    for path, thing in before.items():
        assert after[path] == thing, path


@pytest.mark.progs
def test_a_tree_is_the_same_whenever_memory_is_given_back(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = build(tmp_path / "at-once", copied(source))
    monkeypatch.setattr(tree, "_LOOK", 7)
    monkeypatch.setattr(tree, "_MOST_PENDING", 40)
    monkeypatch.setattr(tree, "_MOST_EXTENTS", 30)
    often = build(tmp_path / "often", copied(source))
    assert complaints([often]) == []
    with open_image([at_once]) as one, open_image([often]) as other:
        for path in hosttree.describe(source):
            ours, theirs = one.open(b"/" + path, follow=False), other.open(b"/" + path, follow=False)
            assert ours.item.replace(generation=0, transid=0, sequence=0) == theirs.item.replace(
                generation=0, transid=0, sequence=0
            )
            assert ours.xattrs() == theirs.xattrs()
            if ours.is_directory:
                assert sorted(entry.name for entry, _ in ours.entries()) == sorted(
                    entry.name for entry, _ in theirs.entries()
                )
            elif ours.is_regular:
                assert ours.read(0, 1 << 20) == theirs.read(0, 1 << 20)


def test_the_same_tree_gives_the_same_bytes(source: str, tmp_path: Path) -> None:
    zstd = BLANK._replace(compress=values.Compression(Compression.ZSTD))
    first, second = (build(tmp_path / name, copied(source), filesystem=zstd, latest=10**18) for name in "ab")
    with open(first, "rb") as one, open(second, "rb") as other:
        assert one.read() == other.read()


def test_leaves_are_packed_full(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(2000):
        (tmp_path / f"source/{number}").write_bytes(b"")
    image = build(tmp_path / "image", copied(tmp_path / "source"))
    with open_image([image]) as opened:
        files = opened.subvolume(5).tree
        size = sum(Item.SIZE + len(payload) for _, payload in files.items())
        room = opened.volume.nodesize - Header.SIZE
        found = tree_stats(files.blocks, files.root, lambda _: None, inline=False)
    assert found.nodes[0] <= 1.02 * size / room + 2


def test_small_files_are_inline_and_large_ones_in_few_extents(source: str, tmp_path: Path) -> None:
    image = build(tmp_path / "image", copied(source))
    with open_image([image]) as opened:
        kinds = {size: [row.kind for row in opened.open(b"/a/size-%d" % size).extents()] for size in (0, 2048, 2049)}
        large = [row.length for row in opened.open(b"/a/size-5242897").extents()]
        flags = opened.open(b"/a/size-2049").item.flags
    assert kinds == {0: [], 2048: ["inline"], 2049: ["regular"]}
    assert large == [(5 << 20) + 4096]
    assert not flags


def test_what_is_copied_takes_the_place_of_what_is_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/file").write_text("new")
    (source / "was-directory").write_text("a file")
    (source / "d").chmod(0o750)
    some = values.Attributes(mode=0o700)
    image = build(
        tmp_path / "image",
        values.MakeDirectory(b"/to/d", some),
        values.MakeDirectory(b"/to/was-directory/below", some),
        values.MakeSymlink(b"/to/d/file", b"target", values.Attributes()),
        values.MakeSymlink(b"/to/d/stays", b"target", values.Attributes()),
        copied(source, b"/to"),
    )
    with open_image([image]) as opened:
        assert opened.open(b"/to/d/file").read(0, 10) == b"new"
        assert opened.open(b"/to/d/stays", follow=False).target() == b"target"
        assert opened.open(b"/to/was-directory").read(0, 10) == b"a file"
        directory = opened.open(b"/to/d")
        assert directory.item.mode & 0o7777 == 0o750
        assert directory.item.mtime == Timespec(*divmod((source / "d").stat().st_mtime_ns, 10**9))
        assert directory.item.size == 2 * len("file" + "stays")


def test_the_image_is_left_out_of_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    warnings: list[str] = []
    image = build(tmp_path / "image", copied(tmp_path), warn=warnings.append)
    with open_image([image]) as opened:
        assert [entry.name for entry, _ in opened.open(b"/").entries()] == [b"file"]
    assert len(warnings) == 1


def test_what_cannot_be_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(RecipeError, match="'/file' is not a directory"):
        build(
            tmp_path / "image",
            values.MakeSymlink(b"/file", b"x", values.Attributes()),
            copied(tmp_path / "source", b"/file"),
        )
    os.setxattr(tmp_path / "source", "user.large", b"x" * 4000)
    small = BLANK._replace(nodesize=4096, mixed=True)
    with pytest.raises(BtrimgError, match="4000 bytes are too many for the attribute"):
        build(tmp_path / "image", copied(tmp_path / "source"), filesystem=small)
    assert not (tmp_path / "image").exists()


def test_nodatacow_files_have_its_flags(source: str, tmp_path: Path) -> None:
    image = build(tmp_path / "image", copied(source, storage=values.Storage(nodatacow=True)))
    with open_image([image]) as opened:
        assert opened.open(b"/a/text").item.flags == InodeFlag.NODATACOW | InodeFlag.NODATASUM
        assert opened.open(b"/a").item.flags == 0

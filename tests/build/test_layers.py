"""Tar archives unpacked as layers of container images: what they delete, what they share, and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from support import hosttree, kernel
from support.judges import complaints
from support.program import btrimg

from btrimg.build import values
from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image

from .test_tree import PLAIN, build

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

LARGE = os.urandom(3 << 20)


def write(path: Path, members: Iterable[tuple[str, bytes | str | None, dict[str, Any]]]) -> Path:
    """Write an archive of (name, what, fields): bytes are a file's, text a symlink's, None is for a directory."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, what, fields in members:
            info = tarfile.TarInfo(name)
            info.mtime = 1_700_000_000
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
            else:
                info.size = len(what)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return path


def link(name: str, to: str) -> tuple[str, None, dict[str, Any]]:
    return name, None, {"type": tarfile.LNKTYPE, "linkname": to}


def layers(image: Path, *archives: Path, whiteouts: bool = True) -> str:
    """Build an image of archives, each in a snapshot of the last, as the command does."""
    operations: list[values.Operation] = []
    for number, archive in enumerate(archives, 1):
        to = b"/layer-%d" % number
        if number == 1:
            operations.append(values.MakeSubvolume(to, None, values.Attributes()))
        else:
            operations.append(values.MakeSnapshot(to, b"/layer-%d" % (number - 1), readonly=False, uuid=None))
        operations.append(values.FromTar(os.fsencode(archive), to, whiteouts, PLAIN))
    return build(image, *operations)


def names(image: Image, path: bytes) -> list[bytes]:
    """Return all paths below a directory."""
    found: list[bytes] = []
    pending = [image.open(path)]
    for directory in pending:
        for entry, _ in directory.entries():
            inode = image.open(directory.path + b"/" + entry.name, follow=False)
            found.append(inode.path[len(path) + 1 :])
            pending += [inode] if inode.is_directory else []
    return sorted(found)


def places(inode: Inode) -> list[int | None]:
    return [row.logical for row in inode.extents()]


def test_whiteouts_delete_what_was_there_before_and_nothing_of_their_layer(tmp_path: Path) -> None:
    base = write(
        tmp_path / "base.tar",
        [
            *((name, None, {}) for name in ("d", "d/sub", "opaque", "opaque/old", "again", "late")),
            *(
                (name, b"x", {})
                for name in ("gone", "d/kept", "d/sub/1", "opaque/1", "opaque/old/2", "again/1", "late/1")
            ),
        ],
    )
    upper = write(
        tmp_path / "upper.tar",
        [
            (".wh.gone", b"", {}),
            (".wh.was-never-there", b"", {}),
            ("d/.wh.sub", b"", {}),
            ("opaque/.wh..wh..opq", b"", {}),
            ("opaque/new", b"n", {}),
            ("opaque/.wh..wh.plnk", b"", {}),
            ("again", None, {}),
            ("again/new", b"n", {}),
            (".wh.again", b"", {}),
            ("late/new", b"n", {}),
            ("late/1", b"x", {}),
            ("late/.wh..wh..opq", b"", {}),
        ],
    )
    path = layers(tmp_path / "image", base, upper)
    with open_image([path]) as image:
        assert names(image, b"/layer-1") == sorted(
            b"again again/1 d d/kept d/sub d/sub/1 gone late late/1 opaque opaque/1 opaque/old opaque/old/2".split()
        )
        assert names(image, b"/layer-2") == sorted(
            b"again again/new d d/kept late late/1 late/new opaque opaque/new".split()
        )
    assert complaints([path]) == []
    with open_image([layers(tmp_path / "plain", base, upper, whiteouts=False)]) as image:
        assert b".wh.gone" in names(image, b"/layer-2")
        assert b"gone" in names(image, b"/layer-2")


@pytest.mark.progs
def test_what_comes_again_stays_shared(tmp_path: Path) -> None:
    changed = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    base = write(
        tmp_path / "base.tar",
        [
            ("same", LARGE, {}),
            ("mode", LARGE, {"mode": 0o600, "pax_headers": {"SCHILY.xattr.user.a": "1"}}),
            ("content", LARGE, {}),
            ("shorter", LARGE, {}),
            ("inline", b"small", {}),
            ("first", LARGE, {}),
            link("second", "first"),
            ("untouched", LARGE, {}),
        ],
    )
    upper = write(
        tmp_path / "upper.tar",
        [
            ("same", LARGE, {}),
            ("mode", LARGE, {"mode": 0o755, "uid": 7, "pax_headers": {"SCHILY.xattr.user.b": "2"}}),
            ("content", changed, {}),
            ("shorter", LARGE[: 1 << 20], {}),
            ("inline", b"small", {"mode": 0o600}),
            ("first", LARGE, {"mode": 0o640}),
        ],
    )
    path = layers(tmp_path / "image", base, upper)
    assert complaints([path]) == []
    with open_image([path]) as image:
        for name, is_shared in (
            ("same", 1),
            ("mode", 1),
            ("content", 0),
            ("shorter", 0),
            ("first", 1),
            ("untouched", 1),
        ):
            below, above = (image.open(layer + name.encode()) for layer in (b"/layer-1/", b"/layer-2/"))
            assert (places(below) == places(above)) == is_shared, name
            assert below.read(0, 4 << 20) == LARGE
        same = [image.open(layer + b"/same").item for layer in (b"/layer-1", b"/layer-2")]
        assert same[0] == same[1], "not even its inode changed"
        above = image.open(b"/layer-2/mode")
        assert (above.item.mode & 0o7777, above.item.uid, above.xattrs()) == (0o755, 7, {b"user.b": b"2"})
        assert image.open(b"/layer-2/content").read(0, 4 << 20) == changed
        assert image.open(b"/layer-2/shorter").read(0, 4 << 20) == LARGE[: 1 << 20]
        assert image.open(b"/layer-2/inline").read(0, 10) == b"small"
        assert image.open(b"/layer-2/first").item.nlink == image.open(b"/layer-2/second").item.nlink == 1
        assert image.open(b"/layer-2/second").item.mode & 0o7777 == 0o644


def test_a_later_entry_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    archive = write(
        tmp_path / "a.tar",
        [
            ("d/implied/file", b"1", {}),
            ("d", None, {"mode": 0o700}),
            ("file", b"first", {}),
            ("file", b"second", {}),
            ("to-directory", b"x", {}),
            ("to-directory", None, {}),
            ("to-directory/in", b"x", {}),
            ("to-link", None, {}),
            ("to-link/in", b"x", {}),
            ("to-link", "target", {}),
            ("a", LARGE, {}),
            link("b", "a"),
            link("b", "a"),
            ("a", b"no longer", {}),
            ("./", None, {"mode": 0o711}),
        ],
    )
    path = build(tmp_path / "image", values.FromTar(os.fsencode(archive), b"/", True, PLAIN))
    assert complaints([path]) == []
    with open_image([path]) as image:
        assert names(image, b"") == sorted(
            b"a b d d/implied d/implied/file file to-directory to-directory/in to-link".split()
        )
        assert image.open(b"/file").read(0, 10) == b"second"
        assert image.open(b"/to-link", follow=False).target() == b"target"
        assert (image.open(b"/b").item.nlink, image.open(b"/b").read(0, 4 << 20)) == (1, LARGE)
        assert image.open(b"/").item.mode & 0o7777 == 0o711
        assert image.open(b"/d").item.mode & 0o7777 == 0o700
        assert image.open(b"/to-directory").item.mtime.sec == 1_700_000_000


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([("l", "/etc", {}), ("l/passwd", b"x", {})], "'/l' is no directory, and links are not followed"),
        ([("f", b"x", {}), ("f/in", b"x", {})], "'/f' is no directory, and links are not followed"),
        ([link("b", "a")], "'/b': '/a', of which it is to be a hard link, is not there"),
        ([("d", None, {}), link("b", "d")], "'/b': '/d', of which it is to be a hard link, is a directory"),
        ([link("b", "../a")], "'..' in a name leads out of the image"),
        ([("n" * 256, b"x", {})], "a name of 256 bytes cannot be"),
        ([("s", "t" * 5000, {})], "a symlink to .* cannot be"),
        ([("d", b"", {"type": tarfile.CHRTYPE, "devmajor": 5000})], "there is no device 5000:0"),
        ([(".wh.", b"", {})], "a whiteout must say what it deletes"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(tmp_path: Path, members: list[Any], sentence: str) -> None:
    archive = write(tmp_path / "a.tar", members)
    with pytest.raises(BtrimgError, match=sentence):
        build(tmp_path / "image", values.FromTar(os.fsencode(archive), b"/", True, PLAIN))
    assert not (tmp_path / "image").exists()


@pytest.mark.kernel
@pytest.mark.progs
def test_the_kernel_shows_the_tree_that_tar_packed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    hosttree.make(str(source), as_root=True)
    pack = ["--format=posix", "--sparse", "--xattrs", "--xattrs-include=*", "--atime-preserve=system"]
    before = hosttree.describe(str(source))
    subprocess.run(["tar", "--zstd", *pack, "-C", source, "-cf", tmp_path / "a.tar.zst", "."], check=True)
    path = build(tmp_path / "image", values.FromTar(os.fsencode(tmp_path / "a.tar.zst"), b"/", True, PLAIN))
    assert complaints([path]) == []
    with kernel.mount([path], read_only=True) as where:
        after = hosttree.describe(where)
    assert after.keys() == before.keys()
    for at, thing in before.items():
        assert after[at]._replace(btime=0) == thing._replace(btime=0), at
        assert after[at].btime == thing.mtime


def test_layers_stay_right_when_memory_is_given_back_between_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btrimg.build import tree

    monkeypatch.setattr(tree, "_LOOK", 3)
    monkeypatch.setattr(tree, "_MOST_PENDING", 10)
    monkeypatch.setattr(tree, "_MOST_EXTENTS", 5)
    many: list[Any] = [(f"d/{number % 7}/{number}", bytes([number]) * 3000, {}) for number in range(60)]
    base = write(tmp_path / "base.tar", many)
    upper = write(
        tmp_path / "upper.tar", [*many[:20], ("d/.wh.3", b"", {}), *((f"e/{n}", b"x", {}) for n in range(20))]
    )
    path = layers(tmp_path / "image", base, upper)
    assert complaints([path]) == []
    with open_image([path]) as image:
        assert len(names(image, b"/layer-1")) == 60 + 8
        # of the first twenty, those in d/3 came before the whiteout, and stay
        left = [name for name in names(image, b"/layer-2") if name.startswith(b"d/3/")]
        assert left == [b"d/3/10", b"d/3/17", b"d/3/3"]
        assert image.open(b"/layer-2/e/19").read(0, 5) == b"x"


def test_an_archive_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for host, why in ((tmp_path / "nowhere", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(BtrimgError, match=f"cannot read .*: {why}"):
            build(tmp_path / "image", values.FromTar(os.fsencode(host), b"/", True, PLAIN))


def test_the_command_makes_a_snapshot_for_each_archive(tmp_path: Path) -> None:
    base = write(tmp_path / "base.tar", [("a", LARGE, {"uid": 1000}), ("b", b"x", {"mtime": 2_000_000_000})])
    upper = write(tmp_path / "upper.tar", [(".wh.b", b"", {}), ("c", b"x", {})])
    image = tmp_path / "image"
    command = ["env", "SOURCE_DATE_EPOCH=1800000000", sys.executable, "-m", "btrimg", "build", "-o", str(image)]
    with open(upper, "rb") as stream:
        words = ["--from-tar", str(base), "--from-tar", "-", "--owner", "7:8"]
        subprocess.run([*command, *words], stdin=stream, check=True, capture_output=True)
    assert complaints([str(image)]) == []
    with open_image([str(image)]) as opened:
        assert [(each.id, each.read_only) for each in opened.subvolumes() if each.id > 5] == [
            (256, True),
            (257, False),
        ]
        assert names(opened, b"/layer-2") == [b"a", b"c"]
        assert places(opened.open(b"/layer-1/a")) == places(opened.open(b"/layer-2/a"))
        item = opened.open(b"/layer-1/b").item
        assert (item.uid, item.gid, item.mtime.sec) == (7, 8, 1_800_000_000)


def test_the_command_copies_directories(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("keep/x.o", "keep/x.c", "cache/1"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    words = ["--from-dir", source, "--exclude", "*.o", "--exclude", "/cache/*", "--owner", "0", "--shrink"]
    done = btrimg("build", *words, "--one-file-system", "-o", tmp_path / "image")
    assert (done.returncode, done.stderr) == (0, "")
    with open_image([str(tmp_path / "image")]) as opened:
        assert names(opened, b"") == [b"cache", b"keep", b"keep/x.c"]
        assert opened.open(b"/keep").item.uid == 0
    done = btrimg("build", *words[:2], "--owner", "me", "-o", tmp_path / "other")
    assert done.returncode == 2
    assert done.stderr == "btrimg: --owner: 'me' is no owner: write \"UID:GID\", in numbers\n"
    done = btrimg("build", "--from-dir", tmp_path / "nowhere", "-o", tmp_path / "other")
    assert done.returncode == 2
    assert "nowhere': No such file or directory" in done.stderr
    assert not (tmp_path / "other").exists()

"""The verbs of ``btrimg edit`` as a person types them: help, mistakes, scripts, and what becomes of the image."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.shell_completion import ShellComplete
from support.images import copy_sparse
from support.judges import complaints_of_btrimg
from support.program import btrimg

from btrimg.build.directory import _Walk
from btrimg.build.image import build_image
from btrimg.build.recipe import parse_recipe
from btrimg.build.values import Attributes, Compression, Storage
from btrimg.cli.click_group import click_command, run_with_click, top_group
from btrimg.cli.command import load_from
from btrimg.cli.edit import edit
from btrimg.cli.verbs import VERBS
from btrimg.edit import verbs
from btrimg.edit.verbs import FileEditor
from btrimg.edit.words import parse_flags, parse_mode, parse_owner
from btrimg.errors import BtrimgError, HalfDoneError, NotFoundError, RecipeError, RefusedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import InodeFlag, TreeId
from btrimg.ondisk.inodes import Timespec

from .sessions import begun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from btrimg.edit.session import Session
    from btrimg.filesystem.inode import Inode

RECIPE = b"""
filesystem.size = "64M"
do = [
    {subvolume = "/home"},
    {mkdir = "/dir/below"},
    {file = "/dir/file", random = "300K", xattrs = {"user.a" = "value"}},
    {file = "/dir/other", random = "16K"},
    {file = "/empty", text = ""},
    {symlink = "/to-dir", to = "dir"},
    {symlink = "/dir/up", to = "../home"},
    {symlink = "/loop", to = "loop"},
    {snapshot = "/frozen", of = "/home", readonly = true},
]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make an image that stays as it is."""
    path, recipe = str(tmp_path_factory.mktemp("base") / "disk.img"), parse_recipe(RECIPE, "base")
    build_image(recipe.filesystem, recipe.operations(), [path])
    return path


@pytest.fixture
def image(base: str, tmp_path: Path) -> str:
    """Copy it, to be changed."""
    (copy,) = copy_sparse([base], str(tmp_path))
    return copy


@pytest.fixture
def session(image: str, tmp_path: Path) -> Iterator[Session]:
    """Begin a session on it."""
    with begun([image], str(tmp_path / "undo")) as session:
        yield session


@pytest.fixture
def files(session: Session) -> Iterator[FileEditor]:
    """Change its files; who wants to look at them commits."""
    editor = FileEditor(session)
    yield editor
    editor.close()


def read(image: str, path: bytes, look: Callable[[Inode], Any]) -> Any:
    """Return what *look* sees at a path."""
    with open_image([image]) as opened:
        return look(opened.open(path, follow=False))


def commit(session: Session) -> None:
    """Commit what is to be clean."""
    session.commit()
    assert complaints_of_btrimg(session.paths) == []


def names(inode: Inode) -> list[bytes]:
    return sorted(entry.name for entry, _ in inode.entries())


def content(inode: Inode) -> bytes:
    return inode.read(0, 1 << 20)


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Words, help, completion


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_has_help_with_its_arguments_and_an_example(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with_click(["edit", "IMAGE", *words, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: btrimg edit IMAGE {' '.join(words)} ")
    assert any(line.strip().startswith("btrimg edit ") and " ".join(words) in line for line in said.splitlines())


def test_help_lists_the_verbs_with_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with_click(["edit", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words, (_, short) in VERBS.items():
        verb = load_from(VERBS, words)
        assert verb.name == words[-1], "the list of verbs says what to type"
        assert f"{' '.join((*words[:-1], verb.usage))} {short}" in said


LINES = [
    "disk.img put a b /c",
    "disk.img --dry-run put a /c",
    "--dry-run disk.img put a /c --force",
    "disk.img put --owner 1:2 a /c --undo u",
    "disk.img -d x rm -r /a --device y",
    "disk.img subvolume create /a /b",
    "disk.img chattr -immutable,+noatime /a",
    "disk.img chmod -w /a",
    "disk.img xattr get /a",
    "disk.img --script -",
    "disk.img --json --now 5 touch /a",
    "disk.img write - /a --offset 4K",
]


@pytest.mark.parametrize("line", LINES)
def test_the_fast_parser_and_click_agree(line: str) -> None:
    seen: list[Any] = []
    built = click_command(edit._replace(run=lambda **values: int(bool(seen.append(values)))))  # type: ignore[func-returns-value]
    built.main(line.split(), prog_name="edit", standalone_mode=False)
    (by_click,) = seen
    ours = edit.parse(line.split())
    assert ours is not None
    for values in (ours, by_click):
        verb = values["verb"]
        values["verb"] = verb and verb.run
        values["given"] = {name: repr(value).partition(" at 0x")[0] for name, value in values["given"].items()}
    assert ours == by_click


def test_the_shell_completes_verbs_and_their_options() -> None:
    completing = ShellComplete(top_group(), {}, "btrimg", "_BTRIMG_COMPLETE")

    def completed(*words: str) -> set[str]:
        return {item.value for item in completing.get_completions(list(words[:-1]), words[-1])}

    assert completed("edit", "disk.img", "--dry-run", "pu") == {"put", "punch"}
    assert completed("edit", "disk.img", "subvolume", "") == {"create", "delete"}
    assert {"--owner", "--compress"} <= completed("edit", "disk.img", "put", "--")
    assert "--script" in completed("edit", "--")


MISTAKES = [
    (1, ["rm", "/nothing"], "'/nothing' is not there"),
    (1, ["rm", "/dir/file/below"], "'/dir/file' is not a directory"),
    (1, ["mv", "/nothing", "/new"], "no 'nothing'"),
    (1, ["truncate", "-s", "5", "/nothing"], "'/nothing' is not there"),
    (1, ["xattr", "get", "/dir/file", "user.b"], "no xattr user.b at /dir/file"),
    (1, ["xattr", "remove", "/dir/file", "user.b"], "no attribute 'user.b'"),
    (1, ["chmod", "644", "/loop"], "'/loop': too many symbolic links"),
    (1, ["put", "HOST", "/nothing/new"], "'/nothing' is not there"),
    (2, ["rm", "/dir"], "rm -r removes it"),
    (2, ["rm", "-r", "/"], "/ cannot be removed"),
    (2, ["mkdir", "/dir"], "'/dir': is there already"),
    (2, ["mkdir", "dir"], "'dir' does not begin with /"),
    (2, ["mkdir", "/a/../b"], "is not '..'"),
    (2, ["mkdir", f"/{'n' * 256}"], "up to 255 bytes"),
    (2, ["put", "/nowhere/at/all", "/new"], "cannot read '/nowhere/at/all': No such file"),
    (2, ["put", "HOST", "/dir/below/../x"], "is not '..'"),
    (2, ["put", "-", "/dir"], "say what '-' is to be called in it"),
    (2, ["put", "/new"], "two names at least"),
    (2, ["put", "HOST", "HOST", "/dir/file"], "several files need one to go to"),
    (2, ["mv", "/dir", "/dir/below"], "cannot be moved into itself"),
    (2, ["mv", "/", "/below"], "/ cannot be moved: it is the top-level subvolume"),
    (2, ["xattr", "set", "/dir/file", "plain", "x"], "no attribute can be called 'plain': names begin with user."),
    (2, ["xattr", "set", "/dir/file", "user.", "x"], "no attribute can be called 'user.': names begin with user."),
    (2, ["xattr", "set", "/dir/file", "btrfs.x", "x"], "no attribute is called 'btrfs.x': of these names there are"),
    (2, ["xattr", "set", "/dir/file", "system.posix_acl_default", "x"], "only directories have default access"),
    (2, ["xattr", "set", "/dir", "system.posix_acl_default", "x"], "78 is no access control list: it has version 2"),
    (2, ["ln", "/dir/file", "/home/file"], "a hard link cannot leave its own"),
    (2, ["write", "/nowhere", "/dir/file"], "cannot be read"),
    (2, ["reflink", "/dir/file@1", "/new"], "multiples of the sector size"),
    (2, ["reflink", "/dir/file@4K+1M", "/new"], "beyond the end of the file"),
    (2, ["truncate", "/dir/file"], "say to what size"),
    (2, ["punch", "/dir/file"], "say how much"),
    (2, ["punch", "-l", "x", "/dir/file"], "'x'"),
    (2, ["subvolume", "delete", "/dir"], "'/dir' is no subvolume"),
    (2, ["snapshot", "/dir", "/new"], "'/dir' is no subvolume"),
    (2, ["snapshot", "/", "/dir"], "say what '/' is to be called in it"),
    (2, ["touch", "/frozen/new"], "its subvolume is read-only"),
    (2, ["touch", "--otime", "yesterday", "/dir/file"], "'yesterday' is no time"),
    (2, ["chmod", "rwx", "/dir/file"], "'rwx' is no mode"),
    (2, ["chown", "me", "/dir/file"], "is no owner"),
    (2, ["chattr", "+C", "/dir/file"], "only while a file is empty"),
    (2, ["chattr", "+compress,+nocompress", "/empty"], "exclude each other"),
    (2, ["chattr", "+wrong", "/empty"], "'wrong' is no flag"),
    (2, ["chattr", "compression=gzip", "/empty"], "'gzip' compresses nothing"),
    (2, ["xattr", "set", "/empty", "user.a"], "say one of VALUE"),
    (2, ["xattr", "set", "/empty", "user.a", "--hex", "0"], "not an even number"),
    (2, ["frobnicate"], "There is no verb 'frobnicate'"),
    (2, ["subvolume", "mount"], "There is no verb 'mount'"),
    (2, [], "say what to do"),
]


@pytest.mark.parametrize(("code", "words", "sentence"), MISTAKES, ids=[" ".join(words) for _, words, _ in MISTAKES])
def test_a_mistake_is_told_and_nothing_is_written(
    base: str,
    tmp_path: Path,
    code: int,
    words: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from btrimg.cli import main

    before = digest(base)
    host = tmp_path / "host"
    host.write_bytes(b"x")
    line = [str(host) if word == "HOST" else word for word in words]
    ended: list[int] = []
    monkeypatch.setattr(main.sys, "argv", ["btrimg", "edit", base, *line])  # type: ignore[attr-defined]
    monkeypatch.setattr(main.os, "_exit", ended.append)  # type: ignore[attr-defined]
    monkeypatch.setattr(main, "RawIOBase", ())  # the output of a test is one, and is not to be replaced
    main.main()  # type: ignore[func-returns-value, unused-ignore]
    assert sentence in " ".join(capfd.readouterr().err.split())
    assert ended == [code]
    assert digest(base) == before
    assert os.listdir(os.path.dirname(base)) == ["disk.img"]


def test_an_image_that_is_none_or_in_use_is_refused(image: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no image")
    assert btrimg("edit", tmp_path / "text", "rm", "/a").returncode == 2
    done = btrimg("edit", f"{image}:/dir", "rm", "/a")
    assert (done.returncode, done.stderr) == (
        2,
        "btrimg: name an image, not a file in it; what to change comes after the verb\n",
    )


# Files


def test_put_goes_into_directories_and_takes_the_place_of_files(
    image: str, session: Session, files: FileEditor, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "one").write_bytes(b"1")
    (tree / "link").symlink_to("one")
    (tmp_path / "to-one").symlink_to("tree/one")
    source, one, link = (os.fsencode(path) for path in (tree, tree / "one", tmp_path / "to-one"))

    def put(path: bytes, *sources: bytes) -> None:
        files.put(sources, path, Storage(), None, io.BytesIO(b"piped"))

    put(b"/dir", source)
    put(b"/new", source)
    put(b"/new", source + b"/.")
    put(b"/to-dir", one, link)
    put(b"/dir/file", one)
    put(b"/dir/up/inside", b"-")
    put(b"/dir/up/inside", b"-")
    commit(session)
    assert read(image, b"/dir", names) == [b"below", b"file", b"one", b"other", b"to-one", b"tree", b"up"]
    assert read(image, b"/new", names) == read(image, b"/dir/tree", names) == [b"deep", b"link", b"one"]
    assert read(image, b"/dir/file", content) == read(image, b"/dir/to-one", content) == b"1"
    assert read(image, b"/home/inside", content) == b"piped"
    assert read(image, b"/new/link", lambda inode: inode.target()) == b"one"
    files.make_directories([b"/dir/below/one"], parents=False, mode=None, owner=None)
    with pytest.raises(RefusedError, match="'/dir/below/one': this is a directory, and what is put there is none"):
        put(b"/dir/below", one)
    with pytest.raises(RefusedError, match="'/dir/file': this is no directory, and what is put there is one"):
        put(b"/dir/file", source)


def test_a_tree_that_clashes_with_what_is_there_is_refused_before_any_of_it_is_put(
    session: Session, files: FileEditor, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    (source / "a").mkdir(parents=True)
    (source / "a/link").symlink_to("a/nothing")
    (source / "y").mkdir()
    (source / "z").write_bytes(b"z")
    host = os.fsencode(source)
    files.make_directories([b"/1/a/link", b"/2/z", b"/3/a"], parents=True, mode=None, owner=None)
    files.put([host + b"/z"], b"/3/y", Storage(), None, None)
    files.make_directories([b"/4"], parents=False, mode=None, owner=None)
    files.create_subvolumes([b"/4/a"])
    before = session.transaction().tree(TreeId.FS_TREE).changes()
    for at, what in (
        (b"/1", "'/1/a/link': this is a directory, and what is put there is none"),
        (b"/2", "'/2/z': this is a directory, and what is put there is none"),
        (b"/3", "'/3/y': this is no directory, and what is put there is one"),
        (b"/4", "'/4/a': a subvolume has this name"),
    ):
        with pytest.raises(RefusedError, match=what):
            files.put([host + b"/."], at, Storage(), None, None)
        assert session.transaction().tree(TreeId.FS_TREE).changes() == before


def test_a_host_that_cannot_be_read_to_the_end_leaves_half_of_it_done(
    files: FileEditor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are put at the end: if the transaction went on, what is made by then would have none."""

    def read(walk: _Walk, fd: int, at: int, length: int) -> bytes:
        if walk._at == b"last":
            raise walk._changed("became shorter")
        return whole(walk, fd, at, length)

    whole = _Walk._read
    monkeypatch.setattr(_Walk, "_read", read)
    for name in ("first", "last"):
        (tmp_path / name).write_bytes(b"data" * 5000)
    with pytest.raises(HalfDoneError, match="last' became shorter while it was read"):
        files.put([os.fsencode(tmp_path)], b"/new", Storage(), None, None)


def test_a_deep_tree_is_put_over_itself_and_its_clash_at_the_bottom_is_found(files: FileEditor, tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(sys.getrecursionlimit()):
            os.mkdir("d")
            os.chdir("d")
        os.mkdir("bottom")
        for _ in range(2):
            files.put([os.fsencode(tmp_path) + b"/d"], b"/", Storage(), None, None)
        os.rmdir("bottom")
        os.symlink("d", "bottom")
        with pytest.raises(RefusedError, match="/d/bottom': this is a directory, and what is put there is none"):
            files.put([os.fsencode(tmp_path) + b"/d"], b"/", Storage(), None, None)
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # shutil.rmtree() calls itself for each level


def test_no_bytes_are_written_to_what_is_no_file(files: FileEditor) -> None:
    with pytest.raises(RefusedError, match="is no regular file"):
        files.write(io.BytesIO(b""), b"/home", 0, Storage())


def test_standard_input_is_taken_piece_by_piece(
    image: str, session: Session, files: FileEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "_PIECE", 5000)
    data = os.urandom(22_222)
    files.put([b"-"], b"/piped", Storage(Compression(0)), (7, 8), io.BytesIO(data))
    files.write(io.BytesIO(data), b"/dir/file", 100, Storage())
    commit(session)
    assert read(image, b"/piped", content) == data
    assert read(image, b"/piped", lambda inode: (inode.item.uid, inode.item.gid, inode.item.mode)) == (7, 8, 0o100644)
    assert read(image, b"/dir/file", content)[100:22_322] == data


def test_times_are_set_to_the_nanosecond(image: str) -> None:
    words = ["--otime", "2001-02-03T04:05:06.789012345Z", "--ctime", "-1.5", "--atime", "7"]
    done = btrimg("edit", image, "touch", "/dir/file", *words, "--now", "99.000000001")
    assert (done.returncode, done.stderr) == (0, "")
    item = read(image, b"/dir/file", lambda inode: inode.item)
    assert item.otime == Timespec(981_173_106, 789_012_345)
    assert (item.ctime, item.atime, item.mtime) == (Timespec(-2, 500_000_000), Timespec(7, 0), Timespec(0, 0))


def test_the_same_edit_gives_the_same_bytes(image: str, tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        (copy,) = copy_sparse([image], str(tmp_path / name))
        assert btrimg("edit", copy, "snapshot", "/home", "/later", "--now", "5").returncode == 0
        digests.add(digest(copy))
    assert len(digests) == 1


# Scripts


def run_script(files: FileEditor, script: bytes) -> None:
    files.run(parse_recipe(script, "script", is_edit=True), lambda _things, _bytes: None)


def test_a_script_is_one_commit(image: str) -> None:
    script = """do = [
        {mkdir = "/scripted"},
        {file = "/scripted/{n}", text = "{n}", repeat = 300},
        {reflink = "/scripted/clone", from = "/dir/file"},
        {set = "/empty", add-flags = ["nodatacow", "noatime"]},
        {set = "/dir", add-flags = ["compress"]},
        {delete = "/to-dir"},
        {hole = "/dir/file", offset = "64K", length = "64K"},
    ]"""
    with open_image([image]) as opened:
        generation = opened.superblock.generation
    done = btrimg("edit", image, "--script", "-", stdin=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read(image, b"/scripted", names)) == 301
    with open_image([image]) as opened:
        assert opened.superblock.generation == generation + 1
        empty, folder = opened.open(b"/empty"), opened.open(b"/dir")
        assert empty.item.flags == InodeFlag.NODATACOW | InodeFlag.NODATASUM | InodeFlag.NOATIME
        assert (folder.item.flags, folder.xattrs()) == (InodeFlag.COMPRESS, {b"btrfs.compression": b"zlib"})


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        ('{delete = "/nothing"}', "line 2: delete '/nothing': directory 256 of subvolume 5 has no 'nothing'"),
        ("{commit = true}", "line 2: commit True: all of this is one commit"),
        ('{file = "/x", host = "/nowhere"}', "line 2: file '/x': '/nowhere' cannot be read"),
        ('{frobnicate = "/x"}', "line 2: says no operation"),
        ('{put = "/x"}', "line 2: put '/x': put needs from"),
        ('{set = "/dir", flags = [], add-flags = ["sync"]}', "contradict each other"),
    ],
)
def test_of_a_script_that_fails_nothing_is_left(
    image: str, session: Session, files: FileEditor, last: str, sentence: str
) -> None:
    before = digest(image)
    script = f'do = [{{file = "/new", random = "1M"}},\n{last}]'.encode()
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        run_script(files, script)
    session.abort()
    assert digest(image) == before


def test_much_of_a_script_goes_to_free_space_before_its_commit(
    image: str, session: Session, files: FileEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btrimg.build.builder._AT_ONCE", 200)
    monkeypatch.setattr("btrimg.build.builder._LOOK", 10)
    script = b'do = [{file = "/dir/{n}", random = "5K", repeat = 600}, {delete = "/dir/{n*3}", repeat = 200}]'
    generation = session.image.superblock.generation
    run_script(files, script)
    commit(session)
    assert len(read(image, b"/dir", names)) == 404
    with open_image([image]) as opened:
        assert opened.superblock.generation == generation + 1


# Words that say modes, owners, flags


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("644", 0o100755, 0o644),
        ("0o4755", 0o100644, 0o4755),
        ("u=rwx,g+s,o-r", 0o100644, 0o2740),
        ("a+X", 0o100644, 0o644),
        ("a+X", 0o100744, 0o755),
        ("+X", 0o40644, 0o755),
        ("go=", 0o100777, 0o700),
        ("-w", 0o100666, 0o444),
        ("u+s,+t", 0o100755, 0o5755),
        ("ug=rw-w", 0o100000, 0o440),
    ],
)
def test_modes_are_those_of_chmod(text: str, before: int, after: int) -> None:
    assert parse_mode(text)(before) == after


def test_owners_and_flags_are_read() -> None:
    assert [parse_owner(text) for text in ("1:2", "1", ":2", "1:")] == [(1, 2), (1, None), (None, 2), (1, None)]
    flags = parse_flags("+nodatacow,-iA,compression=zstd:9,readonly=false")
    assert flags.add == InodeFlag.NODATACOW | InodeFlag.NODATASUM
    assert flags.remove == InodeFlag.IMMUTABLE | InodeFlag.NOATIME
    assert (flags.compression, flags.readonly) == (b"zstd:9", False)
    for text in ("", "+", "nodatacow", "+C,-C", "readonly=maybe", "compression=zstd:99"):
        with pytest.raises(ValueError, match=r"\w"):
            parse_flags(text)


def test_links_are_followed_on_the_way_and_not_at_its_end(session: Session, files: FileEditor) -> None:
    files.remove([b"/to-dir/file"])
    files.remove([b"/dir/up"])
    files.touch([b"/to-dir/made"], None, Attributes(), no_create=False)
    with pytest.raises(NotFoundError, match="too many symbolic links"):
        files.touch([b"/loop/made"], None, Attributes(), no_create=False)
    commit(session)
    assert sorted(entry.name for entry, _ in session.image.open(b"/dir").entries()) == [b"below", b"made", b"other"]
    assert session.image.open(b"/home").is_directory


def test_errors_name_the_path(files: FileEditor) -> None:
    with pytest.raises(BtrimgError, match="'/dir': is there already"):
        files.make_directories([b"/dir"], parents=False, mode=None, owner=None)


def test_a_refused_verb_leaves_nothing_behind(session: Session, files: FileEditor) -> None:
    files.touch([b"/bare"], None, Attributes(), no_create=False)
    files.change_flags([b"/bare"], parse_flags("+nodatacow"))
    files.write(io.BytesIO(bytes(8192)), b"/bare", 0, Storage())
    with pytest.raises(RefusedError):
        files.link(b"anything", b"/dir/other", symbolic=True)
    with pytest.raises(RefusedError):
        files.make_directories([b"/"], parents=False, mode=None, owner=None)
    for source, offset in ((b"/dir/file", 1), (b"/dir", 0)):
        with pytest.raises(RefusedError):
            files.reflink(source, offset, None, b"/part", 0)
    files.make_directories([b"/plain"], parents=False, mode=None, owner=None)
    commit(session)
    assert sorted(entry.name for entry, _ in session.image.open(b"/").entries()) == sorted(
        [b"home", b"dir", b"empty", b"to-dir", b"loop", b"frozen", b"bare", b"plain"]
    )


def test_what_leads_to_a_new_directory_must_be_there(files: FileEditor) -> None:
    with pytest.raises(NotFoundError, match="'/new' is not there"):
        files.make_directories([b"/new/below"], parents=False, mode=None, owner=None)
    files.make_directories([b"/to-dir/new/below"], parents=True, mode=0o700, owner=None)
    files.make_directories([b"/to-dir/new/below/last"], parents=False, mode=0o700, owner=None)


def test_what_need_not_be_there_is_no_error(session: Session, files: FileEditor) -> None:
    files.touch([b"/missing", b"/nothing/here"], None, Attributes(), no_create=True)
    files.remove([b"/missing", b"/nothing/here"], missing=True)
    for path in (b"/missing", b"/nothing/here"):
        with pytest.raises(NotFoundError):
            files.write(io.BytesIO(b""), path, 0, Storage())
    files.link(b"dir/target", b"/dangling", symbolic=True)
    files.touch([b"/dangling"], None, Attributes(), no_create=False)
    commit(session)
    assert session.image.open(b"/dir/target").is_regular, "as touch(1), it makes what a link leads to"


def test_subvolumes_inherit_from_the_one_they_are_in(session: Session, files: FileEditor) -> None:
    files.change_flags([b"/dir"], parse_flags("+nodatacow"))
    files.change_flags([b"/"], parse_flags("compression=zstd"))
    files.create_subvolumes([b"/dir/subvolume"])
    commit(session)
    made = session.image.open(b"/dir/subvolume")
    assert made.item.flags == InodeFlag.COMPRESS
    assert made.xattrs() == {b"btrfs.compression": b"zstd"}


def test_a_new_name_changes_the_times_of_a_directory_whatever_they_were_set_to(
    session: Session, files: FileEditor
) -> None:
    files.touch([b"/dir"], Timespec(5, 6), Attributes(), no_create=True)
    files.make_directories([b"/dir/new"], parents=False, mode=None, owner=None)
    commit(session)
    item = session.image.open(b"/dir").item
    assert (item.atime, item.mtime, item.ctime) == (
        Timespec(5, 6),
        Timespec(1_700_000_000, 5),
        Timespec(1_700_000_000, 5),
    )


@pytest.mark.parametrize("where", [b"/dir/sub/inner", b"/dir/sub"])
def test_what_holds_the_default_subvolume_stays_whole(session: Session, files: FileEditor, where: bytes) -> None:
    files.create_subvolumes([b"/dir/sub", b"/dir/sub/inner", b"/dir/sub/other"])
    files.set_default(where)
    for path in (b"/dir", b"/dir/sub"):
        with pytest.raises(RefusedError, match="default"):
            files.remove([path], recursive=True)
    with pytest.raises(RefusedError, match="default"):
        files.delete_subvolumes([b"/dir/sub"], recursive=True)
    commit(session)
    assert names(session.image.open(b"/dir")) == [b"below", b"file", b"other", b"sub", b"up"]
    assert names(session.image.open(b"/dir/sub")) == [b"inner", b"other"]

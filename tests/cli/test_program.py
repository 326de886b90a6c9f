"""The program as a user runs it: a process, its output and its exit code."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import termios
import time
from array import array
from typing import IO, TYPE_CHECKING, Any

import pytest

from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.images import KernelImage
    from support.powerloss import CutImage
    from support.truth import Entry

RESOLVE_FIELDS = [
    *("path", "subvolume", "inode", "offset", "kind", "compression", "extent", "logical", "length"),
    *("copies", "parity", "csum", "shareable", "refusal"),
]
EXTENT_FIELDS = [
    *("subvolume", "inode", "path", "offset", "length", "kind", "compression", "logical", "extent", "copies", "refs"),
]


def btrimg(*words: str | bytes, code: int = 0) -> bytes:
    """Run the program and return what it writes to standard output."""
    done = subprocess.run([sys.executable, "-m", "btrimg", *words], capture_output=True, check=False)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    if code:
        assert done.stderr, "a failure says why"
    return done.stdout


def answers(*words: str | bytes) -> list[dict[str, Any]]:
    """Run the program with --json and return the objects it writes."""
    return [json.loads(line) for line in btrimg(*words, "--json").splitlines()]


def test_one_extent_resolves_to_the_same_places_under_all_its_names(demo_image: str) -> None:
    found = [
        answers("resolve", f"{demo_image}:{path}", offset)[0]
        for path, offset in (
            ("/vm/disk.raw", "1064960"),
            ("/vm/clone.raw", "0x104000"),
            ("/vm/part.raw", "80K"),
            ("/vm-monday/disk.raw", "1064960"),
        )
    ]
    assert all(list(answer) == RESOLVE_FIELDS for answer in found)
    assert len({json.dumps(answer["copies"]) for answer in found}) == 1
    assert [copy["role"] for copy in found[0]["copies"]] == ["mirror 1", "mirror 2"]
    assert found[0]["shareable"] is True
    with open(demo_image, "rb") as image:
        for copy in found[0]["copies"]:
            image.seek(copy["physical"])
            assert image.read(31) == b"written to disk.raw at 1064960\n"


@pytest.mark.parametrize(
    ("path", "offset", "kind", "refusal"),
    [
        ("/files/inline.txt", 3, "inline", "inline"),
        ("/files/compressed.txt", 5000, "compressed", "compressed"),
        ("/files/sparse.raw", 500_000, "hole", "hole"),
        ("/files/preallocated.raw", 100_000, "prealloc", "prealloc"),
        ("/files/nocow.raw", 4096, "regular", "nodatacow"),
        ("/vm/disk.raw", 0, "regular", None),
    ],
)
def test_every_kind_of_extent_is_named_and_refused(
    demo_image: str, path: str, offset: int, kind: str, refusal: str | None
) -> None:
    answer = answers("resolve", f"{demo_image}:{path}", str(offset))[0]
    assert (answer["kind"], answer["refusal"]) == (kind, refusal)
    assert (answer["logical"] is None) == (kind in ("inline", "hole"))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["resolve", "{image}:/vm/none", "0"], 1),
        (["resolve", "{image}:/vm", "0"], 1),
        (["resolve", "{image}:/vm/disk.raw", "4194304"], 1),
        (["resolve", "{image}:/files/inline.txt", "39"], 1),
        (["resolve", "{image}:/files/compressed.txt", "524288"], 1),
        (["resolve", "{image}:/vm/disk.raw", "x"], 2),
        (["resolve", "{image}:/vm/disk.raw"], 2),
        (["resolve", "none.img:/vm/disk.raw", "0"], 2),
        (["ls", "{image}", "--subvolume", "999"], 1),
        (["ls", "{image}:/files/inline.txt/x"], 1),
        (["cat", "{image}:/vm"], 1),
        (["cat", "{image}", "--offset", "-1"], 2),
        (["ls", "/proc/self/status"], 2),
        (["ls", sys.executable], 2),
        (["nothing"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_failures_have_a_sentence_and_their_exit_code(demo_image: str, words: list[str], code: int) -> None:
    btrimg(*(word.format(image=demo_image) for word in words), code=code)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["resolve", "{image}", "0"], "'/' is not a regular file"),
        (["cat", "{image}:/files"], "'/files' is not a regular file"),
        (["ls", "{image}", "--subvolume", "home"], "as `btrimg ls -l` shows it"),
        (["cat", "{image}:/files/inline.txt/"], "'/files/inline.txt' is not a directory"),
        (["stat", "{image}:/files/inline.txt/."], "'/files/inline.txt' is not a directory"),
        (["stat", "{image}:/files/inline.txt/.."], "'/files/inline.txt' is not a directory"),
        (["stat", "{image}:/files/deep/er/symlink/"], "is not a directory"),
    ],
)
def test_a_failure_names_what_is_wrong(demo_image: str, words: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "btrimg", *(word.format(image=demo_image) for word in words)]
    assert sentence in subprocess.run(command, capture_output=True, check=False, text=True).stderr


def test_a_subvolume_is_a_number_of_any_base(demo_image: str) -> None:
    assert btrimg("ls", demo_image, "--subvolume", "0x100") == btrimg("ls", demo_image, "--subvolume", "256") != b""


def test_an_image_whose_name_looks_like_a_path_is_found(demo_image: str, tmp_path: Path) -> None:
    odd = tmp_path / "a:" / "b:"
    odd.mkdir(parents=True)
    image = odd / "c.img"
    os.symlink(demo_image, image)
    assert btrimg("cat", f"{image}:/files/inline.txt") == b"a file this short lies in the metadata\n"


def test_extents_says_the_same_of_one_file_and_of_all(demo_image: str) -> None:
    everything = answers("extents", demo_image)
    assert all(list(row) == EXTENT_FIELDS for row in everything)
    one = answers("extents", f"{demo_image}:/vm/disk.raw")
    assert len(one) == 3
    assert [row for row in everything if row["path"] == "/vm/disk.raw"] == one
    below = answers("extents", f"{demo_image}:/")
    hard_link = [row for row in below if row["path"] == "/files/deep/hardlink.txt"]
    assert len(below) == len(everything) + 1 == 21, "a file with two names comes once for each"
    assert sorted(json.dumps(row) for row in below if row not in hard_link) == sorted(map(json.dumps, everything))


def test_cat_writes_the_range_that_is_asked_for(demo_image: str) -> None:
    whole = btrimg("cat", f"{demo_image}:/files/compressed.txt")
    assert len(whole) == 128 * 4096
    assert (
        btrimg("cat", f"{demo_image}:/files/compressed.txt", "--offset", "5000", "--length", "70K")
        == (whole[5000 : 5000 + 70 * 1024])
    )
    assert btrimg("cat", f"{demo_image}:/files/sparse.raw")[8192:] == bytes((1 << 20) - 8192)


def test_stat_of_a_subvolume_says_what_it_is(demo_image: str) -> None:
    top, subvolume, snapshot, directory = (
        answers("stat", f"{demo_image}:{path}")[0]["root"] for path in ("/", "/vm", "/vm-monday", "/files")
    )
    assert directory is None
    assert (top["parent"], top["default"], top["read_only"]) == (None, True, False)
    assert (subvolume["parent"], subvolume["parent_uuid"], subvolume["default"]) == (5, None, False)
    assert (snapshot["parent_uuid"], snapshot["read_only"], snapshot["flags"]) == (subvolume["uuid"], True, 1)
    assert f"parent uuid:   {subvolume['uuid']}" in btrimg("stat", f"{demo_image}:/vm-monday").decode()


def test_names_that_are_not_text_arrive_as_they_are(demo_image: str) -> None:
    assert btrimg("cat", os.fsencode(demo_image) + b":/files/caf\xe9") == b"bytes that are not UTF-8\n"
    assert answers("ls", f"{demo_image}:/files")[-1]["name"] == "caf\udce9"
    assert b"caf\\xe9" in btrimg("ls", f"{demo_image}:/files")


def test_point_commands_import_neither_click_nor_numpy_nor_construct(demo_image: str) -> None:
    code = (
        f"import sys; from btrimg.cli.main import run; image = {demo_image!r}; "
        "run(['resolve', image + ':/vm/disk.raw', '0']); run(['cat', image + ':/files/inline.txt']); "
        "print([name for name in ('click', 'numpy', 'construct', 'dataclasses', 'logging') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.kernel
@pytest.mark.progs
def test_a_path_on_a_mounted_filesystem_resolves_as_in_its_image(kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(profile="raid1")
    with written.mount() as top:
        for entry in _regular(written)[::40]:
            if not entry.stat.size:
                continue
            mounted = answers("resolve", os.fsencode(top) + entry.path, "0")[0]
            with open_image(written.devices) as image:
                plain = image.open(entry.path).resolve(0)
            assert os.fsencode(mounted["path"]) == entry.path
            assert (mounted["inode"], mounted["logical"]) == (entry.stat.ino, plain.logical)
            assert [(copy["devid"], copy["physical"]) for copy in mounted["copies"]] == [
                (copy.devid, copy.physical) for copy in plain.copies
            ]
            assert all(copy["device"].startswith("/dev/") for copy in mounted["copies"])


def _regular(written: KernelImage) -> list[Entry]:
    return [entry for entry in written.truth.entries.values() if stat.S_ISREG(entry.stat.mode)]


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("via", ["directory", "tar"])
def test_export_keeps_everything(kernel_image: Callable[..., KernelImage], tmp_path: Path, via: str) -> None:
    written = kernel_image(profile="raid1")
    first, *others = written.devices
    devices = [word for other in others for word in ("-d", other)]
    target = tmp_path / "out"
    if via == "tar":
        btrimg("export", first, str(tmp_path / "all.tar"), *devices)
        target.mkdir()
        command = ["tar", "-C", str(target), "--xattrs", "--xattrs-include=user.*", "-xpf", str(tmp_path / "all.tar")]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # tar complains of times before 1970
    else:
        btrimg("export", first, str(target), *devices)
    _compare(written, os.fsencode(target), sockets=via != "tar")


def _compare(written: KernelImage, target: bytes, *, sockets: bool) -> None:
    names: dict[tuple[int, int], set[int]] = {}
    for path, entry in written.truth.entries.items():
        if path == b"/" or (stat.S_ISSOCK(entry.stat.mode) and not sockets):
            continue
        host = target + path
        found = os.lstat(host)
        assert (found.st_mode, found.st_uid, found.st_gid) == (entry.stat.mode, entry.stat.uid, entry.stat.gid), path
        if 0 <= entry.stat.mtime < 2**33 * 10**9 and not entry.is_placeholder and not stat.S_ISDIR(entry.stat.mode):
            assert found.st_mtime_ns == entry.stat.mtime, path
        if entry.target is not None:
            assert os.readlink(host) == entry.target
        if entry.content is not None:
            with open(host, "rb") as file:
                assert file.read() == entry.content, path
        if stat.S_ISREG(entry.stat.mode):
            names.setdefault((entry.subvolume, entry.stat.ino), set()).add(found.st_ino)
            if entry.stat.size > 1 << 20 and entry.content is None:
                assert found.st_blocks * 512 < entry.stat.size, "holes stay holes"
        user = {name: value for name, value in entry.xattrs.items() if name.startswith(b"user.") and name.isascii()}
        stored = {os.fsencode(name) for name in os.listxattr(host, follow_symlinks=False)}
        if sum(map(len, user.values())) < 2048:
            assert set(user) <= stored, path
    assert all(len(inodes) == 1 for inodes in names.values()), "hard links stay hard links"
    shutil.rmtree(target)


def test_colours_are_shown_on_a_terminal_only(demo_image: str) -> None:
    import pty

    def on_terminal(**environment: str) -> bytes:
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "btrimg", "ls", f"{demo_image}:/files/deep"]
        environment = {**os.environ, "TERM": "xterm", **environment}
        done = subprocess.run(command, stdin=child, stdout=child, stderr=child, env=environment, check=True)
        assert done.returncode == 0
        os.close(child)
        shown = os.read(parent, 4096)
        os.close(parent)
        return shown

    assert on_terminal(NO_COLOR="") == b"\x1b[1;34mer\x1b[0m\r\nhardlink.txt\r\n"
    assert on_terminal(NO_COLOR="1") == b"er\r\nhardlink.txt\r\n"
    assert btrimg("ls", f"{demo_image}:/files/deep") == b"er\nhardlink.txt\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("btrimg res", "plain,resolve\n"),
        ("btrimg inspect dump-s", "plain,dump-super\n"),
        ("btrimg ls --rec", "plain,--recursive\n"),
        ("btrimg ls dis", "file,dis\n"),
        ("btrimg ls disk.img -d dis", "file,dis\n"),
    ],
)
def test_the_shell_completes_commands_options_and_files(words: str, expected: str) -> None:
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    environment["_BTRIMG_COMPLETE"] = "bash_complete"
    program = [sys.executable, "-m", "btrimg"]
    assert subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout == expected


def test_export_refuses_a_target_that_is_not_empty(demo_image: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    btrimg("export", demo_image, str(tmp_path), code=2)
    assert (tmp_path / "there").read_text() == "precious"
    (tmp_path / "a.tar").write_text("precious")
    btrimg("export", demo_image, str(tmp_path / "a.tar"), code=2)
    assert (tmp_path / "a.tar").read_text() == "precious"


@pytest.mark.skipif(not shutil.which("tar"), reason="no tar")
def test_tar_complains_of_nothing_but_a_name_that_is_not_text(demo_image: str) -> None:
    archive = btrimg("export", f"{demo_image}:/files", "-")
    done = subprocess.run(["tar", "-tf", "-"], input=archive, capture_output=True, check=True)
    assert done.stderr == b"tar: Ignoring unknown extended header keyword 'hdrcharset'\n"
    assert done.stdout.splitlines()[-1] == b"caf\\351"


def test_a_tar_archive_is_a_stream_with_every_time_in_full(demo_image: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(btrimg("export", f"{demo_image}:/files", "-"))) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert members["deep/hardlink.txt"].islnk() != members["inline.txt"].islnk()
    assert members["sparse.raw"].issparse()
    assert members["inline.txt"].pax_headers["SCHILY.xattr.user.origin"] == "fixtures/demo.sh"
    with open_image([demo_image]) as image:
        time = image.open(b"/files/compressed.txt").item.mtime
    assert members["compressed.txt"].pax_headers["mtime"] == f"{time.sec}.{time.nsec:09}"


@pytest.mark.kernel
@pytest.mark.progs
def test_a_log_tree_is_spoken_of_where_files_are_shown(cut_image: Callable[..., CutImage]) -> None:
    (device,) = cut_image().devices

    def said(*words: str) -> bytes:
        done = subprocess.run([sys.executable, "-m", "btrimg", *words], capture_output=True, check=True)
        return done.stderr

    assert b"--replay-log" in said("ls", device)
    assert said("ls", device, "--replay-log") == b""
    assert said("inspect", "dump-tree", "-t", "tree_log", device) == b""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_signal_amid_a_write_loses_no_bytes(demo_image: str, unbuffered: str) -> None:
    command = [sys.executable, "-m", "btrimg", "cat", f"{demo_image}:/vm/disk.raw"]
    whole = subprocess.run(command, capture_output=True, check=True).stdout
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        capacity = fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        assert len(whole) > 2 * capacity, "or nothing is left to lose"
        while _waiting(process.stdout) < capacity:
            time.sleep(0.01)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            process.send_signal(number)
            time.sleep(0.1)
        assert process.stdout.read() == whole


def _waiting(pipe: IO[bytes]) -> int:
    """Return how many bytes can be read from *pipe* now."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize(
    "words",
    [
        ("sql", "IMAGE"),
        ("locate", "IMAGE", "-"),
        ("shell", "IMAGE"),
        ("cache", "replay", "IMAGE", "-"),
        ("edit", "IMAGE", "--dry-run", "--script", "-"),
        ("edit", "IMAGE", "--dry-run", "put", "-", "/new"),
        ("build", "--from-tar", "-", "-o", "/nowhere/image"),
    ],
    ids=" ".join,
)
def test_who_is_to_read_standard_input_that_is_closed_says_so(words: tuple[str, ...], demo_image: str) -> None:
    command = [sys.executable, "-m", "btrimg", *(demo_image if word == "IMAGE" else word for word in words)]
    done = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *command], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"btrimg: ")
    assert done.stderr.endswith(b": standard input is closed\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_the_descriptors_of_closed_streams_are_no_image_s(closed: str, demo_image: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.img")
    shutil.copy(demo_image, copy)

    def code_of(*words: str) -> bytes:
        script = f'{{ "$@" {closed}; echo "code $?" >&9; }} 9>&1 >&2'
        command = ["sh", "-c", script, "sh", sys.executable, "-m", "btrimg", *words]
        done = subprocess.run(command, capture_output=True, check=True)
        assert b"Traceback" not in done.stderr, done.stderr
        return done.stdout

    assert code_of("cat", f"{copy}:/vm/disk.raw") == b"code 0\n"
    assert code_of("ls", f"{copy}:/new") == b"code 1\n"
    assert code_of("edit", copy, "touch", "/new") == b"code 0\n"
    assert code_of("ls", f"{copy}:/new") == b"code 0\n"

"""``btrimg cache replay`` and ``cache record``, as a person at a shell runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.fresh import make_empty
from support.images import MIB, copy_sparse
from support.kernel import mount, run
from support.program import btrimg

from btrimg.cli.cache_record import parse_tool
from btrimg.cli.cache_replay import POLICY_NAMES, parse_budget, parse_device, parse_policy
from btrimg.pagecache.simulate import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE = """fio version 2 iolog
/mnt/vm/disk.raw read 0 4194304
/mnt/vm/clone.raw read 0 1048576
/mnt/vm-monday/disk.raw read 0 8192
/mnt/files/sparse.raw read 0 4096
/mnt/files/none read 0 4096
/elsewhere read 0 4096
what
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    path.write_text(TRACE)
    return path


def answer(*words: object, code: int = 0) -> Any:
    done = btrimg("cache", "replay", *words, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    return json.loads(done.stdout)


def test_names_are_those_there_are() -> None:
    assert POLICY_NAMES == NAMES
    assert parse_policy("two-list") == "two-list"
    assert parse_budget("1M") == 256
    assert parse_device("0:45") == 45
    assert parse_tool("strace") == "strace"
    for parse, text, why in (
        (parse_policy, "fifo", "'fifo' is no policy; there are lru, clock, s3-fifo, two-list, belady"),
        (parse_budget, "4095", "'4095' is less than a page of 4096 bytes"),
        (parse_device, "45", "'45' is no device; write MAJOR:MINOR, as /proc/self/mountinfo does"),
        (parse_device, "1:9999999", "'1:9999999' is no device"),
        (parse_tool, "perf", "'perf' cannot record; there are strace, tracepoints"),
    ):
        with pytest.raises(ValueError, match=why):
            parse(text)


def test_a_replay_as_json(demo_image: str, trace: Path) -> None:
    words = ["--root", "/mnt", "--scheme", "inode", "--scheme", "extent", "--budget", "1M", "--budget", "8M"]
    found = answer(demo_image, trace, *words)
    assert found["accesses"] == 6
    assert found["left_out"] == {"of a file elsewhere": 1, "of a file that the image does not have": 1}
    assert found["skipped"] == [{"trace": str(trace), "reason": "not a line of an iolog", "lines": 1, "first": 8}]
    inode, extent = found["schemes"]
    assert found["page_accesses"] + found["holes"] == 1024 + 256 + 2 + 1
    assert inode["in_memory"] == found["page_accesses"] * 4096
    # The clone and the snapshot are of the same extents, but for what was written to disk.raw since, at 1200 KiB.
    assert inode["in_memory"] - extent["in_memory"] == inode["duplicates"] == MIB + 2 * 4096
    assert extent["duplicates"] == 0
    assert [(cache["policy"], cache["budget"]) for cache in extent["caches"]] == [("lru", MIB), ("lru", 8 * MIB)]
    assert [cache["reads"]["hits"] for cache in inode["caches"]] == [0, 0]
    assert [cache["reads"]["hits"] for cache in extent["caches"]] == [2, 258]  # the clone has 1 MiB, too
    assert extent["over_time"][-1]["in_memory"] == extent["in_memory"]
    assert extent["miss_ratios"][-1]["cache"] == extent["in_memory"]
    assert extent["costs"]["accesses"] == 4 - (found["holes"] == 1)


def test_an_image_without_files_has_none_of_what_was_read(tmp_path: Path, trace: Path) -> None:
    make_empty(str(tmp_path / "empty.img"), 80 * MIB)
    found = answer(tmp_path / "empty.img", trace)
    assert (found["accesses"], found["page_accesses"]) == (sum(found["left_out"].values()), 0)


def test_a_replay_as_text(demo_image: str, trace: Path) -> None:
    words = ["--root", "/mnt", "--policy", "lru", "--policy", "belady", "--raw"]
    done = btrimg("cache", "replay", demo_image, trace, *words)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "left out: 1 of a file that the image does not have" in lines
    assert f"{trace}: 1 × not a line of an iolog, first in line 8" in lines
    rows = {line.split()[0]: line.split()[1:3] for line in lines if line.startswith(("inode ", "extent ", "none "))}
    found = {each["scheme"]: each for each in answer(demo_image, trace, "--root", "/mnt")["schemes"]}
    for scheme, (memory, twice) in rows.items():
        assert [int(memory), int(twice)] == [found[scheme]["in_memory"], found[scheme]["duplicates"]]
    assert len(rows) == 3
    assert sum(line.startswith("belady") for line in lines) == 2 * 4


def test_reading_everything_is_the_estimate(demo_image: str) -> None:
    done = btrimg("cache", "estimate", demo_image, "--json")
    estimated = {each["scheme"]: each["shared"] for each in json.loads(done.stdout)["schemes"]}
    found = answer(demo_image, "--read-everything")
    assert {each["scheme"]: each["in_memory"] for each in found["schemes"]} == estimated


def test_a_path_is_what_was_mounted(demo_image: str, trace: Path) -> None:
    trace.write_text("fio version 2 iolog\nclone.raw read 0 4096\n")
    words = ("--root", "/mnt/x", "--directory", "/mnt/x", "--scheme", "extent")
    assert answer(f"{demo_image}:/vm", trace, *words)["page_accesses"] == 1
    done = subprocess.run(
        [sys.executable, "-m", "btrimg", "cache", "replay", f"{demo_image}:/vm", "-", *words, "--json"],
        input=trace.read_bytes(),
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["page_accesses"] == 1


def test_readahead_is_shown(demo_image: str) -> None:
    words = ("--read-everything", "--scheme", "inode", "--readahead")
    spaces = {each["space"]: each for each in answer(demo_image, *words)["readahead"]}
    assert list(spaces) == ["file", "device", "extent"]
    assert spaces["file"]["foreign"] == spaces["extent"]["foreign"] == 0
    assert spaces["device"]["foreign"] > 0
    line = btrimg("cache", "replay", demo_image, *words, "--raw").stdout.splitlines()[-2]
    assert line.split() == list(map(str, spaces["device"].values()))


def test_keys_are_exported(demo_image: str, trace: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.csv"
    found = answer(demo_image, trace, "--root", "/mnt", "--scheme", "extent", "--export-keys", keys)
    lines = keys.read_text().splitlines()
    assert lines[0] == "time,object,size"
    assert len(lines) - 1 == found["page_accesses"]
    assert len({line.split(",")[1] for line in lines[1:]}) * 4096 == found["schemes"][0]["in_memory"]
    binary = tmp_path / "keys.bin"
    answer(demo_image, trace, "--root", "/mnt", "--scheme", "extent", "--export-keys", binary)
    assert binary.stat().st_size == 24 * found["page_accesses"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "name a trace, or ask for --read-everything"),
        (("TRACE", "--read-everything"), "name a trace, or ask for --read-everything"),
        (("TRACE", "--export-keys", "x"), "--export-keys writes the keys of one scheme: say which with --scheme"),
        (("IMAGE",), "this is no trace of a known format"),
        (("/nonexistent",), "No such file or directory"),
    ],
)
def test_what_cannot_be_replayed(demo_image: str, trace: Path, words: tuple[str, ...], why: str) -> None:
    named = {"TRACE": str(trace), "IMAGE": demo_image}
    done = btrimg("cache", "replay", demo_image, *(named.get(word, word) for word in words))
    assert done.returncode == 2
    assert why in done.stderr


def test_a_plot_is_drawn(demo_image: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    answer(demo_image, "--read-everything", "--scheme", "inode", "--scheme", "extent", "--plot", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "inode (today" in text
    assert "misses, % of page accesses" in text


@pytest.mark.parametrize("options", [["-f", "-y"], []], ids=["strace", "record"])
@pytest.mark.kernel
def test_what_a_command_reads_is_replayed(demo_image: str, tmp_path: Path, options: list[str]) -> None:
    """The real thing: a mount, a program that reads there, its trace, and the image that was mounted."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    (copied,) = copy_sparse([demo_image], str(tmp_path))
    trace = tmp_path / "trace"
    with mount([copied], options=["ro"]) as top:
        command = ["cat", *(os.path.join(top, name) for name in ("vm/disk.raw", "vm/clone.raw"))]
        if options:
            traced = ["strace", *options, "-o", str(trace), *command]
        else:
            traced = [sys.executable, "-m", "btrimg", "cache", "record", "-o", str(trace), "--", *command]
        done = subprocess.run(traced, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if b"ptrace" in done.stderr:
            pytest.skip("strace may not trace here")
        assert done.returncode == 0
        root = top
    found = answer(demo_image, trace, "--root", root, "--scheme", "inode", "--scheme", "extent")
    inode, extent = found["schemes"]
    assert inode["in_memory"] == 8 * MIB
    assert extent["in_memory"] == 4 * MIB + 4096
    assert found["page_accesses"] == 2048


@pytest.fixture
def tracefs() -> Iterator[str]:
    """Mount tracefs where it is looked for, if it is not there."""
    where = "/sys/kernel/tracing"
    made = not os.listdir(where) if os.path.isdir(where) else False
    if made:
        run("mount", "-t", "tracefs", "tracefs", where)
    try:
        if not os.path.isdir(f"{where}/events/filemap"):
            pytest.skip("this kernel has no tracepoints of the page cache")
        yield where
    finally:
        if made:
            run("umount", "--lazy", where)


@pytest.mark.kernel
def test_tracepoints_tell_the_same(demo_image: str, tmp_path: Path, tracefs: str) -> None:
    (copied,) = copy_sparse([demo_image], str(tmp_path))
    trace = tmp_path / "trace"
    with mount([copied], options=["ro"]) as top:
        names = [os.path.join(top, name) for name in ("vm/disk.raw", "vm/clone.raw")]
        done = btrimg("cache", "record", "-o", trace, "--with", "tracepoints", "--", "cmp", *names)
        assert done.returncode == 1  # they differ, where disk.raw was written to
    text = trace.read_text()
    assert "mm_filemap_" in text
    assert not [name for name in os.listdir(f"{tracefs}/instances") if name.startswith("btrimg-")]
    words = ("--trace-subvolume", "256", "--scheme", "inode", "--scheme", "extent")
    devices = {line.split("dev")[1][1:].split()[0] for line in text.splitlines() if "mm_filemap" in line}
    found = [answer(demo_image, trace, *words, "--trace-device", name) for name in sorted(devices)]
    # The device of the mount is not that of its files; of those in the trace, it is the one with most of the image.
    inode, extent = max((each["schemes"] for each in found), key=lambda schemes: schemes[0]["in_memory"])
    assert inode["in_memory"] >= 2 * MIB
    assert extent["in_memory"] < inode["in_memory"]


READER = "import os; fd = os.open({path!r}, os.O_RDONLY); [os.pread(fd, 4096, page * 4096) for page in range({pages})]"


@pytest.mark.parametrize("pages", [1, 31, 150])
@pytest.mark.kernel
def test_readahead_is_the_kernels(demo_image: str, tmp_path: Path, tracefs: str, pages: int) -> None:
    (copied,) = copy_sparse([demo_image], str(tmp_path))
    trace, reads = tmp_path / "trace", tmp_path / "reads.csv"
    with mount([copied], read_only=True) as top:
        path = os.path.join(top, "vm/clone.raw")
        program = [sys.executable, "-S", "-c", READER.format(path=path, pages=pages)]
        assert btrimg("cache", "record", "-o", trace, "--with", "tracepoints", "--", *program).returncode == 0
        found = re.compile(rf"add_to_page_cache: dev 0:\d+ ino {os.stat(path).st_ino:x} .* order=(\d+)")
    brought_in = sum(4096 << int(order) for order in found.findall(trace.read_text()))
    rows = (f"/vm/clone.raw,{page * 4096},4096\n" for page in range(pages))
    reads.write_text("path,offset,length\n" + "".join(rows))
    along_file = answer(demo_image, reads, "--scheme", "inode", "--readahead")["readahead"][0]
    assert along_file["asked"] + along_file["ahead"] == brought_in > 0


def test_recording_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = btrimg("cache", "record", "--", "true")
    assert (done.returncode, done.stderr) == (2, "btrimg: say with -o where to write the trace\n")
    from btrimg.cli import cache_record
    from btrimg.errors import BtrimgError

    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(cache_record, "_TRACEFS", (str(tmp_path),))
    with pytest.raises(BtrimgError, match=r"^the tracepoints of the page cache cannot be had: they take root"):
        cache_record.record.run(output=str(tmp_path / "trace"), tool=None, words=("true",))
    with pytest.raises(BtrimgError, match=r"^strace is not installed"):
        cache_record.record.run(output=str(tmp_path / "trace"), tool="strace", words=("true",))


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    done = btrimg("cache", "record", "-o", tmp_path / "trace", "--", "sh", "-c", "exit 7")
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 7
    assert b"execve(" in (tmp_path / "trace").read_bytes()

"""The parts of ``btrimg verify`` that need no judge, and the command itself as a person runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images, kernel

from btrimg.filesystem.image import open_image
from btrimg.oracle.calls import FiemapRow
from btrimg.oracle.fields import Reading, lines_of, unescape
from btrimg.oracle.files import joined
from btrimg.oracle.kernel import is_mounted
from btrimg.oracle.known import KNOWN_DIFFERENCES, NOT_MOUNTED, Known, Start, excuse_for
from btrimg.oracle.offline import by_block, same_lines
from btrimg.oracle.progs import Progs, ToolError
from btrimg.oracle.survey import spread
from btrimg.oracle.tally import Difference, Ledger, text_of
from btrimg.render.names import escape

from .fakes import write_progs

if TYPE_CHECKING:
    from pathlib import Path

NEW, OLD = (6, 19), (6, 2)


@given(st.integers(0, 10_000), st.none() | st.integers(1, 500))
def test_a_sample_is_spread_from_the_first_to_the_last(count: int, most: int | None) -> None:
    chosen = spread(count, most).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == (count if most is None else min(count, most))
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        steps = [after - before for before, after in pairwise(chosen)]
        assert max(steps) - min(steps) <= 1


@given(st.binary(max_size=60))
def test_names_come_back_from_escapes(name: bytes) -> None:
    assert unescape(escape(name)) == name


@pytest.mark.parametrize(
    "known", [known for known in KNOWN_DIFFERENCES if known.tool == "dump-tree"], ids=lambda k: k.reason
)
def test_a_known_difference_hides_no_other(known: Known) -> None:
    """Each is applied to a line that it is about: what else the line says still counts."""
    line, other = {
        "xattr values end after 255 bytes": (f"\t\tdata {'x' * 255}{{}}", "\t\tdata y"),
        "xattr values, not being escaped, end at a NUL too": ("\t\tdata some\\000{}", "\t\tdata any\\000"),
        "inline references come without their key": ("\t\t(178 0x1) extent data backref root {}", None),
        "owner references are misspelt": ("\t\ttextent owner root {}", None),
        "flags of dead subvolumes have no name": ("\t\tlast_snapshot 7 flags 0x1{}", "\t\tlast_snapshot 8 flags 0x1"),
        "years beyond 31 bits overflow": (f"\t\totime 7{'0' * 16}.{{}} (2218215284-01-01 00:00:00)", None),
        "flags of inodes beyond 32 bits, as verity's, have no name": (
            "\t\tsequence {} flags 0x100000000(VERITY)",
            None,
        ),
        "bytes that do not fit the item's type are not shown": ("\t\t{} bytes that do not fit", "\t\tother"),
        "a replacement's stop time is its start time": ("\t\tstop time {}", "\t\tlast_mirror 2"),
        "device replacements have no body": ("\t\tstate {}", "\t\tlast_mirror 2"),
    }[known.reason]
    reading = Reading("dump-tree", (6, 0))
    side = reading.theirs if known.reason == "owner references are misspelt" else reading.ours
    found = list(side([line.format("(1)" if "last_snapshot" in line else "1")]))
    assert known.reason in (found[0].reasons if found else reading.allowed)
    assert [each.field for each in side([other or line.format("9")])] != [each.field for each in found]


def test_a_flag_without_a_name_is_known_by_its_number() -> None:
    theirs, ours = "\t\t\t  unknown flag: 0x1000000000 )", "\t\t\t  CHANGING_FSID_V2 )"
    reading = Reading("dump-super", OLD)
    assert [each.field for each in reading.theirs([theirs])] == [each.field for each in reading.ours([ours])]
    other = theirs.replace("0x10", "0x20")
    assert [each.field for each in reading.theirs([other])] != [each.field for each in reading.ours([ours])]
    assert next(reading.theirs(["\t\t\t( unknown flag: 0x8000 )"])).field[-2] == "0x8000"


def test_only_what_differs_counts_as_allowed_for() -> None:
    line = "\t\tlast_snapshot 7 flags 0x1(RDONLY)"
    for ours, theirs, expected in ((line, line, 0), (line, line.replace("(RDONLY)", "(none)"), 1)):
        reading = Reading("dump-tree", NEW)
        reading.allow(*reading.ours([ours]), *reading.theirs([theirs]))
        assert reading.allowed.total() == expected


def test_a_raw_name_with_a_line_break_is_one_name() -> None:
    text = "\titem 3 key (257 DIR_ITEM 1) itemoff 1 itemsize 2\n\t\tname: a\nb: c\n\t\tdata d\n"
    assert [*lines_of(text)][1:] == ["\t\tname: a\nb: c", "\t\tdata d"]
    _, theirs, _ = Reading("dump-tree", OLD).theirs(lines_of(text))
    (ours,) = Reading("dump-tree", OLD).ours(["\t\tname: a\\nb: c"])
    assert ours.field == theirs.field == ("name:", b"a\nb: c")


def test_lines_meet_again_behind_one_that_is_missing() -> None:
    differences: list[Difference] = []
    tally = Ledger(differences.append, lambda _units, _size: None).open("dump-tree", "a tool", "blocks")
    item = "\titem {} key (257 INODE_ITEM {}) itemoff 1 itemsize 160"
    theirs = [item.format(0, 0), "\t\tgeneration 1", "\t\tsize 2", item.format(1, 5), "\t\tflags 3"]
    ours = [theirs[0], *theirs[2:4], "\t\tflags 4"]
    same_lines(tally, Reading("dump-tree", NEW), "block 9, ", ours, theirs, lambda field: field[0] == "item")
    assert differences == [
        Difference("dump-tree", "block 9, item 0 key (257 INODE_ITEM 0)", "nothing", "generation 1"),
        Difference("dump-tree", "block 9, item 1 key (257 INODE_ITEM 5)", "flags 4", "flags 3"),
    ]
    assert (tally.values, tally.differences) == (5, 2)


def test_equal_text_that_means_something_else_differs() -> None:
    """A raw name with a backslash is not what the same text means where names are escaped."""
    differences: list[Difference] = []
    tally = Ledger(differences.append, lambda _units, _size: None).open("dump-tree", "a tool", "blocks")
    line = ["\t\tname: a\\n"]
    same_lines(tally, Reading("dump-tree", OLD), "", line, line, lambda _field: False)
    assert [(each.ours, each.theirs) for each in differences] == [(r"name: 'a\n'", r"name: 'a\\n'")]


def test_blocks_are_told_apart() -> None:
    lines = [
        "btrfs-progs v6.2",
        "leaf 16384 items 1 free",
        "leaf 16384 flags 0x1",
        "\titem",
        "node 32768 level 1 items",
    ]
    assert by_block(lines) == {16384: lines[1:4], 32768: lines[4:]}


@pytest.mark.parametrize(
    ("ours", "theirs", "excused"),
    [
        (Start(None, "file with holes"), Start(4096), True),
        (Start(None, "file stored on multiple devices"), Start(4096), True),
        (Start(None, "file is not NOCOW"), Start(4096), False),
        (Start(8192, None, 4096), Start(4096), True),
        (Start(8192, None, 4096), Start(12288), False),
        (Start(8192, None, 8192), Start(None, "file is not NOCOW"), False),
    ],
)
def test_only_what_is_known_of_swap_files_is_excused(ours: Start, theirs: Start, excused: bool) -> None:
    assert bool(excuse_for("map-swapfile", NEW, ours, theirs)) is excused


def test_only_lists_that_are_cut_are_excused() -> None:
    long, short = [f"/{'x' * 1000}{number}" for number in range(9)], ["/a", "/b"]
    assert excuse_for("inode-resolve", NEW, long, long[:3])
    assert not excuse_for("inode-resolve", NEW, long, [*long[:3], "/other"])
    assert not excuse_for("inode-resolve", NEW, short, short[:1])
    assert excuse_for("logical-resolve (paths)", NEW, short, [NOT_MOUNTED, *short[:1]])
    assert excuse_for("logical-resolve (paths)", NEW, short, [NOT_MOUNTED])
    assert excuse_for("logical-resolve (paths)", NEW, long, long[:3])
    assert not excuse_for("logical-resolve (paths)", NEW, short, short[:1])
    assert not excuse_for("logical-resolve (paths)", NEW, short, [NOT_MOUNTED, "/c"])
    assert not excuse_for("logical-resolve", NEW, short, short[:1])


def test_neighbours_are_joined_as_fiemap_does() -> None:
    rows = [FiemapRow(0, 100, 10, 0), FiemapRow(10, 110, 10, 0), FiemapRow(20, 120, 5, 8), FiemapRow(30, 125, 5, 8)]
    assert joined(rows) == [FiemapRow(0, 100, 20, 0), *rows[2:]]


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), st.lists))
def test_values_in_differences_are_short(value: object) -> None:
    assert text_of(value)
    assert len(text_of(value)) < 450


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "btrimg", "verify", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_without_btrfs_progs_nothing_can_be_compared(demo_image: str, tmp_path: Path) -> None:
    done = ran(demo_image, "--progs", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"there is no program btrfs in {tmp_path}: install btrfs-progs" in done.stderr
    assert ran(demo_image, "--sample", "0").returncode == 2


@pytest.mark.progs
def test_the_command_shows_a_table_and_its_exit_code(demo_image: str, tmp_path: Path) -> None:
    clean = ran(demo_image, "--no-mount")
    assert (clean.returncode, clean.stderr) == (0, "")
    head, *lines = clean.stdout.splitlines()
    assert head.split() == ["comparison", "compared", "of", "unit", "values", "differences", "judge"]
    assert lines[-1] == "    --no-mount"
    assert lines[-2].startswith("not compared: logical-resolve, ")
    progs = write_progs(str(tmp_path), {"dump-super": r"s/^\(nodesize\t*\)/\1x/"})
    wrong = ran(demo_image, "--no-mount", "--progs", progs)
    assert wrong.returncode == 1
    assert "DIFFERENCE dump-super, " in wrong.stdout
    objects = [
        json.loads(line) for line in ran(demo_image, "--no-mount", "--json", "--progs", progs).stdout.splitlines()
    ]
    told = [each for each in objects if "where" in each]
    assert told
    assert {(each["comparison"], each["btrimg"], each["judge"]) for each in told} == {
        ("dump-super", "nodesize 16384", "nodesize x16384")
    }
    tallies = {each["comparison"]: each for each in objects if "where" not in each}
    assert tallies["dump-super"]["differences"] == len(told)
    assert tallies["dump-tree"]["compared"] == tallies["dump-tree"]["whole"] > 10
    assert tallies["contents"]["skipped"] == [{"reason": "--no-mount", "count": None}]
    assert tallies["contents"]["judge"] is None
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(progs, "btrfs-map-logical"))
    silent = ran(demo_image, "--no-mount", "--progs", write_silent(progs))
    assert (silent.returncode, "dump-super" in silent.stdout) == (2, True)


@pytest.mark.progs
@pytest.mark.parametrize("name", [b"caf\xc3\xa9.img", b"\xc3\x85 b.img", b"caf\xe9.img"])
def test_devices_may_be_called_by_any_bytes(demo_image: str, tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    shutil.copyfile(demo_image, path)
    done = ran(os.fsdecode(path), "--no-mount", "--sample", "3")
    assert (done.returncode, "DIFFERENCE" in done.stdout) == (0, False), done.stdout


def write_silent(directory: str) -> str:
    """Write a btrfs that only tells its version."""
    with open(os.path.join(directory, "btrfs"), "w", encoding="ascii") as file:
        file.write('#!/bin/sh\n[ "$1" = version ] && echo "btrfs-progs v6.2" && exit 0\necho "ERROR: no" >&2; exit 1\n')
    return directory


@pytest.mark.kernel
@pytest.mark.progs
def test_the_command_mounts_and_leaves_nothing(demo_image: str) -> None:
    with kernel.alone([demo_image]):  # others mount copies of it, and verify would not do it then
        done = ran(f"{demo_image}:/vm", "--all", "--json")
    objects = {each["comparison"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert (done.returncode, done.stderr) == (0, "")
    assert objects["contents"]["compared"] == 3
    assert objects["device bytes"]["values"] > objects["contents"]["values"], "each byte lies in two places"


_HIDING = """
import os, sys
from btrimg.oracle.kernel import hide_mounts
hide_mounts(sys.argv[1:])
print(os.listdir(sys.argv[1]), flush=True)
sys.stdin.read()
"""


@pytest.mark.kernel
@pytest.mark.progs
def test_what_others_unmount_meanwhile_is_gone_unless_it_is_in_use(tmp_path: Path) -> None:
    for used in (True, False):
        devices = images.new_devices(str(tmp_path / str(used)), 1, 128 * images.MIB)
        images.mkfs(devices)
        with open_image(devices) as image:
            fsid = image.superblock.fsid
        with kernel.mount(devices) as top:
            os.mkdir(f"{top}/there")
            command = [sys.executable, "-c", _HIDING, top if used else str(tmp_path)]
            hiding = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert hiding.stdout
            assert ("there" in hiding.stdout.readline()) == used
            kernel.run("umount", top)
            assert is_mounted(fsid) == used
            kernel.run("mount", "-t", "tmpfs", "stays", top)
            hiding.communicate("")


def test_a_tool_that_cannot_run_is_a_sentence(tmp_path: Path) -> None:
    progs = Progs(str(tmp_path / "none"), None, NEW)
    with pytest.raises(ToolError, match=r"cannot run .*: No such file"):
        progs.inspect("dump-super", "x")

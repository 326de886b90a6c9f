"""Traces: every format by examples, by what the real tools write, and by lines that are none."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import TraceError
from btrimg.pagecache import descriptors
from btrimg.pagecache.accesses import FAULT, FILL, READ, WRITE, Collector, InodeName, Skipped
from btrimg.pagecache.strace import Parser
from btrimg.pagecache.traces import FORMATS, Trace

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.pagecache.accesses import Name

Row = tuple[int, int, "Name", int, int, int]  # time, process, name, offset, length, kind


def read(text: str | bytes, directory: bytes | None = None) -> tuple[list[Row], dict[str, Skipped]]:
    """Return the accesses of a trace, and what was skipped."""
    trace = Trace(io.BytesIO(text.encode() if isinstance(text, str) else text), directory)
    rows: list[Row] = []
    for batch in trace:
        columns = [column.tolist() for column in batch]
        columns[2] = [trace.names[number] for number in columns[2]]
        rows += zip(*columns, strict=True)
    return rows, trace.skipped


def plain(text: str, directory: bytes | None = None) -> list[tuple[Name, int, int, int]]:
    """Return name, offset, length and kind of the accesses of a trace in which nothing is skipped."""
    rows, skipped = read(text, directory)
    assert skipped == {}
    return [row[2:] for row in rows]


def test_iolog_of_version_2() -> None:
    rows, skipped = read(
        "fio version 2 iolog\n"
        "/a add\n/a b open\n/a read 0 4096\n/a b write 8192 100\n/a wait 1500 0\n/a b read 5 7\n"
        "/a sync 0 0\n/a trim 0 4096\n/a close\n"
    )
    assert skipped == {}
    assert rows == [
        (0, 0, b"/a", 0, 4096, READ),
        (0, 0, b"/a b", 8192, 100, WRITE),
        (1_500_000, 0, b"/a b", 5, 7, READ),
    ]


def test_iolog_of_version_3() -> None:
    rows, skipped = read(
        "fio version 3 iolog\n0 f add\n1 f open\n12 f read 4096 10\nfio version 3 iolog\n13 /g write 0 1\n", b"/home"
    )
    assert skipped == {}
    assert rows == [(12_000, 0, b"/home/f", 4096, 10, READ), (13_000, 0, b"/g", 0, 1, WRITE)]


@pytest.mark.skipif(not shutil.which("fio"), reason="needs fio")
def test_iolog_of_fio_itself(tmp_path: Path) -> None:
    """Its own times, of a job that waits for 20 ms before each of 6 reads: they have no unit in any manual."""
    job = ["--name=job", "--filename=data", "--size=24k", "--bs=4k", "--rw=read", "--ioengine=psync", "--iodepth=1"]
    (tmp_path / "data").write_bytes(bytes(24 << 10))
    subprocess.run(
        ["fio", *job, "--thinktime=20000", "--write_iolog=log"], cwd=tmp_path, check=True, capture_output=True
    )
    rows, skipped = read((tmp_path / "log").read_text(), b"/work")
    assert skipped == {}
    assert [row[2:] for row in rows] == [(b"/work/data", at << 12, 4096, READ) for at in range(6)]
    assert 0.08 < (rows[-1][0] - rows[0][0]) / 1e9 < 60


def test_csv() -> None:
    rows, skipped = read(
        "time, kind, path, offset, length, note, process\n"
        '1.5,read,"/a, b",0x1000,10,x,7\n2,fault,/c,0,4096,,\n,,d,1,2,,\n',
        b"/x",
    )
    assert skipped == {}
    assert rows == [
        (1_500_000_000, 7, b"/a, b", 4096, 10, READ),
        (2_000_000_000, 0, b"/c", 0, 4096, FAULT),
        (0, 0, b"/x/d", 1, 2, READ),
    ]


def test_csv_with_a_byte_order_mark() -> None:
    assert plain("\ufeffpath,offset,length\n/a,1,2\n") == [(b"/a", 1, 2, READ)]


def test_csv_by_inode() -> None:
    assert plain("length,offset,inode,subvolume,kind\n1,2,257,256,fill\n3,4,300,,write\n") == [
        (InodeName(256, 257, False), 2, 1, FILL),
        (InodeName(5, 300, False), 4, 3, WRITE),
    ]


def test_tracepoints_of_ftrace() -> None:
    rows, skipped = read(
        "# tracer: nop\n#\n"
        "   cat-18656   [000] ..... 28863.541594: mm_filemap_map_pages: dev=254:0 ino=52db4 ofs=860160-925695\n"
        "   tokio-run w-77 (  12) [001] d..1. 28863.6: mm_filemap_fault: dev=0:45 ino=101 ofs=4096\n"
        "   cat-18656   [000] ..... 5.000000001: mm_filemap_get_pages: dev=254:0 ino=52db4 ofs=0-16383\n"
        "   cat-18656   [000] ..... 5: mm_filemap_add_to_page_cache: dev 254:0 ino 1f pfn=0x9 ofs=8192 order=2\n"
        "   cat-18656   [000] ..... 5: mm_filemap_add_to_page_cache: dev 254:0 ino 1f page=000 pfn=9 ofs=0\n"
        "   cat-18656   [000] ..... 6: mm_filemap_delete_from_page_cache: dev 254:0 ino 1f pfn=0x9 ofs=0 order=0\n"
    )
    disk = 254 << 20
    assert skipped == {}
    assert rows == [
        (28_863_541_594_000, 18656, InodeName(disk, 0x52DB4, True), 860160, 65536, FAULT),
        (28_863_600_000_000, 77, InodeName(45, 0x101, True), 4096, 4096, FAULT),
        (5_000_000_001, 18656, InodeName(disk, 0x52DB4, True), 0, 16384, READ),
        (5_000_000_000, 18656, InodeName(disk, 0x1F, True), 8192, 16384, FILL),
        (5_000_000_000, 18656, InodeName(disk, 0x1F, True), 0, 4096, FILL),
    ]


def test_tracepoints_of_perf() -> None:
    rows, _ = read(
        "some app 12/34 [002]  1.5: filemap:mm_filemap_add_to_page_cache: dev 8:1 ino 2a pfn=0x1 ofs=0 order=0\n"
        "cat 99 [002]  2.5:       filemap:mm_filemap_add_to_page_cache: dev 8:1 ino 2a pfn=0x1 ofs=0 order=0\n"
    )
    assert [row[:3] for row in rows] == [
        (1_500_000_000, 12, InodeName(8 << 20 | 1, 42, True)),
        (2_500_000_000, 99, InodeName(8 << 20 | 1, 42, True)),
    ]


def test_positions_belong_to_what_was_opened() -> None:
    assert plain("""\
7 openat(AT_FDCWD, "/a", O_RDONLY|O_CLOEXEC) = 3
7 read(3, "x"..., 100) = 100
7 dup(3) = 4
7 read(4, "\\"), 5) = 5"..., 10) = 10
7 fork() = 8
8 read(3, "x"..., 5) = 5
7 lseek(3, 1000, SEEK_SET) = 1000
8 readv(4, [{iov_base="ab", iov_len=2}, {iov_base="c)", iov_len=2}], 2) = 4
7 close(3) = 0
7 read(4, "", 5) = 0
7 pread64(4, "x"..., 7, 9000) = 7
7 preadv(4, [{iov_base="ab", iov_len=2}], 1, 40) = 2
7 preadv2(4, [{iov_base="ab", iov_len=2}], 1, -1, 0) = 2
7 sendfile(1, 4, NULL, 10) = 10
7 sendfile(1, 4, [30] => [40], 10) = 10
7 write(4, "xyz", 3) = 3
7 pwrite64(4, "xyz", 3, 90) = 3
8 execve("/bin/cat", ["cat"], 0x7ffd /* 1 var */) = 0
8 open("/b", O_RDONLY) = 3
8 read(3, "b", 1) = 1
8 read(4, "x"..., 1) = 1
""") == [
        (b"/a", 0, 100, READ),
        (b"/a", 100, 10, READ),
        (b"/a", 110, 5, READ),
        (b"/a", 1000, 4, READ),
        (b"/a", 9000, 7, READ),
        (b"/a", 40, 2, READ),
        (b"/a", 1004, 2, READ),
        (b"/a", 1006, 10, READ),
        (b"/a", 30, 10, READ),
        (b"/a", 1016, 3, WRITE),
        (b"/a", 90, 3, WRITE),
        (b"/b", 0, 1, READ),
        (b"/a", 1019, 1, READ),
    ]


def test_descriptors_are_set_by_number_and_closed() -> None:
    rows, skipped = read("""\
open("/a", O_RDONLY) = 3
open("/b", O_RDONLY|O_CLOEXEC) = 4
dup2(3, 4) = 4
read(4, "a", 1) = 1
fcntl(3, F_DUPFD_CLOEXEC, 10) = 10
fcntl(4, F_SETFD, FD_CLOEXEC) = 0
read(10, "a", 1) = 1
read(99, 0x5, 1) = -1 EBADF (Bad file descriptor)
execve("/x", [], 0x0) = 0
read(4, "?", 1) = 1
read(10, "?", 1) = 1
read(3, "a", 1) = 1
close_range(3, 4294967295, 0) = 0
read(3, "?", 1) = 1
""")
    assert [row[2:] for row in rows] == [(b"/a", 0, 1, READ), (b"/a", 1, 1, READ), (b"/a", 2, 1, READ)]
    assert skipped == {"a descriptor whose opening is not in the trace": Skipped(3, 10)}


def test_mappings_and_direct_reads() -> None:
    rows, skipped = read("""\
5 12:00:01.5 openat(AT_FDCWD, "/a", O_RDONLY) = 3
5 12:00:02.5 mmap(NULL, 8192, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_DENYWRITE, 3, 0x2000) = 0x7f0000000000
5 12:00:03 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
5 12:00:04 mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE, 3, 0) = 0x7f0000000000
5 12:00:05 openat(AT_FDCWD, "/d", O_RDONLY|O_DIRECT) = 4
5 12:00:06 read(4, ""..., 4096) = 4096
""")
    assert rows == [(43_202_500_000_000, 5, b"/a", 8192, 8192, FAULT)]
    assert skipped == {"direct I/O, which goes past the page cache": Skipped(1, 6)}


def test_annotated_descriptors() -> None:
    """strace -y says what descriptors stand for, whether or not they were opened in sight."""
    assert plain("""\
9 1700000000.000001 read(5</x/y z>, ""..., 4) = 4 <0.000010>
9 1700000000.000002 read(5</x/y z>, ""..., 4) = 4 <0.000010>
9 1700000000.000002 read(6<pipe:[77]>, ""..., 4) = 4 <0.000010>
9 1700000000.000003 openat(AT_FDCWD</home/u>, "../l", O_RDONLY) = 7</real/l>
9 1700000000.000003 openat(6</dir>, "rel", O_RDONLY) = 8</dir/rel>
9 1700000000.000004 read(7</real/l>, "a", 1) = 1
9 1700000000.000004 read(8</dir/\\76rel>(deleted), "a", 1) = 1
9 1700000000.000004 read(9</dev/tty<char 4:1>>, "a", 1) = 1
""") == [
        (b"/x/y z", 0, 4, READ),
        (b"/x/y z", 4, 4, READ),
        (b"/real/l", 0, 1, READ),
        (b"/dir/>rel", 0, 1, READ),
        (b"/dev/tty<char 4:1>", 0, 1, READ),
    ]


def test_working_directories() -> None:
    text = """\
3 open("a\\303\\251\\tb\\x41\\"", O_RDONLY) = 3
3 read(3, "", 9) = 1
3 chdir("/u/v") = 0
3 open("../w", O_RDONLY) = 4
3 read(4, "", 9) = 2
3 open("/dir", O_RDONLY|O_DIRECTORY) = 5
3 openat(5, "x", O_RDONLY) = 6
3 read(6, "", 9) = 3
3 fchdir(5) = 0
3 creat("y", 0600) = 7
3 write(7, "abc", 3) = 3
3 openat2(AT_FDCWD, "z", {flags=O_RDONLY|O_CLOEXEC, resolve=0}, 24) = 8
3 read(8, "", 9) = 4
"""
    known = [(b"/u/w", 0, 2, READ), (b"/dir/x", 0, 3, READ), (b"/dir/y", 0, 3, WRITE), (b"/dir/z", 0, 4, READ)]
    assert plain(text, b"/home") == [('/home/aé\tbA"'.encode(), 0, 1, READ), *known]
    rows, skipped = read(text)
    assert [row[2:] for row in rows] == known
    assert skipped == {"a path from a working directory that is not known (strace -y says it)": Skipped(1, 1)}


def test_threads_share_descriptors_and_are_one_reader() -> None:
    rows, skipped = read("""\
50 clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD, child_tid=0x7} <unfinished ...>
51 openat(AT_FDCWD, "/t", O_RDONLY <unfinished ...>
50 <... clone3 resumed> => {parent_tid=[51]}, 88) = 51
51 <... openat resumed>) = 3
50 read(3,  <unfinished ...>
51 read(3, "x"..., 10) = 10
50 <... read resumed>"y"..., 20) = 20
51 +++ exited with 0 +++
50 vfork( <unfinished ...>
52 close(3) = 0
50 <... vfork resumed>) = 52
50 read(3, "z"..., 5) = 5
--- SIGCHLD {si_signo=SIGCHLD} ---
""")
    assert skipped == {}
    assert [row[1:5] for row in rows] == [(50, b"/t", 0, 10), (50, b"/t", 10, 20), (50, b"/t", 30, 5)]


def test_text_of_a_terminal() -> None:
    """There the first process has no number until there are two, and news stands in the middle of lines."""
    rows, skipped = read("""\
open("/a", O_RDONLY) = 3
clone(child_stack=NULL, flags=SIGCHLD) = 11
getpid() = 10
gettid(strace: Process 11 attached
) = 10
[pid    11] read(3, "x"..., 10) = 10
[pid    10] clone(child_stack=NULL, flags=SIGCHLDstrace: Process 12 attached
 <unfinished ...>
[pid    12] read(3, "x"..., 10) = 10
[pid    10] <... clone resumed>, child_tidptr=0x7) = 12
[pid    12] +++ exited with 0 +++
[pid    10] read(3,  <unfinished ...>
[pid    11] +++ exited with 0 +++
<... read resumed>"x", 10) = 10
read(3, "x"..., 5) = 5
""")
    assert skipped == {}
    assert [(row[1], *row[3:5]) for row in rows] == [(11, 0, 10), (12, 10, 10), (0, 20, 10), (0, 30, 5)]


def test_relative_times() -> None:
    rows, _ = read(
        '1      0.000000 open("/a", O_RDONLY) = 3\n1      0.5 read(3, "", 1) = 1\n1      0.25 read(3, "", 1) = 1\n'
    )
    assert [row[0] for row in rows] == [500_000_000, 750_000_000]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fio version 2 iolog\n/a read x 5\n", "not a line of an iolog"),
        ("fio version 2 iolog\nread\n", "not a line of an iolog"),
        ("fio version 2 iolog\n   \n", "not a line of an iolog"),
        ("fio version 2 iolog\n/a read 0 -1\n", "a number out of range"),
        ("fio version 2 iolog\n/a read 4611686018427387904 1\n", "a number out of range"),
        ("fio version 3 iolog\n/a read 0 5\n", "not a line of an iolog"),
        ("path,offset,length\n/a,1\n", "not a row of the columns named in the first line"),
        ("path,offset,length\n/a,1,?\n", "not a row of the columns named in the first line"),
        ('path,offset,length\n"/a,1,2\n', "not a row of the columns named in the first line"),
        ("path,offset,length,kind\n/a,1,2,look\n", "not a row of the columns named in the first line"),
        ("inode,offset,length\n,1,2\n", "not a row of the columns named in the first line"),
        ("# tracer: nop\nhello\n", "not an event of the page cache"),
        ("# tracer: nop\nx-1 [000] 5: mm_filemap_fault: dev 8:1\n", "an event that does not say where"),
        ("# tracer: nop\nx-1 [000] y: mm_filemap_fault: dev 8:1 ino 5 ofs=0\n", "an event whose numbers are none"),
        ("1 fork() = 2\nhello\n", "not a line of strace"),
        ("1 fork() = 2\n<... read resumed>) = 1\n", "the end of a call that never began"),
        ("1 fork() = 2\n1 pread64(5) = 1\n", "arguments that were not understood, of pread64"),
        ("1 fork() = 2\n1 open(?) = 1\n", "arguments that were not understood, of open"),
        ("1 fork() = 2\n1 dup(3) = 4\n1 dup(9</a>) = 70000\n", "a descriptor beyond 65,535"),
        ("1 fork() = 2\n" + "x" * 70_000 + "\n", "a line of more than 64 KiB"),
    ],
)
def test_lines_that_are_none_are_counted(text: str, reason: str) -> None:
    rows, skipped = read(text)
    assert rows == []
    assert [*skipped] == [reason]
    assert skipped[reason].lines == 1
    assert skipped[reason].line in (2, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "hello\nworld\n",
        "path,length\n/a,1\n",
        "path,path,offset,length\n/a,/b,1,2\n",
        "x" * 200_000,
        "\0" * 500,
    ],
)
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(TraceError, match=r"^this is no trace of a known format: an iolog"):
        read(text)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btrimg.pagecache.accesses.MOST_FILES", 2)
    with pytest.raises(TraceError, match=r"^line 4: more than 2 files$"):
        read("fio version 2 iolog\n/a read 0 1\n/b read 0 1\n/c read 0 1\n")


def test_batches_have_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btrimg.pagecache.traces._BATCH", 3)
    lines = [f"/f{n % 4} read {n} 1" for n in range(10)]
    trace = Trace(io.BytesIO("\n".join(["fio version 2 iolog", *lines]).encode()))
    batches = list(trace)
    assert [len(batch.offset) for batch in batches] == [3, 3, 3, 1]
    assert [int(offset) for batch in batches for offset in batch.offset] == list(range(10))
    assert trace.format == "fio iolog"


def test_memory_for_processes_is_bounded() -> None:
    collector = Collector()
    parser = Parser(collector)
    for number in range(3 * descriptors.MOST_PROCESSES):
        parser.line(b"%d read(3, <unfinished ...>" % number)
    assert len(parser._processes._processes) == len(parser._unfinished) == descriptors.MOST_PROCESSES


HEADS = [
    b"fio version 2 iolog\n",
    b"fio version 3 iolog\n",
    b"path,inode,offset,length\n",
    b"# tracer: nop\n",
    b"1 fork() = 2\n",
]
WORDS = (
    b'1 |read(|3</a>|, |"|\\|) = |0x5|-1|<unfinished ...>|<... |resumed>|openat(AT_FDCWD|clone(|+++ exited|mmap(|NULL|'
    b"\n|[pid |] |strace: Process 4 attached|mm_filemap_fault: |dev=8:1 |ino=f |ofs=|[000]|fcntl(|F_DUPFD|7|wait| "
)


@given(
    st.sampled_from(HEADS), st.lists(st.one_of(st.sampled_from(WORDS.split(b"|")), st.binary(max_size=8)), max_size=40)
)
def test_any_bytes_are_read_or_counted(head: bytes, parts: list[bytes]) -> None:
    text = head + b"".join(parts)
    rows, skipped = read(text)
    lines = text.count(b"\n") + 1
    assert len(rows) + sum(skip.lines for skip in skipped.values()) <= 2 * lines
    assert all(1 <= skip.line <= lines for skip in skipped.values())
    assert all(row[3] >= 0 <= row[4] for row in rows)


@given(st.binary(max_size=300))
def test_any_bytes_are_recognised_or_not(line: bytes) -> None:
    assert sum(known.recognises(line) for known in FORMATS) in (0, 1, 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 40), st.integers(0, 1 << 30)), max_size=20))
def test_what_is_written_is_read(accesses: list[tuple[int, int, int]]) -> None:
    names = ["/a", "/a b", '/c,"d"', "/é"]
    wanted = [(names[file].encode(), offset, length, READ) for file, offset, length in accesses]
    iolog = "".join(f"{names[file]} read {offset} {length}\n" for file, offset, length in accesses)
    assert plain("fio version 2 iolog\n" + iolog) == wanted
    quoted = ['"{}"'.format(name.replace('"', '""')) for name in names]
    rows = "".join(f"{quoted[file]},{offset},{length}\n" for file, offset, length in accesses)
    assert plain("path,offset,length\n" + rows) == wanted


class Machine:
    """Processes and their descriptors, plainly; writes what strace would, and what was read."""

    def __init__(self) -> None:
        self.tables: dict[int, dict[int, list[Any]]] = {1: {}}  # by process and descriptor: [name, position], shared
        self.lines: list[str] = []
        self.read: list[tuple[int, bytes, int, int]] = []

    def step(self, verb: str, process: int, number: int, size: int, *, apart: bool) -> None:
        process = sorted(self.tables)[process % len(self.tables)]
        table = self.tables[process]
        opened = table.get(number)
        call, result = getattr(self, verb)(process, table, number, opened, size) or ("getpid()", process)
        if apart and len(call) > 9:
            self.lines += [f"{process} {call[:9]} <unfinished ...>", "99 getpid() = 99"]
            self.lines.append(f"{process} <... {verb} resumed>{call[9:]} = {result}")
        else:
            self.lines.append(f"{process} {call} = {result}")

    def open(self, process: int, table: Any, number: int, opened: Any, size: int) -> tuple[str, int]:
        table[number] = [f"/f{size % 3}", 0]
        return f'openat(AT_FDCWD, "/f{size % 3}", O_RDONLY)', number

    def take(self, process: int, table: Any, number: int, opened: Any, size: int) -> tuple[str, int] | None:
        if not opened:
            return None
        self.note(process, opened[0], opened[1], size)
        opened[1] += size
        return f'read({number}, "a) = 7, \\"", {size})', size

    def take_at(self, process: int, table: Any, number: int, opened: Any, size: int) -> tuple[str, int] | None:
        if not opened:
            return None
        self.note(process, opened[0], size * 7, size)
        return f'pread64({number}, "a"..., {size}, {size * 7})', size

    def note(self, process: int, name: str, offset: int, size: int) -> None:
        if size:
            self.read.append((process, name.encode(), offset, size))

    def seek(self, process: int, table: Any, number: int, opened: Any, size: int) -> tuple[str, int] | None:
        if not opened:
            return None
        opened[1] = size
        return f"lseek({number}, {size}, SEEK_SET)", size

    def dup(self, process: int, table: Any, number: int, opened: Any, size: int) -> tuple[str, int] | None:
        if not opened:
            return None
        table[size % 5] = opened
        return f"dup2({number}, {size % 5})", size % 5

    def close(self, process: int, table: Any, number: int, opened: Any, size: int) -> tuple[str, int] | None:
        return (f"close({number})", 0) if table.pop(number, None) else None

    def fork(self, process: int, table: Any, number: int, opened: Any, size: int) -> tuple[str, int] | None:
        if len(self.tables) == 4:
            return None
        child = max(self.tables) + 1
        self.tables[child] = dict(table)
        return "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD)", child


VERBS = ["open", "take", "take", "take_at", "seek", "dup", "close", "fork"]


@given(
    st.lists(
        st.tuples(st.sampled_from(VERBS), st.integers(0, 3), st.integers(0, 4), st.integers(0, 900), st.booleans()),
        max_size=40,
    )
)
def test_descriptors_are_followed(steps: list[tuple[str, int, int, int, bool]]) -> None:
    machine = Machine()
    for verb, process, number, size, apart in steps:
        machine.step(verb, process, number, size, apart=apart)
    rows, skipped = read("\n".join(["99 getpid() = 99", *machine.lines]))
    assert skipped == {}
    assert [row[1:5] for row in rows] == machine.read


PROGRAM = """
import mmap, os, subprocess, sys, threading
here = os.open("f", os.O_RDONLY)
os.read(here, 100)
os.lseek(here, 4096, os.SEEK_SET)
os.read(os.dup(here), 5000)
if os.fork() == 0:
    os.read(here, 10)
    os._exit(0)
os.wait()
os.readv(here, [bytearray(3), bytearray(4)])
os.preadv(here, [bytearray(10), bytearray(20)], 8192)
mapped = mmap.mmap(here, 8192, prot=mmap.PROT_READ, offset=4096)
subprocess.run(["cat", "g h"], stdout=subprocess.DEVNULL, check=True)
thread = threading.Thread(target=os.pread, args=(here, 100, 50))
thread.start()
thread.join()
os.chdir("/")
os.sendfile(os.open("/dev/null", os.O_WRONLY), here, None, 1000)
"""


@pytest.mark.parametrize("options", [["-f", "-o"], ["-f", "-y", "-ttt", "-T", "-o"], ["-f", "-y", "-r", "-o"], ["-f"]])
def test_what_strace_writes(tmp_path: Path, options: list[str]) -> None:
    strace = shutil.which("strace") or pytest.skip("strace is not installed")
    (tmp_path / "f").write_bytes(bytes(20_000))
    (tmp_path / "g h").write_bytes(bytes(200_000))
    log = tmp_path / "log"
    command = [strace, *options, *([str(log)] if "-o" in options else []), sys.executable, "-S", "-E", "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, check=False)
    if done.returncode and b"ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0
    rows, _ = read(log.read_bytes() if "-o" in options else done.stderr, os.fsencode(tmp_path))
    home = os.fsencode(tmp_path)
    mine = [row for row in rows if isinstance(row[2], bytes) and row[2].startswith(home)]
    f, g = home + b"/f", home + b"/g h"
    assert [row[2:] for row in mine if row[2] == f] == [
        (f, 0, 100, READ),
        (f, 4096, 5000, READ),
        (f, 9096, 10, READ),
        (f, 9106, 7, READ),
        (f, 8192, 30, READ),
        (f, 4096, 8192, FAULT),
        (f, 50, 100, READ),
        (f, 9113, 1000, READ),
    ]
    assert sum(row[4] for row in mine if row[2] == g) == 200_000
    readers = [row[1] for row in mine if row[2] == f]
    assert len(set(readers)) == 2
    assert readers.count(readers[2]) == 1  # the forked one; the thread is the same reader as the program
    assert all(earlier <= later for earlier, later in pairwise(row[0] for row in rows))


@pytest.mark.parametrize("version", [3])
def test_what_fio_writes(tmp_path: Path, version: int) -> None:
    fio = shutil.which("fio") or pytest.skip("fio is not installed")
    (tmp_path / "f").write_bytes(bytes(1 << 20))
    subprocess.run(
        [fio, "--name=x", "--rw=randread", "--bs=4k", "--size=1m", "--filename=f", "--write_iolog=log", "--thread"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    log = (tmp_path / "log").read_bytes()
    if not log.startswith(b"fio version %d iolog" % version):
        pytest.skip("this fio writes another version")
    rows, skipped = read(log, os.fsencode(tmp_path))
    assert skipped == {}
    assert sorted(row[3] for row in rows) == list(range(0, 1 << 20, 4096))
    assert {row[2] for row in rows} == {os.fsencode(tmp_path / "f")}
    assert {row[4:] for row in rows} == {(4096, READ)}

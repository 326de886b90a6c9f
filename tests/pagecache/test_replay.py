"""Traces replayed over an image: which files they are about, and what every scheme makes of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest

from btrimg.errors import TraceError
from btrimg.pagecache.accesses import Skipped
from btrimg.pagecache.replay import Counted, Replay, default_budgets, miss_ratios
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.pagecache.simulate import NAMES, Stream
from btrimg.pagecache.streams import Streams, everything
from btrimg.pagecache.tracefiles import Found, Mounted, reads_of
from btrimg.pagecache.traces import Trace
from pagecache.test_eviction import WORKLOADS
from pagecache.test_streams import file_of, image, rows  # noqa: F401

if TYPE_CHECKING:
    from btrimg.filesystem.image import Image
    from btrimg.pagecache.filerows import FileRows

HEAD = "fio version 2 iolog\n"


def found(image: Image, rows: FileRows, *texts: str, together: bool = False, **mounted: object) -> Found:  # noqa: F811
    traces = [Trace(io.BytesIO(text.encode())) for text in texts]
    return reads_of(image, rows, traces, Mounted(**mounted), together=together)  # type: ignore[arg-type]


def places(found: Found) -> list[tuple[int, int, int]]:
    return list(
        zip(*(column.tolist() for column in (found.reads.file, found.reads.page, found.reads.pages)), strict=True)
    )


def test_paths_lead_to_files(image: Image, rows: FileRows) -> None:  # noqa: F811
    text = HEAD + (
        "/mnt/a/plain read 0 4096\n/mnt/b/plain read 4095 2\n/mnt/a/../b//clone read 8192 1048576\n"
        "/mnt/a/inline read 0 100\n/mnt/a/inline read 4 100\n/mnt/a/inline read 5 1\n/mnt/a/plain write 0 4096\n"
        "/mntx/a/plain read 0 1\n/mnt/a read 0 1\n/mnt/a/nothing read 0 1\nplain read 0 1\n/mnt/a/plain read 0 0\n"
    )
    got = found(image, rows, text, root=b"/mnt")
    plain, clone, inline = (file_of(rows, path) for path in ("/a/plain", "/b/clone", "/a/inline"))
    assert places(got) == [
        (plain, 0, 1),
        (file_of(rows, "/b/plain"), 0, 2),
        (clone, 2, 254),
        (inline, 0, 1),
        (inline, 0, 1),
    ]
    assert got.accesses == 12
    assert got.left_out == {
        "beyond the end of the file, or of no bytes": 2,
        "written, not read": 1,
        "of a file elsewhere": 1,
        "of what is no regular file": 1,
        "of a file that the image does not have": 1,
        "of a path from a directory that is not known": 1,
    }
    assert places(found(image, rows, HEAD + "/m/plain read 0 1\n", root=b"/m", at=b"/b")) == [
        (file_of(rows, "/b/plain"), 0, 1)
    ]


def test_inodes_lead_to_files(image: Image, rows: FileRows) -> None:  # noqa: F811
    plain, copy = file_of(rows, "/a/plain"), file_of(rows, "/b/plain")
    inode, subvolume = int(rows.files.inode[plain]), int(rows.files.subvolume[plain])
    known = f"{subvolume},{inode},0,1\n"
    text = f"subvolume,inode,offset,length\n{known}{subvolume},9999,0,1\n77,{inode},0,1\n-5,{1 << 70},0,1\n"
    got = found(image, rows, text)
    assert places(got) == [(plain, 0, 1)]
    assert sum(got.left_out.values()) == 3

    line = " x-1 [000] 1.0: mm_filemap_get_pages: dev=0:{} ino={:x} ofs=4096-8191\n"
    head = "# tracer: nop\n"
    got = found(image, rows, head + line.format(5, inode))
    assert got.left_out == {"of an inode number that several subvolumes have": 1}
    wanted = int(rows.files.subvolume[copy])
    assert places(found(image, rows, head + line.format(5, inode), subvolume=wanted)) == [(copy, 1, 1)]
    two = head + line.format(5, inode) + line.format(6, inode)
    with pytest.raises(TraceError, match=r"^the trace is about several devices, 0:5, 0:6: say with --trace-device"):
        found(image, rows, two)
    got = found(image, rows, two, subvolume=wanted, device=6)
    assert places(got) == [(copy, 1, 1)]
    assert got.left_out == {"of a file of another device": 1}


def test_fills_count_where_nothing_else_is_told(image: Image, rows: FileRows) -> None:  # noqa: F811
    plain = file_of(rows, "/a/plain")
    head = "inode,subvolume,kind,offset,length\n"
    row = f"{int(rows.files.inode[plain])},{int(rows.files.subvolume[plain])},"
    fills = head + row + "fill,0,16384\n" + row + "fill,4096,4096\n"
    assert places(found(image, rows, fills)) == [(plain, 0, 4), (plain, 1, 1)]
    got = found(image, rows, fills + row + "fault,8192,4096\n")
    assert places(got) == [(plain, 2, 1)]
    assert got.reads.mapped.tolist() == [True]
    assert got.left_out == {"brought in for a read that the trace has as well": 2}


def test_several_traces(image: Image, rows: FileRows) -> None:  # noqa: F811
    plain, clone = file_of(rows, "/a/plain"), file_of(rows, "/b/clone")
    texts = [
        f"path,offset,length,time,process\n{path},0,1,{start}.0,3\n{path},4096,1,{start + 2}.5,4\n"
        for path, start in (("/a/plain", 100), ("/b/clone", 900))
    ]
    got = found(image, rows, *texts)
    assert places(got) == [(plain, 0, 1), (plain, 1, 1), (clone, 0, 1), (clone, 1, 1)]
    assert got.reads.reader.tolist() == [0, 1, 2, 3]
    got = found(image, rows, *texts, together=True)
    assert places(got) == [(plain, 0, 1), (clone, 0, 1), (plain, 1, 1), (clone, 1, 1)]
    assert got.reads.time.tolist() == [0, 0, 2_500_000_000, 2_500_000_000]


def test_what_is_skipped_stays_with_the_trace(image: Image, rows: FileRows) -> None:  # noqa: F811
    trace = Trace(io.BytesIO((HEAD + "/a/plain read 0 1\nhello\n").encode()))
    got = reads_of(image, rows, [trace], Mounted())
    assert got.accesses == 1
    assert trace.skipped == {"not a line of an iolog": Skipped(1, 3)}


@pytest.fixture(scope="module")
def whole(rows: FileRows) -> Replay:  # noqa: F811
    """Reading everything."""
    return Replay(Streams(rows, everything(rows), Domains(), holes=False, compare=False))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_memory_over_time(whole: Replay, scheme: str) -> None:
    got = whole.run(scheme, [], [])
    pages = whole.streams.numbered(scheme).stream.pages.tolist()
    extents = whole.streams.extents.stream.pages.tolist()
    assert len(got.moments) == 100
    for moment in got.moments:
        assert moment.resident == len(set(pages[: moment.accesses]))
        assert moment.duplicates == max(moment.resident - len(set(extents[: moment.accesses])), 0)
    assert got.moments[-1].accesses == len(pages)
    assert got.resident == got.moments[-1].resident
    assert got.duplicates == got.moments[-1].duplicates
    assert (got.duplicates > 0) == (scheme in ("none", "inode", "device", "same-offset", "whole-file"))


@pytest.mark.parametrize("policy", NAMES)
def test_caches_of_all_sizes(whole: Replay, policy: str) -> None:
    got = whole.run("extent", [policy], [1000, 50])
    stream = whole.streams.numbered("extent").stream
    assert [(cached.policy, cached.budget) for cached in got.cached] == [(policy, 50), (policy, 1000)]
    for cached in got.cached:
        outcome = stream.run(policy, cached.budget)
        hits = int(outcome.hits.sum())
        assert cached.reads == Counted(len(stream.pages), hits)
        assert cached.faults == Counted(0, 0)
        assert cached.misses == len(stream.pages) - hits
        assert cached.evictions == cached.misses - min(cached.budget, got.resident)
        assert cached.sharers_of_evicted >= cached.evictions
        assert cached.hits_over_time[-1] == hits
        assert len(cached.hits_over_time) == len(got.moments)


def test_costs(whole: Replay) -> None:
    inode, extent = whole.run("inode", [], []).costs, whole.run("extent", [], []).costs
    files = sum(1 for file in whole.streams.rows.files.size if file)
    assert inode.accesses == inode.lookups == extent.accesses == files
    assert inode.translations == 0
    assert extent.lookups == files + extent.translations
    assert extent.translations == whole.streams.numbered("extent").pieces > files
    assert inode.index_bytes == inode.pointer_bytes == extent.pointer_bytes
    assert extent.index_bytes == 8 * whole.run("extent", [], []).resident < extent.pointer_bytes


def test_faults_are_counted_apart(image: Image, rows: FileRows) -> None:  # noqa: F811
    text = (
        "path,offset,length,kind\n/a/plain,0,16384,read\n/a/clone,0,8192,fault\n"
        "/b/clone,0,4096,read\n/b/clone,8192,40960,fault\n"
    )
    got = Replay(Streams(rows, found(image, rows, text).reads, Domains(), holes=False, compare=False))
    (cached,) = got.run("extent", ["lru"], [100]).cached
    assert cached.reads == Counted(5, 1)
    assert cached.faults == Counted(12, 4)
    assert cached.reads.ratio == 0.2
    assert got.run("extent", [], []).moments[0].time == 0


def test_miss_ratios_are_lrus() -> None:
    stream = Stream(np.array(WORKLOADS["popular"]()), 5000)
    curve = miss_ratios(stream, 2000)
    assert curve[0][0] == 1
    assert curve[-1][0] == 2000
    for size, ratio in curve[::9]:
        assert ratio == pytest.approx(1 - stream.run("lru", size).hits.mean())


def test_nothing_to_replay(rows: FileRows) -> None:  # noqa: F811
    nothing = everything(rows).take(np.zeros(0, np.int64))
    got = Replay(Streams(rows, nothing, Domains(), holes=False, compare=False)).run("extent", ["lru", "clock"], [5])
    assert (got.resident, got.duplicates, got.moments, got.curve) == (0, 0, (), ())
    assert [cached.reads.ratio for cached in got.cached] == [0.0, 0.0]


def test_budgets_that_are_tried() -> None:
    assert default_budgets(1600) == [100, 200, 400, 800]
    assert default_budgets(3) == [1]

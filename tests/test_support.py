"""The judges must be right before they judge: what the kernel says of our tree is what we wrote."""

from __future__ import annotations

import os
import re
import select
import stat
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import kernel, oracles
from support.kernel import FIEMAP_ENCODED, FIEMAP_INLINE, FIEMAP_SHARED, FIEMAP_UNWRITTEN
from support.matrix import name_of, variants
from support.populate import BLOCK, COLLIDING, ODD_NAMES, TIMES
from support.workers import unit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import KernelImage
    from support.powerloss import CutImage
    from support.truth import Truth


def flags(truth: Truth, path: bytes) -> int:
    """Return the FIEMAP flags that any extent of *path* has."""
    found = 0
    for row in truth.entries[path].extents:
        found |= row.flags
    return found


@pytest.fixture
def truth(kernel_image: Callable[..., KernelImage]) -> Truth:
    image: KernelImage = kernel_image(compression="zstd")
    return image.truth


@pytest.mark.kernel
class TestTree:
    """Names, inodes and attributes."""

    def test_names_are_those_we_made_each_in_its_directory(self, truth: Truth) -> None:
        assert set(truth.entries[b"/names"].names or ()) == set(ODD_NAMES)
        assert set(truth.entries[b"/colliding"].names or ()) == set(COLLIDING)
        assert len(truth.entries[b"/thousand"].names or ()) == 1000

    def test_every_directory_lists_exactly_the_entries_below_it(self, truth: Truth) -> None:
        below: dict[bytes, set[bytes]] = {}
        for path in truth.entries.keys() - {b"/"}:
            below.setdefault(os.path.dirname(path), set()).add(os.path.basename(path))
        listed = {path: set(entry.names) for path, entry in truth.entries.items() if entry.names}
        assert listed == below

    def test_links_of_a_file_are_one_inode(self, truth: Truth) -> None:
        origin = truth.entries[b"/links/origin"].stat
        same = [
            entry for entry in truth.entries.values() if (entry.stat.dev, entry.stat.ino) == (origin.dev, origin.ino)
        ]
        assert len(same) == origin.nlink > 16384 // 260  # more than one reference item of a 16 KiB leaf holds

    def test_times_reach_beyond_32_bits(self, truth: Truth) -> None:
        found = {os.path.basename(path): truth.entries[path].stat for path in truth.entries if b"/times/" in path}
        assert {name: (entry.atime, entry.mtime) for name, entry in found.items()} == TIMES
        assert all(entry.btime > 1_600_000_000 * 10**9 for entry in found.values())

    def test_kinds_modes_owners_and_devices(self, truth: Truth) -> None:
        kinds = {path.removeprefix(b"/kinds/"): e for path, e in truth.entries.items() if b"/kinds/" in path}
        assert kinds[b"dangling"].target == b"nowhere-\xff"
        assert kinds[b"long-symlink"].target == b"x" * 3000
        assert kinds[b"block"].stat.rdev == os.makedev(259, 70_000)
        assert stat.S_ISSOCK(kinds[b"socket"].stat.mode)
        setuid = kinds[b"setuid"].stat
        assert (setuid.mode, setuid.uid, setuid.gid) == (0o106755, 1234, 4_000_000_000)

    def test_xattrs_are_many_large_and_colliding(self, truth: Truth) -> None:
        assert len(truth.entries[b"/xattrs/many"].xattrs) == 40
        assert len(truth.entries[b"/xattrs/large"].xattrs[b"user.large"]) == 16384 - 200
        assert truth.entries[b"/xattrs/colliding"].xattrs == {b"user." + name: name * 3 for name in COLLIDING}
        assert truth.entries[b"/compressed/lzo"].xattrs == {b"btrfs.compression": b"lzo"}


@pytest.mark.kernel
class TestExtents:
    """File extents of every kind are there, and the kernel says so."""

    def test_clones_lie_where_their_source_lies(self, truth: Truth) -> None:
        source, clone = truth.entries[b"/nocow/file-0"], truth.entries[b"/nocow/clone"]
        assert source.extents == clone.extents
        assert source.content == clone.content
        assert all(row.flags & FIEMAP_SHARED for row in source.extents)

    def test_pieces_are_shared_at_another_alignment(self, truth: Truth) -> None:
        base, pieces = truth.entries[b"/plain/base"], truth.entries[b"/reflinks/0-pieces"]
        assert base.content is not None
        assert pieces.content is not None
        assert pieces.content[17 * BLOCK : 29 * BLOCK] == base.content[3 * BLOCK : 15 * BLOCK]
        assert any(row.flags & FIEMAP_SHARED for row in pieces.extents)
        assert any(not row.flags & FIEMAP_SHARED for row in pieces.extents)

    @pytest.mark.parametrize(
        ("path", "flag"),
        [
            (b"/sizes/noise-100", FIEMAP_INLINE),
            (b"/compressed/zlib/inline", FIEMAP_INLINE),
            (b"/compressed/lzo/base", FIEMAP_ENCODED),
            (b"/compressed/zstd/one-extent", FIEMAP_ENCODED),
            (b"/plain/text", FIEMAP_ENCODED),
            (b"/prealloc/partly", FIEMAP_UNWRITTEN),
            (b"/prealloc/past-end", FIEMAP_UNWRITTEN),
            (b"/reflinks/prealloc", FIEMAP_UNWRITTEN | FIEMAP_SHARED),
            (b"/reflinks/2-pieces", FIEMAP_ENCODED | FIEMAP_SHARED),
            (b"/sub/a", FIEMAP_SHARED),
            (b"/snaps/of-ro/only-here", FIEMAP_SHARED),
        ],
    )
    def test_kind_is_as_meant(self, truth: Truth, path: bytes, flag: int) -> None:
        assert flags(truth, path) & flag == flag

    @pytest.mark.parametrize("path", [b"/nocow/file-2", b"/nodatasum/file-1", b"/sizes/noise-65537"])
    def test_plain_files_are_plain(self, truth: Truth, path: bytes) -> None:
        assert flags(truth, path) & ~kernel.FIEMAP_LAST == 0

    def test_files_have_holes(self, truth: Truth) -> None:
        for name in (b"sparse-0", b"tail", b"punched", b"far"):
            entry = truth.entries[b"/holes/" + name]
            assert 0 < sum(row.length for row in entry.extents) < entry.stat.size - BLOCK
        assert truth.entries[b"/holes/only"].extents == ()

    @pytest.mark.progs
    def test_preallocated_extents_lie_on_garbage(self, kernel_image: Callable[..., KernelImage]) -> None:
        """Who reads them from the device instead of returning zeros, is found out."""
        image: KernelImage = kernel_image()
        unwritten = [row for row in image.truth.entries[b"/prealloc/never"].extents if row.flags & FIEMAP_UNWRITTEN]
        assert unwritten
        for row in unwritten:
            text = kernel.run("btrfs-map-logical", "--logical", str(row.logical), "--bytes", "4096", *image.devices)
            physical = int(re.findall(r"physical (\d+)", text)[0])
            with kernel.opened(image.devices[0]) as fd:
                assert any(os.pread(fd, BLOCK, physical))


@pytest.mark.kernel
class TestSubvolumes:
    """Snapshots, what is in them, and what is not."""

    def test_parents_uuids_and_flags(self, truth: Truth) -> None:
        by_path = {subvolume.path: subvolume.info for subvolume in truth.subvolumes.values()}
        assert by_path[b"/snaps/ro"].parent_uuid == by_path[b"/sub"].uuid
        assert by_path[b"/snaps/of-rw"].parent_uuid == by_path[b"/snaps/rw"].uuid
        assert {path: info.flags for path, info in by_path.items() if info.flags} == {
            b"/snaps/ro": 1,
            b"/snaps/of-rw": 1,
        }
        assert by_path[b"/sub/nested"].parent == by_path[b"/sub"].id
        assert b"/doomed" not in by_path

    def test_a_snapshot_shows_a_placeholder_for_a_nested_subvolume(self, truth: Truth) -> None:
        placeholder = truth.entries[b"/snaps/ro/nested"]
        assert placeholder.is_placeholder
        assert placeholder.names == ()
        assert truth.entries[b"/sub/nested"].names == (b"inside",)

    def test_snapshots_differ_from_their_origin_by_what_was_written_later(self, truth: Truth) -> None:
        content = {path: entry.content for path, entry in truth.entries.items()}
        assert content[b"/snaps/ro/a"] != content[b"/sub/a"]
        assert content[b"/snaps/ro/c"] == content[b"/sub/c"] != content[b"/snaps/of-rw/c"] != content[b"/snaps/rw/c"]
        assert b"/sub/b" not in content
        assert content[b"/snaps/ro/b"] == content[b"/snaps/rw/tree/b-renamed"]

    def test_default_subvolume_can_be_another(self, kernel_image: Callable[..., KernelImage]) -> None:
        image: KernelImage = kernel_image(default_subvolume="snaps/rw")
        assert image.truth.subvolumes[image.default_subvolume].path == b"/snaps/rw"


@pytest.mark.kernel
@pytest.mark.parametrize("profile", ["single", "raid1"])
def test_power_cut_leaves_a_log_and_an_orphan(cut_image: Callable[..., CutImage], profile: str) -> None:
    image: CutImage = cut_image(profile=profile)
    for device in image.devices:
        with kernel.opened(device) as fd:
            assert struct.unpack("<Q", os.pread(fd, 8, 65536 + 0x60))[0], "log_root of the superblock"
    before, after = image.committed.entries, image.replayed.entries
    assert {path for path in after.keys() - before.keys() if b"/sub/" not in path} == {
        b"/linked-too",
        b"/new",
        b"/new-dir",
        b"/new-dir/inside",
        b"/preallocated",
        b"/renamed-to",
    }
    assert after[b"/sub/truncated"].stat.size == 5 * BLOCK + 7
    assert after[b"/sub/never-synced"].content == before[b"/sub/never-synced"].content
    assert after[b"/linked"].xattrs == {b"user.new": b"value"}
    assert b"/orphan" not in before


@pytest.mark.kernel
@pytest.mark.parametrize("profile", ["raid10", "raid6"])
def test_all_devices_and_mounts_are_given_back(kernel_image: Callable[..., KernelImage], profile: str) -> None:
    image: KernelImage = kernel_image(profile=profile)
    with image.mount() as top:
        assert kernel.subvolume_id(top) == kernel.TOP_LEVEL
    with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        assert top not in mounts.read()
    assert not kernel.still_attached(image.devices)


_CHILD = """
import sys
from support import kernel
print("waits", flush=True)
with kernel.alone(sys.argv[1:]):
    print("has it")
"""


def test_only_one_process_has_a_filesystem_attached(demo_image: str, forged: str) -> None:
    command = [sys.executable, "-c", _CHILD, forged]
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    said = []
    with kernel.alone([demo_image]):
        with kernel.alone([forged, os.devnull]):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            assert child.stdout
            said.append(child.stdout.readline())
        said += [child.stdout.readline()] if select.select([child.stdout], [], [], 0.2)[0] else []
        said.append("is given back\n")
    said += child.communicate()[0].splitlines(keepends=True)
    assert child.returncode == 0
    assert said == ["waits\n", "is given back\n", "has it\n"]


def test_tests_of_one_image_stay_together() -> None:
    cell = name_of(variants()[0])
    clean, matrix = f"tests/check/test_clean.py::test_a[{cell}]", f"tests/filesystem/test_matrix.py::test_b[{cell}]"
    assert unit_of(clean) == unit_of(matrix) == cell
    assert unit_of("tests/check/test_clean.py::test_a[mixed]") == "tests/check/test_clean.py"
    assert unit_of("tests/check/test_clean.py::TestA::test_a") == "tests/check/test_clean.py"
    assert unit_of("tests/test_crafted.py::test_a[b::c]") != unit_of("tests/test_crafted.py::test_a[b::d]")


def test_a_missing_oracle_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    oracles._why_no_progs.cache_clear()
    try:
        monkeypatch.delenv("BTRIMG_REQUIRE_ORACLES", raising=False)
        with pytest.raises(pytest.skip.Exception, match=r"mkfs\.btrfs and btrfs not found"):
            oracles.require_progs()
        monkeypatch.setenv("BTRIMG_REQUIRE_ORACLES", "1")
        with pytest.raises(pytest.fail.Exception, match=r"BTRIMG_REQUIRE_ORACLES=1, but mkfs\.btrfs"):
            oracles.require_progs()
    finally:
        oracles._why_no_progs.cache_clear()

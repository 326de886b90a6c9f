"""The relations of whole images, against rows made one by one, against btrfs-progs, and against each other."""

from __future__ import annotations

import re
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import odd
from support.dump_text import run_progs

from btrimg.filesystem.columns import KINDS
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import InodeFlag, ItemType
from btrimg.tables.build import FEW, build
from btrimg.tables.leafscan import TAKES
from btrimg.tables.relation import SQL_TYPES
from btrimg.tables.schema import RELATIONS

from .reference import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.images import KernelImage
    from support.powerloss import CutImage

    Table = dict[str, np.ndarray[Any, Any]]

VARIANTS = (
    {"profile": "raid10", "nodesize": 4096, "csum": "sha256", "compression": "zstd"},
    {"profile": "raid1c3", "nodesize": 4096, "features": ("^no-holes", "^skinny-metadata")},
    {"profile": "single", "metadata_profile": "dup", "nodesize": 65536, "csum": "blake2", "compression": "zlib"},
)


@pytest.fixture(params=VARIANTS, ids=lambda options: options["profile"])
def written(request: pytest.FixtureRequest, kernel_image: Callable[..., KernelImage]) -> Sequence[str]:
    return kernel_image(**request.param).devices


def refuse(what: object) -> None:
    raise AssertionError(str(what))


def tables(devices: Sequence[str] | str, *names: str) -> dict[str, Table]:
    with open_image(devices, warn=refuse) as image:
        return build(image, names or list(RELATIONS))


def rows_of(table: Table, *columns: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].tolist() for name in columns or table), strict=True))


def compare_all(devices: Sequence[str] | str) -> dict[str, Table]:
    found = tables(devices)
    with open_image(devices, warn=refuse) as image:
        for name, reference in REFERENCE.items():
            assert Counter(rows_of(found[name])) == Counter(reference(image)), name
    return found


def test_every_relation_is_built_in_some_way_and_compared() -> None:
    assert set(RELATIONS) == {*TAKES, *FEW, "tree_blocks", "physical"}
    assert set(REFERENCE) == set(TAKES)


def test_rows_of_the_demo_equal_those_made_one_by_one(demo_image: str) -> None:
    found = compare_all(demo_image)
    assert rows_of(found["superblock"], "label", "num_devices", "nodesize") == [("demo", 1, 16384)]
    subvolumes = rows_of(found["subvolumes"], "id", "parent", "path", "read_only")
    assert subvolumes == [(5, 0, "", False), (256, 5, "/vm", False), (257, 5, "/vm-monday", True)]
    blocks = found["extents"]["kind"] == "tree block"
    assert found["tree_blocks"]["logical"].tolist() == sorted(found["extents"]["logical"][blocks].tolist())
    uuids = {row[0]: row[1:] for row in rows_of(found["subvolumes"], "id", "uuid", "parent_uuid")}
    assert uuids[257][1] == uuids[256][0]


@pytest.mark.kernel
@pytest.mark.progs
def test_rows_equal_those_made_one_by_one(written: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btrimg.trees.batches.BATCH_BYTES", 1 << 18)  # so that leaves come in several batches
    found = compare_all(written)
    assert set(found["names"]["source"]) == {"dir_item", "dir_index", "inode_ref", "inode_extref"}
    kinds = set(rows_of(found["backrefs"], "kind", "inline"))
    assert {("tree_block", True), ("extent_data", True)} <= kinds  # which others there are hangs on the size of leaves
    assert len(found["xattrs"]["inode"]) > 10


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize(
    "make", [odd.quotas, odd.received, odd.longest, odd.replaced, odd.paused], ids=lambda make: make.__name__
)
def test_rows_of_odd_images_equal_those_made_one_by_one(make: Callable[[str], Sequence[str]], tmp_path: Any) -> None:
    found = compare_all(make(str(tmp_path)))
    assert make is not odd.replaced or "bitmap" in found["free_space"]["source"]


@pytest.mark.kernel
def test_an_interrupted_deletion_shows(cut_image: Callable[..., CutImage]) -> None:
    devices = cut_image(nodesize=4096).devices
    with open_image(devices, replay_log=None, warn=refuse) as image:
        found = build(image, ["orphans"])["orphans"]
        assert Counter(rows_of(found)) == Counter(REFERENCE["orphans"](image))
    assert len(found["objectid"]) > 0


def test_columns_have_the_types_that_the_schema_says(demo_image: str) -> None:
    for name, table in tables(demo_image).items():
        columns = RELATIONS[name].all_columns
        assert list(table) == [column.name for column in columns]
        assert len({len(values) for values in table.values()}) == 1, name
        for column in columns:
            plain = {"text": object, "bytes": object}.get(column.type, column.type)
            assert table[column.name].dtype == np.dtype(plain), column
            assert column.type in SQL_TYPES


def test_only_the_trees_of_named_relations_are_read(demo_image: str) -> None:
    with open_image(demo_image, warn=refuse) as image:
        before = image.blocks.blocks_read
        assert list(build(image, ["csums"])) == ["csums"]
        few = image.blocks.blocks_read - before
        build(image, ["inodes", "extents"])
        assert few < image.blocks.blocks_read - before - few


# Against btrfs-progs


@pytest.mark.kernel
@pytest.mark.progs
def test_values_equal_dump_tree(written: Sequence[str]) -> None:
    text = run_progs("inspect-internal", "dump-tree", "--noscan", *written)
    found = tables(written)
    trees = re.split(r"\n(?=\S[^\n]* tree(?: key|\n))", text)
    files = "\n".join(tree for tree in trees if re.match(r"(?:fs|file) tree key", tree))
    assert files.count(" INODE_ITEM 0) itemoff ") == len(found["inodes"]["inode"])
    sizes = Counter(map(int, re.findall(r"generation \d+ transid \d+ size (\d+) nbytes", files)))
    assert sizes == Counter(found["inodes"]["size"].tolist())
    for kind in ("DIR_ITEM", "DIR_INDEX", "XATTR_ITEM"):
        entries = re.findall(rf"item \d+ key \(\d+ {kind} \d+\).*\n((?:\t\t.*\n)+)", files)
        count = sum(entry.count("\t\tlocation key ") for entry in entries)
        table = found["xattrs"] if kind == "XATTR_ITEM" else found["names"]
        ours = len(table["inode"]) if kind == "XATTR_ITEM" else int((table["source"] == kind.lower()).sum())
        assert count == ours > 0
    data = re.findall(r"extent data backref root (\S+) objectid (\d+) offset (\d+) count (\d+)", text)
    table = found["backrefs"]
    theirs = Counter((int(inode), int(offset), int(count)) for _, inode, offset, count in data)
    of_data = table["kind"] == "extent_data"
    ours_data = (table[name][of_data].tolist() for name in ("inode", "offset", "count"))
    assert theirs == Counter((i, o % 2**64, c) for i, o, c in zip(*ours_data, strict=True))
    assert len(re.findall(r" (?:METADATA_ITEM|EXTENT_ITEM) \d+\) itemoff", text)) == len(found["extents"]["logical"])
    used = re.findall(r"key \((\d+) BLOCK_GROUP_ITEM (\d+)\).*\n\t\tblock group used (\d+)", text)
    ours_used = rows_of(found["block_groups"], "logical", "length", "used")
    assert sorted(tuple(map(int, row)) for row in used) == sorted(ours_used)
    blocks = re.findall(r"^(?:leaf|node) (\d+) .*generation (\d+) owner", text, re.M)
    ours_blocks = set(rows_of(found["tree_blocks"], "logical", "generation"))
    assert {(int(at), int(generation)) for at, generation in blocks} == ours_blocks


@pytest.mark.kernel
@pytest.mark.progs
def test_quota_groups_equal_dump_tree(tmp_path: Any) -> None:
    devices = odd.quotas(str(tmp_path))
    text = run_progs("inspect-internal", "dump-tree", "-t", "quota", "--noscan", *devices)
    pattern = r"QGROUP_INFO (\d+)/(\d+)\).*\n\t\tgeneration (\d+)\n\t\treferenced (\d+) .*\n\t\texclusive (\d+) "
    theirs = [(int(a) << 48 | int(b), int(a), *map(int, rest)) for a, b, *rest in re.findall(pattern, text)]
    limits = re.findall(r"QGROUP_LIMIT (\d+)/(\d+)\).*\n\t\tflags ([0-9a-fx]+).*\n\t\tmax_referenced (\d+)", text)
    table = tables(devices, "qgroups")["qgroups"]
    assert rows_of(table, "id", "level", "generation", "rfer", "excl") == theirs
    assert {level for _, level, *_ in theirs} == {0, 1, 2}
    limited = {int(a) << 48 | int(b): (int(flags, 16), int(most)) for a, b, flags, most in limits}
    assert {row[0]: row[1:] for row in rows_of(table, "id", "limit_flags", "max_rfer")} == limited
    assert any(flags for flags, _ in limited.values())


# Against each other


@pytest.mark.kernel
@pytest.mark.progs
def test_counts_of_backrefs_sum_up_to_the_references_of_extents(written: Sequence[str]) -> None:
    found = tables(written, "extents", "backrefs")
    table = found["backrefs"]
    counted: Counter[int] = Counter()
    for extent, kind, count in rows_of(table, "extent", "kind", "count"):
        counted[extent] += count if kind != "owner" else 0
    assert dict(rows_of(found["extents"], "logical", "refs")) == counted


@pytest.mark.kernel
@pytest.mark.progs
def test_space_adds_up(written: Sequence[str]) -> None:
    found = tables(written)
    extents, groups = found["extents"], found["block_groups"]
    for logical, length, used in rows_of(groups, "logical", "length", "used"):
        inside = (extents["logical"] >= logical) & (extents["logical"] < logical + length)
        assert extents["length"][inside].sum() == used
        space = found["free_space"]
        free = (space["logical"] >= logical) & (space["logical"] < logical + length)
        assert space["length"][free].sum() == length - used
    assert groups["used"].sum() == found["superblock"]["bytes_used"][0]
    assert rows_of(groups, "logical", "length", "flags") == rows_of(found["chunks"], "logical", "length", "flags")
    places = Counter(rows_of(found["stripes"], "devid", "physical", "chunk"))
    assert places == Counter(rows_of(found["dev_extents"], "devid", "physical", "chunk"))
    per_device = Counter[int]()
    for devid, length in rows_of(found["dev_extents"], "devid", "length"):
        per_device[devid] += length
    assert dict(rows_of(found["devices"], "devid", "bytes_used")) == per_device


@pytest.mark.kernel
@pytest.mark.progs
def test_tree_blocks_are_those_of_the_extent_tree(written: Sequence[str]) -> None:
    found = tables(written, "extents", "tree_blocks", "superblock")
    blocks, extents = found["tree_blocks"], found["extents"]
    allocated = rows_of({n: c[extents["kind"] == "tree block"] for n, c in extents.items()}, "logical", "level")
    assert rows_of(blocks, "logical", "level") == sorted(allocated)
    assert 101 < blocks["fill"].min() <= blocks["fill"].max() <= found["superblock"]["nodesize"][0]
    assert {0, 1} <= set(blocks["level"].tolist())
    text = run_progs("inspect-internal", "dump-tree", "--noscan", *written)
    free = {int(at): int(left) for at, left in re.findall(r"^leaf (\d+) items \d+ free space (\d+)", text, re.M)}
    size = int(found["superblock"]["nodesize"][0])
    filled = dict(rows_of(blocks, "logical", "fill"))
    assert {at: size - filled[at] for at in free} == free


@pytest.mark.kernel
@pytest.mark.progs
def test_checksums_cover_what_files_with_checksums_use(written: Sequence[str]) -> None:
    found = tables(written, "csums", "file_extents", "inodes", "extents")
    inodes = found["inodes"]
    nodatasum = inodes["flags"] & int(InodeFlag.NODATASUM) != 0
    without = set(zip(inodes["subvolume"][nodatasum].tolist(), inodes["inode"][nodatasum].tolist(), strict=True))
    sums = sorted(rows_of(found["csums"]))
    covered = {at for start, length in sums for at in range(start, start + length, 4096)}
    columns = ("subvolume", "inode", "kind", "extent", "extent_length")
    checked = 0
    for subvolume, inode, kind, extent, length in rows_of(found["file_extents"], *columns):
        if kind == "compressed" and (subvolume, inode) not in without:
            assert covered.issuperset(range(extent, extent + length, 4096))
            checked += 1
        elif kind == "regular" and (subvolume, inode) in without:
            assert extent not in covered
    data = found["extents"]["kind"] == "data"
    allocated = found["extents"]["length"][data].sum()
    assert 0 < len(covered) * 4096 < allocated
    assert checked > 0 or "compressed" not in set(found["file_extents"]["kind"])


@pytest.mark.kernel
@pytest.mark.progs
def test_file_extents_are_those_of_the_census(written: Sequence[str]) -> None:
    found = tables(written, "file_extents", "inodes")
    inodes = rows_of(found["inodes"], "subvolume", "inode", "mode")
    files = {(subvolume, inode) for subvolume, inode, mode in inodes if stat.S_ISREG(mode)}
    with open_image(written, warn=refuse) as image:
        columns = image.extents()
    names = ("subvolume", "inode", "offset", "length", "extent_logical", "extent_length", "generation")
    theirs = zip(*(getattr(columns, name).tolist() for name in names), [KINDS[k] for k in columns.kind], strict=True)
    ours = rows_of(found["file_extents"], *names[:4], "extent", *names[5:], "kind")
    assert [row for row in ours if row[:2] in files] == list(theirs)


@pytest.mark.kernel
@pytest.mark.progs
def test_every_name_leads_to_an_inode_with_as_many_links(written: Sequence[str]) -> None:
    found = tables(written, "names", "inodes")
    table = found["names"]
    entries = {"dir_item": Counter[Any](), "dir_index": Counter[Any]()}
    references = Counter[Any]()
    for row in rows_of(table, "source", "location_type", "subvolume", "parent", "inode", "name"):
        source, location, *edge = row
        if source in entries and location == ItemType.INODE_ITEM:
            entries[source][tuple(edge)] += 1
        elif source not in entries and edge[1] != edge[2]:
            references[tuple(edge)] += 1
    assert entries["dir_item"] == entries["dir_index"] == references
    links = Counter[Any]()
    for subvolume, _, inode, _ in references:
        links[subvolume, inode] += 1
    files = [row for row in rows_of(found["inodes"], "subvolume", "inode", "nlink", "mode") if stat.S_ISREG(row[3])]
    assert len(files) > 100
    assert all(links[subvolume, inode] == nlink for subvolume, inode, nlink, _ in files)

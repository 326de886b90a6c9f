"""dump-super, dump-tree and list-chunks against btrfs-progs, on what the kernel wrote: value by value, and as text."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import kernel, odd
from support.dump_text import our_fields, progs_version, run_progs, their_fields
from support.images import mkfs_features
from support.matrix import name_of, options_of, variants

from btrimg.cli.dump_super import dump_super
from btrimg.cli.dump_tree import dump_tree
from btrimg.cli.list_chunks import list_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.images import KernelImage
    from support.powerloss import CutImage

    from btrimg.cli.command import Command

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

RAID10: dict[str, Any] = {"profile": "raid10", "nodesize": 4096}
#: What the matrix does not vary: kinds of items and trees.
FURTHER: dict[str, dict[str, Any]] = {
    "deep": RAID10,
    "mixed": {"profile": "dup", "nodesize": 4096, "mkfs_options": ("--mixed",)},
    "old": {"profile": "raid1", "features": ("^no-holes", "^skinny-metadata")},
    "block-group-tree": {"profile": "raid1c4", "features": ("block-group-tree",)},
}
WRITTEN = {name_of(cell): options_of(cell) for cell in variants()} | FURTHER
ODD = {
    "quotas": odd.quotas,
    "simple": odd.simple_quotas,
    "received": odd.received,
    "replaced": odd.replaced,
    "paused": odd.paused,
}


class Printed(NamedTuple):
    """What a command of ours wrote."""

    code: int
    lines: list[str]


def ours(capsys: pytest.CaptureFixture[str], command: Command, *words: str) -> Printed:
    arguments = command.parse(words)
    assert arguments is not None, f"{words} are not plain"
    capsys.readouterr()
    code = command.run(**arguments)
    captured = capsys.readouterr()
    return Printed(code, captured.out.removesuffix("\n").split("\n"))


def assert_same_values(tool: str, mine: Sequence[str], theirs: str) -> None:
    pairs = itertools.zip_longest(our_fields(tool, mine), their_fields(tool, theirs))
    before: object = None
    for number, (mine_, theirs_) in enumerate(pairs):
        assert mine_ == theirs_, f"line {number}, after {before}"
        before = mine_


def assert_same_tree(capsys: pytest.CaptureFixture[str], devices: Sequence[str], *flags: str) -> list[str]:
    printed = ours(capsys, dump_tree, *flags, *devices)
    assert printed.code == 0
    theirs = run_progs("inspect-internal", "dump-tree", *flags, *devices)
    assert_same_values(
        "dump-tree", printed.lines[1:], theirs.partition("\n")[2]
    )  # the first line is the program's version
    return printed.lines


@pytest.fixture(params=WRITTEN)
def written(request: pytest.FixtureRequest, kernel_image: Callable[..., KernelImage]) -> KernelImage:
    if request.param == "block-group-tree" and request.param not in mkfs_features():
        pytest.skip("this mkfs.btrfs makes no block group tree")
    return kernel_image(**WRITTEN[request.param])


def test_trees_of_every_profile_have_the_same_values(written: KernelImage, capsys: pytest.CaptureFixture[str]) -> None:
    lines = assert_same_tree(capsys, written.devices)
    assert len(lines) > 20_000
    if any(line.startswith("block group tree key") for line in lines):
        assert_same_tree(capsys, written.devices, "-t", "block_group")


def test_superblocks_of_every_profile_have_the_same_values(
    written: KernelImage, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in written.devices:
        printed = ours(capsys, dump_super, "--full", "--all", device)
        assert printed.code == 0
        assert_same_values("dump-super", printed.lines, run_progs("inspect-internal", "dump-super", "-f", "-a", device))


@pytest.fixture(params=ODD)
def odd_devices(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    if request.param == "simple" and progs_version() < (6, 7):
        pytest.skip("this btrfs-progs does not know simple quotas")
    make: Callable[[str], Sequence[str]] = ODD[request.param]
    return make(str(tmp_path_factory.mktemp(request.param)))


def test_quotas_balance_replacement_and_old_space_caches(
    odd_devices: Sequence[str], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    name = request.node.callspec.params["odd_devices"]
    lines = assert_same_tree(capsys, odd_devices, "--csum-headers", "--csum-items")
    text = "\n".join(lines)
    for what in {
        "quotas": ("QGROUP_STATUS", "QGROUP_INFO", "QGROUP_LIMIT", "QGROUP_RELATION"),
        "simple": ("QGROUP_STATUS", "extent owner root 256", "enable_gen"),
        "received": ("UNTYPED", "UUID_KEY_RECEIVED_SUBVOL", "UUID_KEY_SUBVOL"),
        "replaced": ("DEV_REPLACE", "PERSISTENT_ITEM", "FREE_SPACE_BITMAP"),
        "paused": ("TEMPORARY_ITEM",),
    }[name]:
        assert f" {what}" in text
    printed = ours(capsys, dump_super, "-f", odd_devices[0])
    assert_same_values("dump-super", printed.lines, run_progs("inspect-internal", "dump-super", "-f", odd_devices[0]))


def test_log_trees_and_orphans_after_a_power_cut(
    cut_image: Callable[..., CutImage], capsys: pytest.CaptureFixture[str]
) -> None:
    devices = cut_image().devices
    lines = assert_same_tree(capsys, devices)
    assert any(line.startswith("log tree key (TREE_LOG ROOT_ITEM ") for line in lines)
    assert "\t\torphan item" in lines
    for flags in (["-r"], ["-R"], ["-t", "tree_log"], ["-d", "--dfs"]):
        assert_same_tree(capsys, devices, *flags)


@pytest.mark.parametrize(
    "flags",
    [
        ["--dfs"],
        ["--bfs", "--noscan"],
        ["-e"],
        ["-d"],
        ["-r"],
        ["-R"],
        ["-u"],
        ["-t", "root"],
        ["-t", "chunk_tree"],
        ["-t", "DEV"],
        ["-t", "BTRFS_FS_TREE_OBJECTID"],
        ["-t", "256"],
        ["-t", "10"],
        ["-t", "data_reloc", "--csum-headers"],
        ["-t", "csum", "--csum-items"],
    ],
    ids=" ".join,
)
def test_every_flag_shows_the_same(
    flags: list[str], kernel_image: Callable[..., KernelImage], capsys: pytest.CaptureFixture[str]
) -> None:
    devices = kernel_image(**RAID10).devices
    assert len(assert_same_tree(capsys, devices, *flags)) > 5


def test_single_blocks_show_the_same(
    kernel_image: Callable[..., KernelImage], capsys: pytest.CaptureFixture[str]
) -> None:
    devices = kernel_image(**RAID10).devices
    roots = [line.split() for line in ours(capsys, dump_tree, "-r", *devices).lines if " level " in line]
    (level_2, *_), (level_1, *_) = ([words[-3] for words in roots if words[-1] == level] for level in "21")
    lines = assert_same_tree(capsys, devices, *(word for block in sorted((level_1, level_2)) for word in ("-b", block)))
    assert len([line for line in lines if line.startswith("node ")]) == 4
    assert len(assert_same_tree(capsys, devices, "-b", level_2, "--follow")) > len(lines)


def test_hidden_names_stay_hidden(kernel_image: Callable[..., KernelImage], capsys: pytest.CaptureFixture[str]) -> None:
    devices = kernel_image(profile="single").devices
    lines = ours(capsys, dump_tree, "--hide-names", *devices).lines
    named = [line for line in lines if re.search(r"\bname:? |^\t\tdata ", line)]
    assert len(named) > 4000
    assert all(line.endswith(" HIDDEN") for line in named)
    assert "entry-0001" in "".join(ours(capsys, dump_tree, *devices).lines)
    assert "entry-0001" not in "".join(ours(capsys, dump_tree, "--hide-names", "--json", *devices).lines)


def test_text_is_that_of_the_same_version_byte_for_byte(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Compare the raw text, on an image without what KNOWN_DIFFERENCES names for this version of btrfs-progs."""
    (device,) = odd.quotas(str(tmp_path))
    theirs = run_progs("inspect-internal", "dump-tree", device).removesuffix("\n").split("\n")
    mine = ours(capsys, dump_tree, device).lines
    if progs_version() < (6, 6):
        mine = [re.sub(r"^\t\t\(\d+ 0x[0-9a-f]+\) ", "\t\t", line) for line in mine]
    assert mine[1:] == theirs[1:]
    theirs = run_progs("inspect-internal", "dump-super", "-f", device).removesuffix("\n").split("\n")
    mine = ours(capsys, dump_super, "-f", device).lines
    differ = [pair for pair in zip(mine, theirs, strict=True) if pair[0] != pair[1]]
    assert all(line.startswith("metadata_uuid") and progs_version() < (6, 5) for line, _ in differ)


def test_chunks_are_those_of_the_running_filesystem(written: KernelImage, capsys: pytest.CaptureFixture[str]) -> None:
    """Compare with the chunk, device and block group items: list-chunks itself only looks at mounts, and not always."""
    printed = ours(capsys, list_chunks, "--raw", written.devices[0], *_further(written.devices))
    assert printed.code == 0
    rows = [line.split() for line in printed.lines[2:]]
    chunk_items = run_progs("inspect-internal", "dump-tree", "-t", "chunk", *written.devices)
    stripes = re.findall(r"\tstripe \d+ devid (\d+) offset (\d+)", chunk_items)
    assert sorted((devid, start) for devid, _, _, start, *_ in rows) == sorted(stripes)
    extents = run_progs("inspect-internal", "dump-tree", "-t", "dev", *written.devices)
    ends = {
        (devid, int(start) + int(length))
        for devid, start, length in re.findall(
            r"key \((\d+) DEV_EXTENT (\d+)\)(?s:.)*?chunk_offset \d+ length (\d+)", extents
        )
    }
    assert {(row[0], int(row[5])) for row in rows} == ends
    tree = (
        "block_group" if "BLOCK_GROUP_TREE" in "".join(ours(capsys, dump_super, written.devices[0]).lines) else "extent"
    )
    groups = run_progs("inspect-internal", "dump-tree", "-t", tree, *written.devices)
    used = {
        start: int(used) / int(length) * 100
        for start, length, used in re.findall(
            r"key \((\d+) BLOCK_GROUP_ITEM (\d+)\).*\n\t\tblock group used (\d+)", groups
        )
    }
    assert {row[7]: row[8] for row in rows} == {start: f"{use:.2f}" for start, use in used.items()}


def _further(devices: Sequence[str]) -> list[str]:
    return [word for device in devices[1:] for word in ("--device", device)]


def test_chunk_table_is_that_of_btrfs_progs(
    kernel_image: Callable[..., KernelImage], capsys: pytest.CaptureFixture[str]
) -> None:
    features = ("^block-group-tree",) if "block-group-tree" in mkfs_features() else ()  # with one it shows 0
    image = kernel_image(profile="raid1", features=features)
    with image.mount() as top:
        for flags in ([], ["--sort", "-usage,devid"], ["--raw"], ["--si"], ["--mbytes"]):
            try:
                theirs = kernel.run("btrfs", "inspect-internal", "list-chunks", *flags, top)
            except RuntimeError as error:
                pytest.skip(f"this btrfs-progs cannot list chunks: {str(error).splitlines()[0]}")
            assert ours(
                capsys, list_chunks, *flags, image.devices[0], *_further(image.devices)
            ).lines == theirs.removesuffix("\n").split("\n")

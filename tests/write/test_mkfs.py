"""A new filesystem: judged by both checks and the kernel, and held against what mkfs.btrfs makes."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import kernel
from support.images import MIB
from support.judges import complaints, complaints_of_btrimg, programs
from support.kernel import run

from btrimg.errors import OptionError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import BlockGroup, CompatRo, Incompat, ItemType, TreeId
from btrimg.ondisk.inodes import Timespec
from btrimg.ondisk.items import parse
from btrimg.volume.fresh import fresh_devices
from btrimg.volume.profiles import PROFILES
from btrimg.volume.superblocks import read_copies
from btrimg.write.mkfs import make_filesystem
from btrimg.write.options import Options, minimum_size, new_options
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.superblock import Superblock

NOW = Timespec(1_700_000_000, 5)


def make(outputs: Sequence[str], sizes: Sequence[int], seed: str = "seed", **choices: Any) -> Options:
    """Make a filesystem that holds nothing; give its options."""
    uuids = seeded(seed.encode())
    options = new_options(sizes, uuids, **choices)
    with fresh_devices(outputs, [device.size for device in options.devices]) as fresh:
        made = make_filesystem(options, fresh.devices, fresh.sink, now=NOW, uuids=uuids, warn=_never)
        with made as transaction:
            transaction.commit()
    return options


def _never(message: str) -> None:
    raise AssertionError(message)


# The matrix

NAMES = tuple(profile.name for profile in PROFILES.values())
CSUMS = ("crc32c", "xxhash", "sha256", "blake2")
BLOCKS = tuple((node, sector) for node in (4, 8, 16, 32, 64) for sector in (4, 8, 16, 32, 64) if sector <= node)
FEATURES = (
    (),
    ("^block-group-tree",),
    ("^free-space-tree",),
    ("^no-holes",),
    ("^skinny-metadata", "^extref"),
    ("^free-space-tree", "^skinny-metadata", "^no-holes"),
)


class Cell(NamedTuple):
    """One filesystem of the matrix; *metadata* is "mixed" where block groups are shared."""

    data: str
    metadata: str
    blocks: tuple[int, int]  # KiB of a node and of a sector
    csum: str
    features: tuple[str, ...]

    @property
    def choices(self) -> dict[str, Any]:
        nodesize, sectorsize = (size << 10 for size in self.blocks)
        choices: dict[str, Any] = {"data": self.data, "csum": self.csum, "features": self.features}
        choices |= {"nodesize": nodesize, "sectorsize": sectorsize, "label": self.name.encode()}
        if self.metadata == "mixed":
            return choices | {"mixed": True, "nodesize": sectorsize}
        return choices | {"metadata": self.metadata}

    @property
    def devices(self) -> int:
        """Return more devices than the minimum, because a minimal RAID hides wrong columns."""
        needed = {"raid1c3": 4, "raid1c4": 5, "raid10": 6, "raid5": 4, "raid6": 5}
        return max(needed.get(self.data, 3), needed.get(self.metadata, 3))

    @property
    def name(self) -> str:
        nodesize, sectorsize = self.blocks
        return "-".join((self.data, self.metadata, f"{nodesize}k", f"{sectorsize}k", self.csum, *self.features))


SAMPLE = (
    Cell("raid10", "raid1c3", (16, 4), "crc32c", ()),
    Cell("raid5", "dup", (64, 4), "xxhash", ("^block-group-tree",)),
    Cell("raid1", "mixed", (4, 4), "sha256", ("^no-holes",)),
    Cell("raid0", "raid6", (64, 16), "blake2", ("^skinny-metadata", "^extref")),
    Cell("single", "raid1c4", (8, 4), "crc32c", ("^free-space-tree",)),
)


def cells() -> list[Cell]:
    """Return cells in which each profile is met; with BTRIMG_FULL_MATRIX=1, every two values of two dimensions."""
    values = (NAMES, (*NAMES, "mixed"), BLOCKS, CSUMS, FEATURES)
    if os.environ.get("BTRIMG_FULL_MATRIX") != "1":
        return list(SAMPLE)
    chance = random.Random(6)
    pairs = {
        ((one, a), (two, b))
        for one in range(len(values))
        for two in range(one)
        for a in range(len(values[one]))
        for b in range(len(values[two]))
    }
    chosen = []
    while pairs:
        wanted = min(pairs)
        tries = [[chance.randrange(len(each)) for each in values] for _ in range(40)]
        for each in tries:
            for dimension, value in wanted:
                each[dimension] = value
        best = max(tries, key=lambda each: len(pairs & _pairs(each)))
        pairs -= _pairs(best)
        chosen.append(Cell(*(values[at][value] for at, value in enumerate(best))))  # type: ignore[arg-type]
    return chosen


def _pairs(numbers: Sequence[int]) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    return {((one, numbers[one]), (two, numbers[two])) for one in range(len(numbers)) for two in range(one)}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("cell", cells(), ids=lambda cell: cell.name)
def test_checks_find_nothing_and_the_kernel_writes_to_it(cell: Cell, tmp_path: Path) -> None:
    """Devices differ in size, and the last bytes of each are no whole sector."""
    outputs = [str(tmp_path / f"{number}.img") for number in range(1, cell.devices + 1)]
    sizes = [(160 + 40 * number) * MIB + 1000 for number in range(cell.devices)]
    options = make(outputs, sizes, seed=str(tmp_path), **cell.choices)  # of other uuids than in another run meanwhile
    assert complaints(outputs) == []
    shown = dump_super(outputs[-1])
    assert shown["generation"] == "1"
    assert shown["label"] == cell.name
    assert shown["nodesize"] == str(options.nodesize)
    assert shown["sectorsize"] == str(options.sectorsize)
    assert int(shown["incompat_flags"], 16) == options.incompat
    assert int(shown["compat_ro_flags"], 16) == options.compat_ro
    assert shown["dev_item.devid"] == str(cell.devices)
    assert shown["total_bytes"] == str(sum(size // options.sectorsize * options.sectorsize for size in sizes))
    if str(options.sectorsize) in supported_sectorsizes():
        live_through(outputs, options)
        assert complaints(outputs) == []


def dump_super(device: str, program: str = "btrfs") -> dict[str, str]:
    text = run(program, "inspect-internal", "dump-super", device)
    return dict(re.findall(r"^([\w.]+)[ \t]+(.*?)(?: \[match\])?$", text, re.MULTILINE))


def supported_sectorsizes() -> list[str]:
    with open("/sys/fs/btrfs/features/supported_sectorsizes", encoding="ascii") as file:
        return file.read().split()


def live_through(devices: Sequence[str], options: Options) -> None:
    """Have the kernel write to a filesystem, snapshot it, scrub it, and read back what it wrote."""
    chance = random.Random(1)
    files = {f"file{number}": chance.randbytes(chance.choice([0, 100, 5000, 200_001])) for number in range(30)}
    with kernel.mount(devices) as top:
        assert os.listdir(top) == []
        status = os.stat(top)
        assert (status.st_ino, status.st_mode, status.st_nlink) == (256, 0o40755, 1)
        assert status.st_mtime_ns == NOW.sec * 10**9 + NOW.nsec
        info = kernel.subvolume_info(top)
        assert (info.uuid, info.otransid, info.otime) == (options.subvolume_uuid, 1, status.st_mtime_ns)
        for name, content in files.items():
            with open(os.path.join(top, name), "xb") as file:
                file.write(content)
        kernel.create_snapshot(os.fsencode(top), os.fsencode(top) + b"/snapshot", read_only=True)
        os.unlink(os.path.join(top, "file0"))
        usage = run("btrfs", "filesystem", "usage", top)
        assert re.search(r"Multiple profiles:\s+no", usage), usage
        assert "no errors found" in run("btrfs", "scrub", "start", "-B", top)
    with kernel.mount(devices, read_only=True) as top:
        for name, content in files.items():
            with open(os.path.join(top, "snapshot", name), "rb") as file:
                assert file.read() == content


def test_the_same_options_give_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    made = []
    for directory in ("one", "other"):
        (tmp_path / directory).mkdir()
        outputs = [str(tmp_path / directory / f"{number}.img") for number in (1, 2)]
        make(outputs, [40 * MIB, 60 * MIB], data="raid0", csum="sha256")
        made.append([Path(output).read_bytes() for output in outputs])
    assert made[0] == made[1]
    assert [len(content) for content in made[0]] == [40 * MIB, 60 * MIB]


@pytest.mark.parametrize(
    ("count", "choices"),
    [
        (1, {"data": "dup", "metadata": "dup", "nodesize": 65536}),
        (1, {"mixed": True}),
        (4, {"data": "raid1c4", "metadata": "raid1c4", "nodesize": 4096}),
        (5, {"data": "raid10", "metadata": "raid6", "nodesize": 32768, "sectorsize": 32768}),
    ],
)
def test_the_smallest_devices_that_are_accepted_are_large_enough(
    count: int, choices: dict[str, Any], tmp_path: Path
) -> None:
    outputs = [str(tmp_path / f"{number}.img") for number in range(1, count + 1)]
    least = minimum_size(new_options([1 << 40] * count, seeded(b""), **choices))
    make(outputs, [least] * count, **choices)
    assert complaints_of_btrimg(outputs) == []


def test_a_small_device_beside_large_ones_has_part_in_all(tmp_path: Path) -> None:
    """A tenth of the whole, as much as the kernel gives to a chunk, would take all of the small device."""
    outputs = [str(tmp_path / f"{number}.img") for number in (1, 2, 3)]
    make(outputs, [1000 * MIB, 64 * MIB, 1000 * MIB], data="raid1c3", metadata="raid1c3")
    with open_image(outputs) as image:
        chunks = {chunk.type & 7: [stripe.devid for stripe in chunk.stripes] for chunk in image.volume.chunk_map}
    assert chunks.keys() == {BlockGroup.DATA, BlockGroup.METADATA, BlockGroup.SYSTEM}
    assert all(sorted(devids) == [1, 2, 3] for devids in chunks.values())
    assert complaints_of_btrimg(outputs) == []


def test_the_first_chunk_of_data_is_as_large_as_the_kernel_makes_it(tmp_path: Path) -> None:
    """A tenth of the whole; beside a smaller one, what the kernel makes next leaves a full balance no room."""
    outputs = [str(tmp_path / f"{number}.img") for number in range(5)]
    make(outputs, [2048 * MIB] * 5, data="raid1c4", metadata="raid1c3", nodesize=65536)
    with open_image(outputs) as image:
        lengths = {chunk.type & 7: chunk.length for chunk in image.volume.chunk_map}
    assert lengths[BlockGroup.DATA] == 1024 * MIB
    assert lengths[BlockGroup.METADATA] == 256 * MIB


def test_devices_must_be_those_of_the_options(tmp_path: Path) -> None:
    uuids = seeded(b"")
    options = new_options([64 * MIB] * 2, uuids)
    output = str(tmp_path / "1.img")
    with fresh_devices([output], [63 * MIB]) as fresh:
        with pytest.raises(OptionError, match=r"1\.img\.partial has 66060288 bytes, which are less than 67108864"):
            make_filesystem(options, fresh.devices, fresh.sink, now=NOW, uuids=uuids, warn=_never)
        fresh.resize(1, 64 * MIB)
        with pytest.raises(OptionError, match="device 2 is missing"):
            make_filesystem(options, fresh.devices, fresh.sink, now=NOW, uuids=uuids, warn=_never)


# Beside mkfs.btrfs


class Beside(NamedTuple):
    """One filesystem that both make."""

    devices: int
    words: Sequence[str]  # of mkfs.btrfs
    choices: dict[str, Any]  # the same, of ours


BESIDE = {
    "usual": Beside(1, [], {}),
    "label": Beside(
        2,
        ["-L", "a label", "-n", "32K", "--csum", "sha256"],
        {"label": b"a label", "nodesize": 32768, "csum": "sha256"},
    ),
    "mixed": Beside(1, ["--mixed"], {"mixed": True}),
    "parity": Beside(
        4,
        ["-d", "raid5", "-m", "raid1c3", "--csum", "xxhash"],
        {"data": "raid5", "metadata": "raid1c3", "csum": "xxhash"},
    ),
    "old": Beside(
        2,
        ["-d", "raid0", "-m", "dup", "-O", "^no-holes,^skinny-metadata,^extref"],
        {"data": "raid0", "metadata": "dup", "features": ["^no-holes", "^skinny-metadata", "^extref"]},
    ),
}
# Of the superblock: where trees and chunks lie, and how many commits there were; mkfs.btrfs makes several.
_PLACES = {"csum", "root", "chunk_root", "bytes_used", "sys_chunk_array", "sys_chunk_array_size", "super_roots"}
_COMMITS = {"generation", "chunk_root_generation"}
_APART = {"dev_item", "uuid_tree_generation", "incompat_flags"}


@pytest.mark.progs
@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("program", programs("mkfs.btrfs"), ids=["path", "further"][: len(programs(""))])
def test_it_is_what_mkfs_makes(program: str, name: str, tmp_path: Path) -> None:
    count, words, choices = BESIDE[name]
    theirs = [str(tmp_path / f"theirs{number}.img") for number in range(1, count + 1)]
    for path in theirs:
        with open(path, "xb") as file:
            file.truncate(300 * MIB)
    run(program, "--quiet", "--nodiscard", *words, *theirs)
    with open_image(theirs) as image:
        known, expected = superblocks(image), facts(image)
        given = {"fsid": known[1].fsid, "device_uuids": [known[devid].dev_item.uuid for devid in sorted(known)]}
        if not known[1].compat_ro_flags & CompatRo.BLOCK_GROUP_TREE:  # not usual before 6.19
            given["features"] = [*choices.get("features", []), "^block-group-tree"]
    ours = [str(tmp_path / f"ours{number}.img") for number in range(1, count + 1)]
    make(ours, [300 * MIB] * count, **choices | given)
    with open_image(ours) as image:
        made, found = superblocks(image), facts(image)
    for devid, superblock in made.items():
        different = {
            field for field in known[devid].names() if getattr(known[devid], field) != getattr(superblock, field)
        }
        assert different <= _PLACES | _COMMITS | _APART
        assert superblock.dev_item.replace(bytes_used=0) == known[devid].dev_item.replace(bytes_used=0)
        # mkfs.btrfs says 0, so that the first mount looks for what the tree lacks
        assert superblock.uuid_tree_generation == superblock.generation
        # older ones do not set it; the kernel does
        assert superblock.incompat_flags & ~known[devid].incompat_flags in (0, Incompat.BIG_METADATA)
        assert not known[devid].incompat_flags & ~superblock.incompat_flags
    if version_of(program) < (6, 19):
        found, expected = without_what_is_newer(found), without_what_is_newer(expected)
    assert (found - expected, expected - found) == (Counter(), Counter())


def version_of(program: str) -> tuple[int, ...]:
    found = re.search(r"v(\d+(?:\.\d+)+)", run(program, "--version"))
    assert found
    return tuple(map(int, found[1].split(".")))


def without_what_is_newer(found: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """Leave out what mkfs.btrfs 6.2 does otherwise.

    It makes no device statistics, leaves heads of free space of block groups that it removed, does not say in root
    items that their flags mean something, and gives no size to the directory for relocation.
    """
    kinds = ItemType.PERSISTENT_ITEM, ItemType.FREE_SPACE_INFO, ItemType.ROOT_ITEM
    return Counter(
        {
            fact: count
            for fact, count in found.items()
            if fact[1] not in kinds and (fact[0], fact[1]) != (TreeId.DATA_RELOC_TREE, ItemType.INODE_ITEM)
        }
    )


def superblocks(image: Image) -> dict[int, Superblock]:
    found = [(copy, read_copies(device)[0].superblock) for copy, device in image.volume.devices.items()]
    return {devid: superblock for devid, superblock in found if superblock}


def facts(image: Image) -> Counter[tuple[Any, ...]]:
    """Return (tree, type, …) of all items, without addresses, transids, times and the uuid of the subvolume."""
    roots = [key.objectid for key, _ in image.root_tree.items() if key.type == ItemType.ROOT_ITEM]
    return Counter(
        (tree_id, key.type, *_fact(key, parse(key.type, payload).records))
        for tree_id in (TreeId.ROOT_TREE, TreeId.CHUNK_TREE, *roots)
        for key, payload in image.tree(tree_id).items()
        if key.type != ItemType.FREE_SPACE_EXTENT
    )


def _fact(key: Key, records: Sequence[Any]) -> tuple[Any, ...]:
    match key.type:
        case ItemType.FREE_SPACE_INFO | ItemType.UUID_KEY_SUBVOL:
            return ()
        case ItemType.DEV_EXTENT:
            return (records[0].chunk_objectid,)
        case ItemType.CHUNK_ITEM:
            (chunk,) = records
            # mkfs.btrfs keeps its first chunk, in which this is 0, where the profile is single
            return chunk.type, chunk.num_stripes, max(chunk.sub_stripes, 1), chunk.owner, chunk.sector_size
        case ItemType.BLOCK_GROUP_ITEM:
            return records[0].flags, records[0].chunk_objectid
        case ItemType.METADATA_ITEM | ItemType.EXTENT_ITEM:
            return records[0].refs, records[0].flags, records[-1]
        case ItemType.ROOT_ITEM:
            return key, records[0].inode.flags, records[0].refs, records[0].root_dirid, records[0].bytes_used
        case ItemType.INODE_ITEM:
            never = Timespec(0, 0)
            times = dict.fromkeys(("atime", "ctime", "mtime", "otime"), never)
            return key, records[0].replace(generation=0, transid=0, **times)
        case ItemType.DEV_ITEM:
            return key, records[0].replace(bytes_used=0)
        case ItemType.DIR_ITEM:
            return key, records[0].replace(transid=0)
    return key, *records

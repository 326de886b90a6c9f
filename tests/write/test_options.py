"""What a new filesystem can be: defaults, and what is refused with which words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import OptionError
from btrimg.ondisk.constants import BlockGroup, CompatRo, CsumType, Incompat
from btrimg.units import MIB
from btrimg.volume.profiles import PROFILES
from btrimg.write.features import FEATURES, wanted
from btrimg.write.options import CSUMS, PROFILE_BITS, NewDevice, Options, minimum_size, new_options, refuse
from btrimg.write.uuids import seeded

SIZES = (4096, 8192, 16384, 32768, 65536)
GIB = 1 << 30


def options(count: int = 1, **choices: object) -> Options:
    return new_options([GIB] * count, seeded(b"test"), **choices)  # type: ignore[arg-type]


def test_defaults_are_those_of_mkfs() -> None:
    one, two = options(), options(2)
    assert (one.data, one.metadata, one.system) == (0, BlockGroup.DUP, BlockGroup.DUP)
    assert (two.data, two.metadata, two.system) == (0, BlockGroup.RAID1, BlockGroup.RAID1)
    assert (one.nodesize, one.sectorsize, one.csum, one.label) == (16384, 4096, CsumType.CRC32C, b"")
    assert one.incompat == 0x361, "as dump-super of mkfs.btrfs 6.19 says"
    assert one.compat_ro == 0xB
    assert not one.mixed
    assert one.free_space_tree
    assert one.block_group_tree


def test_mixed_block_groups_are_single_with_nodes_of_one_sector() -> None:
    mixed = options(2, mixed=True)
    assert (mixed.data, mixed.metadata, mixed.nodesize, mixed.sectorsize) == (0, 0, 4096, 4096)
    assert mixed.incompat & Incompat.MIXED_GROUPS
    assert not mixed.incompat & Incompat.BIG_METADATA
    assert options(2, features=["mixed-bg"]) == mixed
    raid = options(3, mixed=True, data="raid1")
    assert (raid.data, raid.metadata, raid.system) == (BlockGroup.RAID1,) * 3


@pytest.mark.parametrize(
    ("profile", "bit"),
    [("raid5", Incompat.RAID56), ("raid6", Incompat.RAID56), ("raid1c3", Incompat.RAID1C34), ("raid10", 0)],
)
def test_a_profile_sets_the_bit_that_it_needs(profile: str, bit: int) -> None:
    profiles = Incompat.RAID56 | Incompat.RAID1C34
    assert options(4, data=profile).incompat & profiles == bit
    assert options(4, metadata=profile).incompat & profiles == bit


def test_devices_have_devids_and_uuids_of_their_own_that_stay_when_one_is_added() -> None:
    two, three = options(2, metadata="raid1"), options(3, metadata="raid1")
    assert [device.devid for device in three.devices] == [1, 2, 3]
    assert len({device.uuid for device in three.devices} | {three.fsid}) == 4
    assert three.devices[:2] == two.devices
    assert three[1:] == two[1:]
    given_uuid = bytes(range(16))
    known = options(2, fsid=given_uuid, device_uuids=[None, bytes(reversed(given_uuid))])
    assert known.fsid == given_uuid
    assert known.devices[1].uuid == bytes(reversed(given_uuid))
    assert new_options([GIB + 4097], seeded(b"")).devices[0].size == GIB + 4096, "whole sectors only"


def test_features_are_added_and_taken_away() -> None:
    usual = {"extref", "skinny-metadata", "no-holes", "free-space-tree", "block-group-tree"}
    assert wanted([]) == usual
    assert wanted(["^fst"]) == usual - {"free-space-tree", "block-group-tree"}, "as mkfs.btrfs: bgt goes with fst"
    assert wanted(["^bgt", "raid56"]) == usual - {"block-group-tree"} | {"raid56"}
    assert options(features=["^free-space-tree"]).compat_ro == 0
    assert options(features=["^skinny-metadata", "^extref"]).incompat == 0x221
    assert options(features=["^bgt"]).compat_ro == CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID


SMALL = 8 * MIB
REFUSED = [
    ({"nodesize": 2048}, "a node size of 2048 cannot be: take 4K"),
    ({"nodesize": 131072}, "a node size of 131072 cannot be"),
    ({"nodesize": 12288}, "a node size of 12288 cannot be"),
    ({"sectorsize": 2048}, "a sector size of 2048 cannot be"),
    ({"sectorsize": 0}, "a sector size of 0 cannot be"),
    ({"sectorsize": 16384, "nodesize": 8192}, "the node size 8192 is below the sector size 16384"),
    ({"mixed": True, "nodesize": 16384}, "mixed block groups need a node size equal to the sector size"),
    ({"mixed": True, "data": "dup", "metadata": "single"}, "mixed block groups have one profile"),
    ({"data": "raid1"}, "raid1 for data needs 2 devices, not 1"),
    ({"metadata": "raid6", "count": 2}, "raid6 for metadata needs 3 devices, not 2"),
    ({"metadata": "raid1c4", "count": 3}, "raid1c4 for metadata needs 4 devices, not 3"),
    ({"data": "raid7"}, "no profile is called 'raid7': there are single, dup"),
    ({"csum": "md5"}, "no checksum is called 'md5': take crc32c"),
    ({"features": ["block-group-tree", "^fst"]}, "block-group-tree needs free-space-tree: add that"),
    ({"features": ["bgt", "^no-holes"]}, "block-group-tree needs no-holes"),
    ({"features": ["fst", "^free-space-tree"]}, "free-space-tree is both asked for and taken away"),
    ({"features": ["quota"]}, "btrimg does not make filesystems with quota"),
    ({"features": ["^zoned"]}, "btrimg does not make filesystems with zoned"),
    ({"features": ["holes"]}, "no feature is called 'holes': there are mixed-bg"),
    ({"label": b"x" * 256}, "a label of 256 bytes is too long: take at most 255"),
    ({"label": b"a\nb"}, "holds a newline or a NUL"),
    ({"label": b"a\0b"}, "holds a newline or a NUL"),
    ({"fsid": bytes(16)}, "the uuid of the filesystem is 0000"),
    ({"fsid": b"short"}, "it must have 16 bytes"),
    ({"device_uuids": [b"u" * 16] * 2, "count": 2}, "device 1 and device 2 have the uuid"),
    ({"device_uuids": [b"u" * 16], "fsid": b"u" * 16}, "the filesystem and device 1 have the uuid"),
    ({"device_uuids": [None, None]}, "there are 2 uuids for 1 devices"),
    ({"count": 0}, "a filesystem needs a device"),
]


@pytest.mark.parametrize(("choices", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_cannot_be_is_refused(choices: dict[str, object], sentence: str) -> None:
    with pytest.raises(OptionError, match=re.escape(sentence)):
        options(**choices)  # type: ignore[arg-type]


def test_sizes_of_devices_have_bounds() -> None:
    least = minimum_size(options())
    assert new_options([least], seeded(b"")).devices[0].size == least
    with pytest.raises(OptionError, match=f"device 2 of {least - 4096} bytes is too small.*take at least {least}"):
        new_options([least, least - 4096], seeded(b""), metadata="dup")
    with pytest.raises(OptionError, match="is too large"):
        new_options([1 << 63], seeded(b""))


def test_an_options_value_made_by_hand_is_judged_too() -> None:
    sound = options(2)
    refuse(sound)
    swapped = sound._replace(devices=tuple(reversed(sound.devices)))
    with pytest.raises(OptionError, match="the devids 2, 1 do not rise"):
        refuse(swapped)
    with pytest.raises(OptionError, match="a devid of 0 cannot be"):
        refuse(sound._replace(devices=(NewDevice(0, GIB, b"u" * 16),), metadata=0, system=0))
    with pytest.raises(OptionError, match="the data profile 0x18 is not one profile"):
        refuse(sound._replace(data=int(BlockGroup.RAID0 | BlockGroup.RAID1)))
    with pytest.raises(OptionError, match="no multiple of 4096"):
        refuse(sound._replace(devices=(NewDevice(1, GIB + 1, b"u" * 16),), metadata=0, system=0))


@given(
    count=st.integers(0, 6),
    data=st.sampled_from(sorted(PROFILE_BITS)),
    metadata=st.sampled_from(sorted(PROFILE_BITS)),
    mixed=st.booleans(),
    csum=st.sampled_from(sorted(CSUMS)),
    nodesize=st.sampled_from(SIZES),
    sectorsize=st.sampled_from(SIZES),
    features=st.lists(
        st.tuples(st.sampled_from(["", "^"]), st.sampled_from([feature.name for feature in FEATURES])).map("".join),
        max_size=4,
    ),
    label=st.binary(max_size=300),
)
def test_whatever_is_accepted_the_kernel_would_accept(
    count: int,
    data: str,
    metadata: str,
    mixed: bool,
    csum: str,
    nodesize: int,
    sectorsize: int,
    features: list[str],
    label: bytes,
) -> None:
    """What passes keeps the kernel's own rules, written here once more (btrfs_validate_super, btrfs_check_features)."""
    try:
        made = options(
            count,
            data=data,
            metadata=metadata,
            mixed=mixed,
            csum=csum,
            nodesize=nodesize,
            sectorsize=sectorsize,
            features=features,
            label=label,
        )
    except OptionError:
        return
    assert made.sectorsize <= made.nodesize
    if made.incompat & Incompat.MIXED_GROUPS:
        assert made.nodesize == made.sectorsize
        assert made.data == made.metadata
    if made.compat_ro & CompatRo.BLOCK_GROUP_TREE:
        assert made.compat_ro & CompatRo.FREE_SPACE_TREE_VALID
        assert made.incompat & Incompat.NO_HOLES
    assert len(made.label) <= 255
    for bits in (made.data, made.metadata, made.system):
        assert len(made.devices) >= (1 if bits == BlockGroup.DUP else PROFILES[bits].min_stripes)
        assert bits & (BlockGroup.RAID5 | BlockGroup.RAID6) == 0 or made.incompat & Incompat.RAID56
        assert bits & (BlockGroup.RAID1C3 | BlockGroup.RAID1C4) == 0 or made.incompat & Incompat.RAID1C34


def test_seeded_uuids_are_repeatable_random_and_of_version_4() -> None:
    first, again, other = seeded(b"seed"), seeded(b"seed"), seeded(b"seed2")
    run = [first() for _ in range(100)]
    assert run == [again() for _ in range(100)]
    assert len({*run, *(other() for _ in range(100))}) == 200
    assert all(uuid[6] >> 4 == 4 and uuid[8] >> 6 == 2 for uuid in run)
    assert seeded(b"")().hex() == "5ff3601e489746e6be5fdb9e5f3cfbac", "on every machine"

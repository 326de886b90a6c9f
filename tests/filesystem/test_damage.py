"""What redundancy can bring back is brought back: missing, lying and outdated devices of kernel-written filesystems."""

from __future__ import annotations

import errno
import os
import random
from itertools import combinations, permutations
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support import kernel
from support.images import copy_sparse
from support.populate import Filler
from support.truth import record

from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, BlockGroup
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from support.images import KernelImage
    from support.truth import Truth

    from btrimg.filesystem.image import Image

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

FULL = os.environ.get("BTRIMG_FULL_MATRIX") == "1"
TOLERATED = {"raid1": 1, "raid1c3": 2, "raid1c4": 3, "raid10": 1, "raid5": 1, "raid6": 2}
NOISE = random.Random("damage").randbytes(MIB)
SUPERBLOCKS = SUPERBLOCK_OFFSETS[:2]  # those that lie within the images


class Reading(NamedTuple):
    """What came of reading every file of an image."""

    wrong: list[bytes]  #: paths of files whose bytes are not the truth
    failed: list[bytes]  #: paths of files that could not be read
    warnings: list[str]


def read_all(paths: Sequence[str], truth: Truth, *, only_checksummed: bool = False) -> Reading:
    """Read every file of *truth* in which there is anything; raise what keeps the image from being opened."""
    reading = Reading([], [], [])
    with open_image(paths, warn=reading.warnings.append) as image:
        for path, entry in truth.entries.items():
            if not entry.content:
                continue
            try:
                inode = image.open(path, follow=False)
                if only_checksummed and not inode.checksummed:
                    continue
                content = inode.read(0, len(entry.content) + 1)
            except BtrimgError:
                reading.failed.append(path)
            else:
                if content != entry.content:
                    reading.wrong.append(path)
    return reading


def some(cases: Iterable[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    """Return *count* of the cases, evenly spread; all of them with BTRIMG_FULL_MATRIX=1."""
    found = list(cases)
    return found if FULL or len(found) <= count else [found[len(found) * i // count] for i in range(count)]


def without(paths: Sequence[str], lost: Collection[int]) -> list[str]:
    """Return *paths* without those of the devids *lost*."""
    return [path for devid, path in enumerate(paths, 1) if devid not in lost]


def survivable(image: Image, count: int) -> list[tuple[int, ...]]:
    """Return the sets of *count* devids of a RAID10 that leave one of each mirrored pair of every chunk."""
    devids = [stripe.devid for stripe in next(iter(image.volume.chunk_map)).stripes]
    pairs = [
        {first.devid, second.devid}
        for chunk in image.volume.chunk_map
        for first, second in zip(chunk.stripes[::2], chunk.stripes[1::2], strict=True)
    ]
    return [lost for lost in combinations(sorted(devids), count) if not any(pair <= set(lost) for pair in pairs)]


def overwrite(path: str, start: int, length: int) -> None:
    """Write noise over [start, start + length) of a device."""
    with open(path, "r+b") as file:
        file.seek(start)
        for at in range(0, length, MIB):
            file.write(NOISE[: min(MIB, length - at)])


def garble(path: str, *, superblocks: bool = False) -> None:
    """Write noise over all that was ever written to a device, but over its superblocks only with *superblocks*."""
    kept: dict[int, bytes] = {}
    with open(path, "r+b", buffering=0) as device:
        for offset in () if superblocks else SUPERBLOCKS:
            kept[offset] = os.pread(device.fileno(), SUPERBLOCK_SIZE, offset)
        end = 0
        while (start := _next_data(device.fileno(), end)) is not None:
            end = os.lseek(device.fileno(), start, os.SEEK_HOLE)
            overwrite(path, start, end - start)
        for offset, superblock in kept.items():
            os.pwrite(device.fileno(), superblock, offset)


def _next_data(fd: int, offset: int) -> int | None:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


@pytest.mark.parametrize("profile", TOLERATED)
def test_files_are_whole_with_any_tolerated_devices_missing(
    profile: str, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile=profile)
    devids = range(1, len(whole.devices) + 1)
    fewer = [lost for count in range(1, TOLERATED[profile]) for lost in combinations(devids, count)]
    for lost in [*some(fewer, 1), *some(combinations(devids, TOLERATED[profile]), 4)]:
        reading = read_all(without(whole.devices, lost), whole.truth)
        assert (reading.wrong, reading.failed) == ([], []), lost
        assert len([text for text in reading.warnings if "is missing;" in text]) == len(lost)


def test_files_of_raid10_are_whole_with_one_of_each_pair_left(kernel_image: Callable[..., KernelImage]) -> None:
    whole = kernel_image(profile="raid10")
    with open_image(whole.devices) as image:
        cases = [lost for count in (3, 2) for lost in survivable(image, count)]
    assert any(len(lost) > 1 for lost in cases)
    for lost in some(cases, 4):
        reading = read_all(without(whole.devices, lost), whole.truth)
        assert (reading.wrong, reading.failed) == ([], []), lost


@pytest.mark.parametrize("profile", TOLERATED)
def test_with_a_device_too_many_missing_files_are_whole_or_refused(
    profile: str, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile=profile)
    devids = range(1, len(whole.devices) + 1)
    for lost in some(combinations(devids, TOLERATED[profile] + 1), 2):
        try:
            reading = read_all(without(whole.devices, lost), whole.truth)
        except BtrimgError as error:
            assert "missing" in str(error)  # noqa: PT017 (it need not be raised)
        else:
            assert not reading.wrong, lost


@pytest.mark.parametrize("superblocks", [False, True], ids=["data", "superblocks-too"])
@pytest.mark.parametrize("profile", TOLERATED)
def test_files_are_whole_with_a_device_of_garbage(
    profile: str, superblocks: bool, tmp_path: Path, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile=profile)
    noticed = 0
    for (devid,) in some(combinations(range(1, len(whole.devices) + 1), 1), 3):
        paths = whole.copy(str(tmp_path / str(devid)))
        garble(paths[devid - 1], superblocks=superblocks)
        reading = read_all(paths, whole.truth, only_checksummed=not superblocks)
        assert (reading.wrong, reading.failed) == ([], []), devid
        named = any(f"superblock in {paths[devid - 1]}" in text for text in reading.warnings)
        assert named == superblocks
        noticed += any("copy" in text and "good" in text for text in reading.warnings) or named
    assert noticed > 1  # RAID1 may leave a device empty, or have second copies there only


@pytest.mark.parametrize("profile", [profile for profile, count in TOLERATED.items() if count > 1])
def test_files_are_whole_with_as_many_liars_as_devices_may_be_missing(
    profile: str, tmp_path: Path, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile=profile)
    for liars in some(combinations(range(1, len(whole.devices) + 1), TOLERATED[profile]), 2):
        paths = whole.copy(str(tmp_path / "-".join(map(str, liars))))
        for devid in liars:
            garble(paths[devid - 1])
        reading = read_all(paths, whole.truth, only_checksummed=True)
        assert (reading.wrong, reading.failed) == ([], []), liars


def test_a_raid6_copes_with_one_liar_beside_a_missing_device(
    tmp_path: Path, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile="raid6")
    for liar, lost in some(permutations(range(1, 6), 2), 2):
        paths = whole.copy(str(tmp_path / f"{liar}-{lost}"))
        garble(paths[liar - 1])
        reading = read_all(without(paths, (lost,)), whole.truth, only_checksummed=True)
        assert (reading.wrong, reading.failed) == ([], []), (liar, lost)


@pytest.mark.parametrize("copy", [0, 1])
def test_files_of_dup_are_whole_with_one_copy_of_everything_overwritten(
    copy: int, tmp_path: Path, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile="dup")
    paths = whole.copy(str(tmp_path))
    with open_image(whole.devices) as image:
        chunks = list(image.volume.chunk_map)
    assert {chunk.type & BlockGroup.METADATA for chunk in chunks} == {0, BlockGroup.METADATA}
    for chunk in chunks:
        overwrite(paths[0], chunk.stripes[copy].offset, chunk.length)
    reading = read_all(paths, whole.truth, only_checksummed=True)
    assert (reading.wrong, reading.failed) == ([], [])
    assert any("another copy is good" in text for text in reading.warnings) == (copy == 0)


@pytest.mark.parametrize(("profile", "stale"), [("raid1", (2,)), ("raid1c3", (1, 3))])
def test_a_device_that_missed_writes_never_wins(
    profile: str, stale: tuple[int, ...], tmp_path: Path, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile=profile)
    paths = whole.copy(str(tmp_path / "now"))
    with kernel.mount(paths) as top:
        rewrite(top)
    with kernel.mount(paths, read_only=True) as top:
        truth = record(top)
    mixed = [
        before if devid in stale else now
        for devid, (before, now) in enumerate(zip(whole.devices, paths, strict=True), 1)
    ]
    for order in (mixed, mixed[::-1], [*mixed[1:], mixed[0]]):
        reading = read_all(order, truth)  # also files without checksums, which cannot tell
        assert (reading.wrong, reading.failed) == ([], [])
        for devid in stale:
            assert any(whole.devices[devid - 1] in text for text in reading.warnings)


def rewrite(top: str) -> None:
    """Change files in place and otherwise, and add some, in a few transactions."""
    fill = Filler(top)
    for number in range(3):
        fill.write(b"plain/big", fill.noise(300_000), number * 400_000)
        fill.write(b"nocow/file-2", fill.noise(50_000), number * 60_000)
        fill.write(b"nodatasum/file-1", fill.noise(90_000))
        fill.write(b"later/%d" % number, fill.text(200_000))
        os.unlink(fill.path(b"thousand/entry-%04d" % number))
        fill.sync()


@pytest.mark.parametrize("profile", ["single", "raid1"])
def test_a_mirror_stands_in_for_the_primary_superblock(
    profile: str, tmp_path: Path, kernel_image: Callable[..., KernelImage]
) -> None:
    whole = kernel_image(profile=profile)
    paths = copy_sparse(whole.devices, str(tmp_path))
    for path in paths:
        overwrite(path, SUPERBLOCKS[0], SUPERBLOCK_SIZE)
    reading = read_all(paths, whole.truth)
    assert (reading.wrong, reading.failed) == ([], [])
    for path in paths:
        assert any(path in text and "mirror 1 is used" in text for text in reading.warnings)

"""What is written stands on every copy, and every lost device can be rebuilt from the others."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import kernel
from support.synthetic import MIB, SIZE, Spec, chunk, make_device, superblock

from btrimg.errors import CorruptError, DeviceError
from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, BlockGroup, CsumType, SuperFlag
from btrimg.volume.device import Device, SharedDevice
from btrimg.volume.parity import compute_p, compute_q
from btrimg.volume.sink import DeviceSink
from btrimg.volume.superblocks import read_copies
from btrimg.volume.volume import Volume, open_volume
from btrimg.volume.writer import VolumeWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support import images
    from typing_extensions import Buffer

    from btrimg.ondisk.chunks import Chunk

LOGICAL = 8 * MIB
#: Profile, stripes: more than the minimum, so that there is more than one column; two-column RAID5 and RAID6 as well.
ARRAYS = [
    (0, 1),
    (BlockGroup.DUP, 2),
    (BlockGroup.RAID0, 3),
    (BlockGroup.RAID1, 2),
    (BlockGroup.RAID1C3, 3),
    (BlockGroup.RAID1C4, 4),
    (BlockGroup.RAID10, 6),
    (BlockGroup.RAID5, 4),
    (BlockGroup.RAID6, 5),
    (BlockGroup.RAID5, 2),
    (BlockGroup.RAID6, 3),
]
each_array = pytest.mark.parametrize(
    ("profile", "width"), ARRAYS, ids=[f"{BlockGroup(profile).name or 'single'}-{width}" for profile, width in ARRAYS]
)


def opened(paths: Sequence[str]) -> Volume:
    return open_volume(paths, warn=lambda _: None)


def array(directory: Path, profile: int, width: int) -> tuple[list[str], dict[int, Chunk]]:
    """Make devices for two chunks side by side in the logical space, the first of which ends within a row."""
    devids = (1, 1) if profile == BlockGroup.DUP else range(1, width + 1)
    first = chunk(profile, width, 5 * 3 * STRIPE_LEN + 3 * 4096, devids=devids)
    second = chunk(0, 1, MIB, devids=[max(devids)])
    second = second.replace(stripes=(second.stripes[0].replace(offset=60 * MIB),))
    chunks = {LOGICAL: first, LOGICAL + first.length: second}
    return [make_device(directory, Spec(f"dev{devid}", devid), chunks) for devid in sorted(set(devids))], chunks


@each_array
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_copy_and_the_parity_of_random_writes(
    tmp_path: Path, profile: int, width: int, data: st.DataObject
) -> None:
    paths, chunks = array(tmp_path, profile, width)
    total = sum(each.length for each in chunks.values())
    model = bytearray(random.Random(width).randbytes(total))
    starts = st.one_of(st.integers(0, total - 1), st.integers(0, total // 4096 - 1).map(lambda block: block * 4096))
    lengths = st.one_of(st.integers(1, 20000), st.integers(1, total))
    with opened(paths) as volume, DeviceSink(volume.devices) as sink:
        writer = VolumeWriter(volume, sink)
        writer.write(LOGICAL, model)
        for seed, (start, length) in enumerate(data.draw(st.lists(st.tuples(starts, lengths), min_size=1, max_size=4))):
            content = random.Random(seed).randbytes(min(length, total - start))
            model[start : start + len(content)] = content
            writer.write(LOGICAL + start, content)
            check_copies(volume, bytes(model))
            check_parity(volume)
    tolerated = {BlockGroup.RAID5: 1, BlockGroup.RAID6: 2}.get(BlockGroup(profile), 0)
    first = chunks[LOGICAL].length
    for lost in combinations(paths, tolerated):
        with opened([path for path in paths if path not in lost]) as volume:
            assert volume.read(LOGICAL, first) == model[:first], lost


def check_copies(volume: Volume, model: bytes) -> None:
    logical = LOGICAL
    while logical < LOGICAL + len(model):
        mapping = volume.chunk_map.locate(logical)
        expected = model[logical - LOGICAL : logical - LOGICAL + mapping.length]
        for devid, physical in mapping.copies:
            assert volume.devices[devid].pread(len(expected), physical) == expected, (devid, physical)
        logical += mapping.length


def check_parity(volume: Volume) -> None:
    mapped = volume.chunk_map.find(LOGICAL)
    if mapped.profile.parity:
        for logical in range(mapped.logical, mapped.end, mapped.columns * STRIPE_LEN):
            row = [volume.devices[devid].pread(STRIPE_LEN, physical) for devid, physical in mapped.row(logical).places]
            data, parity = row[: mapped.columns], row[mapped.columns :]
            assert parity == [compute_p(data), compute_q(data)][: mapped.profile.parity], logical


def test_threads_that_write_to_one_row_keep_its_parity_right(tmp_path: Path) -> None:
    paths, _ = array(tmp_path, BlockGroup.RAID6, 5)
    content = random.Random(0).randbytes(3 * STRIPE_LEN)
    with opened(paths) as volume, DeviceSink(volume.devices) as sink, ThreadPoolExecutor(8) as pool:
        writer = VolumeWriter(volume, sink)
        starts = random.Random(1).sample(range(0, len(content), 512), len(content) // 512)
        list(pool.map(lambda at: writer.write(LOGICAL + at, content[at : at + 512]), starts))
        assert volume.read(LOGICAL, len(content)) == content
        check_parity(volume)


# Superblocks


def test_superblocks_stand_at_every_place_that_the_filesystem_has_on_the_device(tmp_path: Path) -> None:
    chunks = {LOGICAL: chunk(0, 1, MIB)}
    path = make_device(tmp_path, Spec("dev1", 1), chunks)
    end = SUPERBLOCK_OFFSETS[1] + SUPERBLOCK_SIZE
    with opened([path]) as volume:
        recorded = Recorded([])
        writer = VolumeWriter(volume, recorded)
        block = superblock(Spec("dev1", 1, generation=11), chunks, csum_type=CsumType.SHA256)
        for total, mirrors in ((SIZE, [1, 0]), (end, [1, 0]), (end - 1, [0])):
            recorded.writes.clear()
            writer.write_superblock(1, block.replace(dev_item=block.dev_item.replace(total_bytes=total)))
            assert [physical for _, physical, _ in recorded.writes] == [SUPERBLOCK_OFFSETS[n] for n in mirrors]
        with DeviceSink(volume.devices) as sink:
            VolumeWriter(volume, sink).write_superblock(1, block)
        copies = read_copies(volume.devices[1])
    assert [(copy.mirror, copy.fault) for copy in copies] == [(0, None), (1, None)]
    assert [copy.superblock and copy.superblock.generation for copy in copies] == [11, 11]


class Recorded(NamedTuple):
    """A sink that only remembers."""

    writes: list[tuple[int, int, bytes]]

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        self.writes.append((devid, physical, bytes(data)))

    def sync(self) -> None:
        raise AssertionError("nobody asked for it")


# What is refused


@pytest.mark.parametrize(("profile", "width"), ARRAYS[2:9])
def test_nothing_is_written_where_a_device_is_missing(tmp_path: Path, profile: int, width: int) -> None:
    paths, _ = array(tmp_path, profile, width)
    with opened(paths[:-1]) as volume:
        recorded = Recorded([])
        writer = VolumeWriter(volume, recorded)
        with pytest.raises(DeviceError, match=f"device {width} is missing"):
            writer.write(LOGICAL, b"x")
        with pytest.raises(DeviceError, match=f"device {width} is missing"):
            writer.write_superblock(width, volume.superblock)
    assert recorded.writes == []


def test_a_seed_is_never_written_to(tmp_path: Path) -> None:
    chunks = {LOGICAL: chunk(0, 1, MIB)}
    path = make_device(tmp_path, Spec("dev1", 1, flags=1 | SuperFlag.SEEDING), chunks)
    with opened([path]) as volume, pytest.raises(DeviceError, match="device 1 is a seed"):
        VolumeWriter(volume, Recorded([])).write(LOGICAL, b"x")


def test_what_lies_in_no_chunk_is_refused_and_what_lies_before_is_written(tmp_path: Path) -> None:
    chunks = {LOGICAL: chunk(0, 1, MIB)}
    path = make_device(tmp_path, Spec("dev1", 1), chunks)
    with opened([path]) as volume:
        recorded = Recorded([])
        with pytest.raises(CorruptError, match=f"{LOGICAL + MIB} lies in no chunk"):
            VolumeWriter(volume, recorded).write(LOGICAL + MIB - 2, b"abc")
    assert recorded.writes == [(1, 2 * MIB - 2, b"ab")]


def test_a_row_of_which_a_column_cannot_be_read_stays_as_it_was(tmp_path: Path) -> None:
    paths, _ = array(tmp_path, BlockGroup.RAID5, 4)
    with opened(paths) as volume:
        os.truncate(paths[1], MIB)  # while it is open
        recorded = Recorded([])
        with pytest.raises(DeviceError, match="was cut while open"):
            VolumeWriter(volume, recorded).write(LOGICAL, b"x")
    assert recorded.writes == []


# Sinks


def test_a_sink_writes_within_the_device(tmp_path: Path) -> None:
    path = make_device(tmp_path, Spec("dev1", 1), {})
    with Device(path) as device, DeviceSink({1: device}) as sink:
        sink.pwrite(1, SIZE - 3, memoryview(b"end"))
        for physical in (SIZE - 2, -1):
            with pytest.raises(DeviceError, match=f"ends at {SIZE}: no 3 bytes at {physical}"):
                sink.pwrite(1, physical, b"end")
        sink.sync()
        assert device.pread(4, SIZE - 4) == b"\0end"


def test_a_file_is_shared_or_written(tmp_path: Path) -> None:
    path = make_device(tmp_path, Spec("dev1", 1), {})
    with Device(path) as device:
        with SharedDevice(path), SharedDevice(path), pytest.raises(DeviceError, match="or mounted by btrimg mount"):
            DeviceSink({1: device})
        with DeviceSink({1: device}), pytest.raises(DeviceError, match=f"{path} is being written by another program"):
            SharedDevice(path)
        SharedDevice(path).close()


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = make_device(tmp_path, Spec("dev1", 1), {})
    with Device(path) as device:
        with DeviceSink({1: device}), pytest.raises(DeviceError, match=f"{path} is being written by another program"):
            DeviceSink({1: device})
        DeviceSink({1: device}).close()
        os.replace(make_device(tmp_path, Spec("other", 1), {}), path)
        with pytest.raises(DeviceError, match=f"{path} was replaced by another file"):
            DeviceSink({1: device})
        os.unlink(path)
        with pytest.raises(DeviceError, match=f"cannot write {path}: No such file"):
            DeviceSink({1: device})
    assert not [name for name in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{name}") == path]


@pytest.mark.kernel
def test_what_the_kernel_uses_is_not_written_to(
    kernel_image: Callable[..., images.KernelImage], tmp_path: Path
) -> None:
    path = kernel_image().copy(str(tmp_path))[0]
    with kernel.loop_devices([path]) as (loop,), Device(path) as file, Device(loop) as block:
        with pytest.raises(DeviceError, match=f"{path} is attached to {loop}"):
            DeviceSink({1: file})
        with DeviceSink({1: block}), pytest.raises(DeviceError, match=f"cannot write {loop}: Device or resource busy"):
            DeviceSink({1: block})
    with kernel.loop_devices([path], read_only=True), Device(path) as file:
        DeviceSink({1: file}).close()
    with kernel.mount([path], read_only=True) as where, open("/proc/mounts") as mounts:
        loop = next(line.split()[0] for line in mounts if where in line)
        for used, why in ((path, f"attached to {loop}"), (loop, "mounted")):
            with Device(used) as device, pytest.raises(DeviceError, match=f"{used} is {why}"):
                DeviceSink({1: device})

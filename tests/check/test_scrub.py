"""The scrub: silent on what the kernel wrote, and right about every byte that was changed, on every copy and parity."""

from __future__ import annotations

import os
import random
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import kernel
from support.images import DEVICES, MIB, mkfs, new_devices
from support.matrix import name_of, options_of, variants
from support.populate import populate
from support.uncached import written_back

from btrimg.check.scrub import around
from btrimg.check.scrub.begun import scrub
from btrimg.check.scrub.told import Told
from btrimg.filesystem.extents import file_extents
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.tables.build import build
from btrimg.tables.leafscan import LeafScan, every_tree
from btrimg.tables.schema import EXTENTS, FILE_EXTENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from support.images import KernelImage
    from support.matrix import Variant

    from btrimg.filesystem.image import Image

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

BY_PROFILE = {cell.profile: cell for cell in reversed(variants())}
SECTOR = 4096


class Sector(NamedTuple):
    """A bad sector of a device: a row of ``bad_copies`` taken apart."""

    devid: int
    physical: int
    kind: str
    state: str
    mirror: int
    intact: int


class Row(NamedTuple):
    """A row of ``bad_copies``."""

    devid: int
    physical: int
    length: int
    kind: str
    state: str
    mirror: int
    logical: int
    intact: int

    @property
    def sectors(self) -> Iterator[Sector]:
        """Yield the sectors of the row."""
        for at in range(self.physical, self.physical + self.length, SECTOR):
            yield Sector(self.devid, at, self.kind, self.state, self.mirror, self.intact)


def scrubbed(paths: Sequence[str], progress: Callable[[int], None] = lambda _: None) -> list[Row]:
    """Return the rows of ``bad_copies``."""
    with open_image(paths, warn=lambda _: None) as image:
        scan = LeafScan(image, [EXTENTS, FILE_EXTENTS], every_tree(image))
        extents, file_extents = (scan.gathered(relation).different for relation in (EXTENTS, FILE_EXTENTS))
        names, sound = ("logical", "generation"), scan.forest.sound_at_first()
        table = scrub(image, Told(extents, file_extents, dict(zip(names, sound, strict=True))), progress)
        nothing = dict(zip(names, (some[:0] for some in sound), strict=True))
        again = scrub(image, Told(extents, file_extents, nothing), lambda _: None)
        assert {name: column.tolist() for name, column in table.items()} == {
            name: column.tolist() for name, column in again.items()
        }, "what the scan has found sound is told of in the same way when it is read again"
    return [Row(*row) for row in zip(*(column.tolist() for column in table.values()), strict=True)]


def sectors(rows: Iterable[Row]) -> set[Sector]:
    """Return all sectors of *rows*."""
    return {sector for row in rows for sector in row.sectors}


@pytest.fixture(params=list(BY_PROFILE.values()), ids=name_of)
def cell(request: pytest.FixtureRequest) -> Variant:
    """Give a variant of every profile, all checksums among them."""
    variant: Variant = request.param
    return variant


@pytest.fixture
def clean(cell: Variant, kernel_image: Callable[..., KernelImage]) -> KernelImage:
    """Give an image of every profile that is not to be changed."""
    return kernel_image(**options_of(cell))


@pytest.fixture
def copied(clean: KernelImage, tmp_path: Path) -> tuple[str, ...]:
    """Give an image of every profile that may be changed."""
    return clean.copy(str(tmp_path / "copied"))


def test_nothing_is_bad_on_what_the_kernel_wrote(clean: KernelImage) -> None:
    judged: list[int] = []
    assert scrubbed(clean.devices, judged.append) == []
    with clean.mount() as top:
        said = kernel.run("btrfs", "scrub", "start", "-BrR", top)
    counts = {name: int(count) for name, count in re.findall(r"(\w+): (\d+)", said)}
    assert [counts[f"{name}_errors"] for name in ("read", "csum", "verify", "super")] == [0, 0, 0, 0]
    with open_image(clean.devices) as image:
        plain, profile = len(Sites(image, "").plain) * SECTOR, next(iter(image.volume.chunk_map)).profile
    if not profile.parity:  # of data without checksums the kernel reads more: what was preallocated
        by_kernel = counts["data_bytes_scrubbed"] - counts["no_csum"] * SECTOR + counts["tree_bytes_scrubbed"]
        assert sum(judged) == by_kernel + plain * profile.copies


def soiled_devices(directory: Path, count: int) -> list[str]:
    """Make devices of 256 MiB that are full of something else, as far as a small filesystem takes them."""
    devices = [*new_devices(str(directory), count, 256 * MIB)]
    for number, path in enumerate(devices):
        noise = random.Random(number).randbytes(MIB)
        with open(path, "r+b") as device:
            for _ in range(180):
                device.write(noise)
    return devices


@pytest.mark.parametrize("profile", ["raid1", "raid5"])
def test_garbage_that_was_there_before_is_not_judged(profile: str, tmp_path: Path) -> None:
    """Preallocated extents and rows that nobody has written hold what the device held before.

    Where the kernel replaces a device of RAID5 or RAID6 it does not copy that garbage, but parity was computed with it:
    Linux 6.18 cannot read such a RAID5 without another one of its devices. It mends that by a scrub of its own.
    """
    devices = soiled_devices(tmp_path, DEVICES[profile] + 1)
    *used, spare = devices
    mkfs(used, profile)
    with kernel.mount(used) as top:
        populate(top)
    assert scrubbed(used) == []
    with kernel.loop_devices([spare]) as (loop,), kernel.mount(used) as top:
        kernel.run("btrfs", "replace", "start", "-B", "-f", "2", loop, top)
    used[1] = spare
    assert {row.kind for row in scrubbed(used)} <= {"parity P", "parity Q"}
    with kernel.mount(used) as top:
        kernel.run("btrfs", "scrub", "start", "-B", top)
    assert scrubbed(used) == []


@pytest.mark.parametrize("profile", ["raid5", "raid6"])
def test_lines_that_nobody_has_written_are_not_judged(profile: str, tmp_path: Path) -> None:
    """Three small files leave most of the lines of their rows as they were, where parity is not that of the data."""
    devices = soiled_devices(tmp_path, DEVICES[profile])
    mkfs(devices, profile)
    with kernel.mount(devices) as top:
        for number in range(3):
            with open(os.path.join(top, str(number)), "wb") as file:
                file.write(random.Random(number).randbytes(9000))
            kernel.sync(top)
    assert scrubbed(devices) == []
    with open_image(devices) as image:
        sites = Sites(image, "small files")
    sites.choose_parity(sites.data, 4)
    expected = sites.change(devices)
    assert expected
    assert sectors(scrubbed(devices)) == expected


class Site(NamedTuple):
    """A unit of one copy, or of parity, and what is to be found when a byte of it is changed."""

    devid: int
    physical: int
    length: int
    found: frozenset[Sector]


class Sites:
    """Places of an image to change bytes at, not two of them in one line of a row."""

    def __init__(self, image: Image, seed: str) -> None:
        self._map = image.volume.chunk_map
        self._random = random.Random(seed)
        self._lines: set[tuple[int, int]] = set()
        self.chosen: list[Site] = []
        tables = build(image, ["csums", "extents", "file_extents"])
        csums, extents, files = tables["csums"], tables["extents"], tables["file_extents"]
        self.data = sectors_of(zip(csums["logical"].tolist(), csums["length"].tolist(), strict=True))
        blocks = extents["logical"][extents["kind"] == "tree block"].tolist()
        self.blocks = [(logical, image.volume.nodesize) for logical in blocks]
        columns = (files[name].tolist() for name in ("kind", "extent", "extent_offset", "length"))
        written = {
            (extent + skipped, size) for kind, extent, skipped, size in zip(*columns, strict=True) if kind == "regular"
        }
        self.plain = sorted(set(sectors_of(written)) - set(self.data))

    def choose(self, kind: str, units: Sequence[tuple[int, int]], count: int) -> None:
        """Choose *count* of *units*, (logical, length), and one copy of each."""
        for logical, length in self._random.sample(units, min(count, len(units))):
            copies = self._map.locate(logical).copies
            if kind == "tree block" and len(copies) == 1 and not self._map.locate(logical).parity:
                continue  # without it, the rest could not be read
            if self._is_free(logical, length):
                self._add(kind, logical, length, self._random.randrange(len(copies)))

    def _add(self, kind: str, logical: int, length: int, mirror: int) -> None:
        chunk = self._map.find(logical)
        devid, physical = chunk.locate(logical).copies[mirror]
        copies = chunk.profile.copies
        found = {(devid, physical, kind, "bad", mirror + 1, int(chunk.profile.parity > 0) or copies - 1)}
        if kind == "nodatasum" and chunk.profile.parity == 1:
            place = chunk.locate(logical).parity[0][1]
            found = {(*place, "parity P", "differs", 0, 0)}
        elif kind == "nodatasum" and copies == 1 and not chunk.profile.parity:
            found = set()  # nobody can tell
        elif kind == "nodatasum" and not chunk.profile.parity:
            told = [mirror] if copies > 2 else range(copies)
            places = [(number, chunk.locate(logical).copies[number]) for number in told]
            found = {(*p, kind, "differs", number + 1, copies - 1 if copies > 2 else 0) for number, p in places}
        self._choose(devid, physical, length, found)

    def full_lines(self) -> list[tuple[int, int]]:
        """Return the first sector of each line whose sectors all have checksums."""
        summed, found = dict(self.data), []
        for logical in summed:
            chunk = self._map.find(logical)
            columns = len(chunk.stripes) - chunk.profile.parity
            first = (logical - chunk.logical) // STRIPE_LEN % columns == 0
            if first and all(logical + n * STRIPE_LEN in summed for n in range(columns)):
                found.append((logical, SECTOR))
        return found

    def choose_parity(self, units: Sequence[tuple[int, int]], count: int, *, alone: bool = False) -> None:
        """Choose P or Q of the lines of some sectors of data, and P and Q of others together unless *alone*."""
        for logical, length in self._random.sample(units, min(count, len(units))):
            parity = self._map.locate(logical).parity
            if not parity or not self._is_free(logical, length):
                continue
            for name, place in self._random.sample(parity, 1 if alone else self._random.randint(1, len(parity))):
                state, intact = ("differs", 0) if self._beside_plain(logical) else ("bad", 1)
                self._choose(*place, length, {(*place, f"parity {name}", state, 0, intact)})

    def _beside_plain(self, logical: int) -> bool:
        row = self._map.find(logical)
        columns = len(row.stripes) - row.profile.parity
        offset = (logical - row.logical) // (columns * STRIPE_LEN) * columns * STRIPE_LEN
        line = (logical - row.logical) % STRIPE_LEN
        return any(row.logical + offset + n * STRIPE_LEN + line in dict(self.plain) for n in range(columns))

    def _is_free(self, logical: int, length: int) -> bool:
        """Return whether nothing was chosen in the lines of a unit yet, and take them."""
        chunk = self._map.find(logical)
        per_row = (len(chunk.stripes) - chunk.profile.parity) // chunk.profile.copies * STRIPE_LEN
        offset = logical - chunk.logical
        lines = {
            (chunk.logical + offset // per_row * per_row, offset % STRIPE_LEN + at) for at in range(0, length, SECTOR)
        }
        if not chunk.profile.parity:
            lines = {(logical + at, 0) for at in range(0, length, SECTOR)}
        free = not lines & self._lines
        self._lines |= lines if free else set()
        return free

    def _choose(self, devid: int, physical: int, length: int, found: Iterable[tuple[Any, ...]]) -> None:
        whole = {Sector(dev, start + at, *rest) for dev, start, *rest in found for at in range(0, length, SECTOR)}
        self.chosen.append(Site(devid, physical, length, frozenset(whole)))

    def change(self, paths: Sequence[str]) -> set[Sector]:
        """Change one byte at every place; return what is to be found."""
        for site in self.chosen:
            with open(paths[site.devid - 1], "r+b") as device:
                at = site.physical + self._random.randrange(32, site.length)  # a block's checksum can be shorter
                device.seek(at)
                old = device.read(1)[0]
                device.seek(at)
                device.write(bytes([old ^ self._random.randrange(1, 256)]))
        return {sector for site in self.chosen for sector in site.found}


def sectors_of(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the sectors of ranges, (logical, length)."""
    return [(at, SECTOR) for start, length in ranges for at in range(start, start + length, SECTOR)]


def test_every_changed_byte_is_found_where_it_is_and_nothing_else(copied: tuple[str, ...]) -> None:
    with open_image(copied) as image:
        sites = Sites(image, "changed bytes")
    sites.choose("tree block", sites.blocks, 10)
    sites.choose("nodatasum", sites.plain, 20)
    sites.choose("data", sites.data, 100)
    sites.choose_parity(sites.data, 60)
    expected = sites.change(copied)
    assert len(expected) >= 100
    assert sectors(scrubbed(copied)) == expected


def test_every_changed_byte_is_found_where_nothing_is_cached(
    copied: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_image(copied) as image:
        sites = Sites(image, "changed bytes on the disk")
    sites.choose("data", sites.data, 10)
    expected = sites.change(copied)
    monkeypatch.setattr(around, "_SHORT", 0)  # what a filesystem of some MiB has side by side is shorter
    for path in copied:
        written_back(path)
    assert sectors(scrubbed(copied)) == expected


@pytest.mark.parametrize("profile", ["single", "dup"])
def test_btrfs_check_names_the_same_data(
    profile: str, kernel_image: Callable[..., KernelImage], tmp_path: Path
) -> None:
    devices = kernel_image(**options_of(BY_PROFILE[profile])).copy(str(tmp_path))
    with open_image(devices) as image:
        sites = Sites(image, "judged")
    sites.choose("data", sites.data, 50)
    sites.change(devices)
    ours = {(row.mirror, row.logical + at) for row in scrubbed(devices) for at in range(0, row.length, SECTOR)}
    done = subprocess.run(
        ["btrfs", "check", "--check-data-csum", *devices], capture_output=True, text=True, check=False
    )
    said = re.findall(r"mirror (\d+) bytenr (\d+) csum", done.stdout + done.stderr)
    assert {(int(mirror), int(logical)) for mirror, logical in said} == ours
    assert len(ours) == 50


@pytest.mark.parametrize("profile", ["raid1", "raid1c4", "raid10", "raid5", "raid6"])
def test_a_missing_device_is_told_and_nothing_is_lost(profile: str, kernel_image: Callable[..., KernelImage]) -> None:
    devices = kernel_image(**options_of(BY_PROFILE[profile])).devices
    rows = scrubbed(devices[:1] + devices[2:])
    copies = {"raid1c4": 4}.get(profile, 2)
    assert {(row.devid, row.state, row.intact) for row in rows} == {(2, "missing", copies - 1)}
    assert {row.kind for row in rows} == {"data", "nodatasum", "tree block"}


@pytest.mark.parametrize("profile", ["raid5", "raid6"])
def test_parity_is_judged_by_what_it_brings_back(
    profile: str, kernel_image: Callable[..., KernelImage], tmp_path: Path
) -> None:
    """Without a device its data, which have checksums, tell whether parity is good: P alone, or P and Q each."""
    devices = kernel_image(**options_of(BY_PROFILE[profile])).copy(str(tmp_path))
    with open_image(devices) as image:
        sites = Sites(image, "missing device")
    sites.choose_parity(sites.full_lines(), 40, alone=True)
    on_others = {sector for site in sites.chosen if site.devid != 2 for sector in site.found}
    sites.change(devices)
    rows = scrubbed(devices[:1] + devices[2:])
    assert len(on_others) > 20
    assert sectors(row for row in rows if row.state != "missing") == on_others
    lost = {row.physical for row in sectors(row for row in rows if row.intact == 0)}
    in_rows = {sector.physical for sector in on_others}
    assert bool(lost) == (profile == "raid5"), "Q brings back what P does not"
    assert len(lost) <= len(in_rows)


def test_a_rotten_device_is_a_few_rows(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    devices = kernel_image(**options_of(BY_PROFILE["raid1c3"])).copy(str(tmp_path))
    noise = random.Random("rotten").randbytes(MIB)
    with open(devices[1], "r+b") as device:
        for at in range(MIB, 256 * MIB, MIB):
            skipped = SUPERBLOCK_SIZE if at == SUPERBLOCK_OFFSETS[1] else 0
            device.seek(at + skipped)
            device.write(noise[skipped:])
    missing = scrubbed(devices[:1] + devices[2:])
    rotten = scrubbed(devices)
    assert len(rotten) < 60
    assert {(row.devid, row.intact) for row in rotten} == {(2, 2)}
    assert {s[:3] for s in sectors(rotten)} == {s[:3] for s in sectors(missing)}, "all that lies on the device"


def test_a_device_that_ends_early_cannot_be_read(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    devices = kernel_image(**options_of(BY_PROFILE["raid1"])).copy(str(tmp_path))
    missing = sectors(scrubbed((devices[0], devices[2])))
    end = sorted(sector.physical for sector in missing)[len(missing) // 2] + SECTOR // 2
    os.truncate(devices[1], end)
    lost = {sector for sector in missing if sector.physical + SECTOR > end and sector.kind != "tree block"}
    found = sectors(scrubbed(devices))
    assert {sector.state for sector in found} == {"unreadable"}
    assert {s._replace(state="missing") for s in found if s.kind != "tree block"} == lost
    assert {s.physical for s in missing if s.physical > end} <= {s.physical for s in found}


def test_data_without_checksums_behind_the_end_of_the_device(tmp_path: Path) -> None:
    devices = new_devices(str(tmp_path), 1, 256 * MIB)
    mkfs(devices, "single", "dup")
    with kernel.mount(devices) as top:
        with open(os.path.join(top, "first"), "wb") as file:
            file.write(random.Random("first").randbytes(8 * MIB))  # as much as the first chunk holds
        kernel.sync(top)
        kernel.set_nocow(top)
        with open(os.path.join(top, "plain"), "wb") as file:
            file.write(random.Random("plain").randbytes(MIB))
    with open_image(devices) as image:
        (extent,) = (row for row in file_extents(image.open(b"/plain")))
        ((devid, start),) = image.volume.chunk_map.locate(extent.logical or 0).copies
    end = start + MIB // 2 + 100
    os.truncate(devices[0], end)
    first = end - 100
    assert scrubbed(devices) == [
        Row(devid, first, start + MIB - first, "nodatasum", "unreadable", 1, (extent.logical or 0) + MIB // 2, 0)
    ]


def test_a_block_in_the_place_of_another_is_bad(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    devices = kernel_image(**options_of(BY_PROFILE["raid1"])).copy(str(tmp_path))
    with open_image(devices) as image:
        (one, size), (other, _) = Sites(image, "blocks").blocks[-2:]
        data = image.volume.read(one, size)
        devid, physical = image.volume.chunk_map.locate(other).copies[1]
    with open(devices[devid - 1], "r+b") as device:
        device.seek(physical)
        device.write(data)
    assert scrubbed(devices) == [Row(devid, physical, size, "tree block", "bad", 2, other, 1)]


def test_a_dump_has_no_data_to_judge(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    """The checksums of a filesystem that btrfs-image has restored are those of data that it left out."""
    (device,) = kernel_image(**options_of(BY_PROFILE["single"])).devices
    dump, restored = str(tmp_path / "dump"), str(tmp_path / "restored")
    kernel.run("btrfs-image", device, dump)
    kernel.run("btrfs-image", "-r", dump, restored)
    with open(device, "rb") as one, open(restored, "rb") as other, open_image(device) as image:
        tables = build(image, ["csums"])["csums"]
        for file in (one, other):
            file.seek(image.volume.chunk_map.locate(int(tables["logical"][0])).copies[0].physical)
        assert one.read(SECTOR) != other.read(SECTOR), "it has left them out"
    assert scrubbed([restored]) == []

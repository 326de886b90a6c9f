"""Bytes of an image changed at random: clean data, a clean error or a report, never wrong data, a crash or a hang.

With checksums as they were, what is read must be true; with those of tree blocks and superblocks made right again, any
content reaches the parsers, and nothing can be said of the data but that reading them ends well.
"""

from __future__ import annotations

import io
import os
import random
import signal
import stat
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import images, kernel
from support.populate import (
    Filler,
    compressed_files,
    kinds,
    links,
    overwrites,
    preallocated,
    snapshots,
    subvolume,
    xattrs,
)
from support.truth import record

from btrimg.cli.main import run
from btrimg.errors import BtrimgError
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.image import open_image
from btrimg.filesystem.walk import walk
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.seal import seal, seal_superblock
from btrimg.render import extent_lines, listing
from btrimg.trees.block import Block
from btrimg.trees.salvage import walk as walk_blocks
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.truth import Truth

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

ROUNDS = int(os.environ.get("BTRIMG_MUTATIONS", "50"))  #: of either kind
SECONDS = 200  #: that one round may take, which takes less than one
LARGEST_READ = 4 * MIB
MOST_ROWS = 2000
LIMITS = (0, 1, 2, 255, 1 << 15, (1 << 16) - 1, 1 << 31, (1 << 32) - 1, 1 << 62, 1 << 63, (1 << 64) - 1)
KINDS = ("flip", "limit", "copy", "zeros", "noise", "swap")


class Place(NamedTuple):
    """A range of the device that a mutation may hit: a tree block, a superblock or some data."""

    offset: int
    size: int
    csum: str | None  #: the checksum that covers it, None for that of data


class Subject(NamedTuple):
    """A small image with the truth of it, on one device."""

    path: str
    truth: Truth
    unsummed: set[bytes]  #: paths of files without checksums, whose bytes nobody can judge
    blocks: list[Place]  #: tree blocks, each item a copy
    others: list[Place]  #: superblocks and data


class Mutation(NamedTuple):
    """A change of one place: bytes from *source* on, or a value, come to *at*; both count from the place's start."""

    kind: str
    at: int
    source: int
    value: int


class Reading(NamedTuple):
    """What came of reading everything."""

    content: dict[bytes, bytes]
    errors: list[BtrimgError]
    warnings: list[str]


@pytest.fixture(scope="module")
def subject(image_directory: str) -> Subject:
    """Give an image of deep trees, without a second copy of anything."""
    paths = images.new_devices(os.path.join(image_directory, "mutation"), 1, 128 * MIB)
    images.mkfs(paths, "single", "single", 4096)
    with kernel.mount(paths) as top:
        fill = Filler(top)
        for size in (0, 1, 2048, 4097, 70_000):
            fill.write(b"sizes/noise-%d" % size, fill.noise(size))
        for name in (b"plain/base", b"nocow/file-1", b"nodatasum/file-0", b"plain/inline-extended"):
            fill.write(name, fill.noise(30_000))
        fill.write(b"plain/inline-stretched", b"short")
        for part in (compressed_files, preallocated, links, kinds, xattrs, subvolume):
            part(fill)
        fill.sync()
        overwrites(fill)
        snapshots(fill)
    with kernel.mount(paths, read_only=True) as top:
        truth = record(top)
    with open_image(paths) as image:
        inodes = list(walk(image.open(b"/")))
        unsummed = {inode.path for inode in inodes if inode.is_regular and not inode.checksummed}
        return Subject(paths[0], truth, unsummed, _blocks(image), _others(image))


def _blocks(image: Image) -> list[Place]:
    found = {
        place.physical
        for root in (*superblock_roots(image), *item_roots(image))
        for _, block in walk_blocks(image.blocks, root.at)
        if isinstance(block, Block)
        for place in image.volume.chunk_map.locate(block.header.bytenr).copies
    }
    return [Place(offset, image.volume.nodesize, "block") for offset in sorted(found)]


def _others(image: Image) -> list[Place]:
    supers = [Place(offset, SUPERBLOCK_SIZE, "superblock") for offset in SUPERBLOCK_OFFSETS[:2]]
    columns = image.extents()
    data = sorted({(int(p), int(n)) for p, n in zip(columns.physical[0], columns.extent_length, strict=True) if p})
    return [*supers, *(Place(offset, size, None) for offset, size in data)]


@contextmanager
def mutated(subject: Subject, changes: list[tuple[Place, Mutation]], *, sealed: bool) -> Iterator[None]:
    """Have *changes* in the image for the length of a with block."""
    undo: list[tuple[int, bytes]] = []
    with open(subject.path, "r+b", buffering=0) as file:
        try:
            for place, mutation in changes:
                before = os.pread(file.fileno(), place.size, place.offset)
                undo.append((place.offset, before))
                after = mutate(before, mutation)
                os.pwrite(file.fileno(), with_right_csum(after, place) if sealed else after, place.offset)
            yield
        finally:
            for offset, before in reversed(undo):
                os.pwrite(file.fileno(), before, offset)


def mutate(data: bytes, mutation: Mutation) -> bytes:
    """Return *data* changed, as long as before."""
    at, source = mutation.at % len(data), mutation.source % len(data)
    size = {"flip": 1, "limit": 8, "copy": 25, "zeros": 512, "noise": 300, "swap": 512}[mutation.kind]
    at, source = min(at, len(data) - size), min(source, len(data) - size)
    changed = bytearray(data)
    if mutation.kind == "flip":
        changed[at] ^= 1 << mutation.value % 8
    elif mutation.kind == "limit":
        width = (1, 2, 4, 8)[mutation.value % 4]
        number = LIMITS[mutation.value // 4 % len(LIMITS)]
        changed[at : at + width] = (number & (1 << 8 * width) - 1).to_bytes(width, "little")
    elif mutation.kind == "zeros":
        changed[at : at + size] = bytes(size)
    elif mutation.kind == "noise":
        changed[at : at + size] = random.Random(mutation.value).randbytes(size)
    else:
        changed[at : at + size] = data[source : source + size]
        if mutation.kind == "swap":
            changed[source : source + size] = data[at : at + size]
    return bytes(changed)


def with_right_csum(data: bytes, place: Place) -> bytes:
    """Return *data* with its checksum made right, for tree blocks the crc32c that the image has."""
    if place.csum == "block":
        return seal(data, algorithm(0))
    return seal_superblock(data) if place.csum else data


def read_everything(path: str) -> Reading:
    """Do with the image at *path* all that a reader can do."""
    reading = Reading({}, [], [])
    try:
        image = open_image(path, warn=reading.warnings.append)
    except BtrimgError as error:
        reading.errors.append(error)
        return reading
    with image:
        try:
            for inode in islice(walk(image.open(b"/")), MOST_ROWS):
                _read_inode(inode, reading)
        except BtrimgError as error:
            reading.errors.append(error)
        try:
            for _ in extent_lines.json_chunks(image.extents(holes=True, pieces=True), image):
                pass
        except BtrimgError as error:
            reading.errors.append(error)
    return reading


def _read_inode(inode: Inode, reading: Reading) -> None:
    def content() -> None:
        if inode.is_regular and inode.checksummed:
            reading.content[inode.path] = inode.read(0, LARGEST_READ)
        elif stat.S_ISLNK(inode.item.mode):
            reading.content[inode.path] = inode.target()

    def rest() -> None:
        listing.long_line(inode.path, inode)
        listing.stat_dict(inode)
        listing.stat_text(inode)
        if inode.is_regular:
            list(islice(inode.extents(holes=True, pieces=True), MOST_ROWS))
            if inode.item.size:
                inode.resolve(inode.item.size // 2)

    for work in (content, rest):
        try:
            work()
        except BtrimgError as error:
            reading.errors.append(error)


@contextmanager
def bounded() -> Iterator[None]:
    """Fail what takes longer than SECONDS, or a gigabyte of memory."""

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError(f"took longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # reset VmHWM
    start = _peak_kib()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert _peak_kib() - start < 1 << 20


def _peak_kib() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def check_unsealed(subject: Subject, changes: list[tuple[Place, Mutation]]) -> None:
    """Let checksums find the changes: what is read is true, and what is lost is told."""
    with mutated(subject, changes, sealed=False), bounded():
        reading = read_everything(subject.path)
    truth = {path: found for path, found in _truth(subject).items() if path in reading.content}
    assert reading.content == truth
    if not reading.errors and not reading.warnings:
        assert len(truth) == len(_truth(subject))


def check_sealed(subject: Subject, changes: list[tuple[Place, Mutation]], *, dump: bool = False) -> None:
    """Let any content through: reading ends in values or in a BtrimgError."""
    with mutated(subject, changes, sealed=True), bounded():
        read_everything(subject.path)
        if dump:
            with redirect_stdout(io.StringIO()):
                for words in (["dump-tree"], ["dump-tree", "--json", "--dfs"], ["list-chunks"], ["dump-super", "-fa"]):
                    try:
                        run(["inspect", *words, subject.path])
                    except BtrimgError as error:
                        assert str(error)  # noqa: PT017 (most mutations raise nothing)


def _truth(subject: Subject) -> dict[bytes, bytes]:
    """Return what is to be read: content of files with checksums, and targets of symlinks."""
    return {
        path: (entry.target if entry.content is None else entry.content[:LARGEST_READ]) or b""
        for path, entry in subject.truth.entries.items()
        if (entry.content is not None or entry.target is not None) and path not in subject.unsummed
    }


def random_changes(subject: Subject, seed: int) -> list[tuple[Place, Mutation]]:
    """Return one to four changes, most of them in tree blocks."""
    rng = random.Random(seed)
    changes = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.choice(subject.blocks if rng.random() < 0.75 else subject.others)
        # Headers and slots stand at the start of a block, payloads at its end.
        at = rng.choice((rng.randrange(101), rng.randrange(400), rng.randrange(place.size)))
        kind = rng.choices(KINDS, (4, 6, 2, 1, 1, 1))[0]
        changes.append((place, Mutation(kind, at, rng.randrange(place.size), rng.getrandbits(32))))
    return changes


def test_no_change_is_no_damage(subject: Subject) -> None:
    check_unsealed(subject, [])
    assert len(_truth(subject)) > 100
    assert len(subject.blocks) > 60


def test_what_checksums_find_never_comes_out(subject: Subject) -> None:
    for seed in range(ROUNDS):
        check_unsealed(subject, random_changes(subject, seed))


def test_what_checksums_cannot_find_ends_in_values_or_clean_errors(subject: Subject) -> None:
    for seed in range(ROUNDS):
        check_sealed(subject, random_changes(subject, seed), dump=seed % 8 == 0)


MUTATIONS = st.builds(
    Mutation, st.sampled_from(KINDS), st.integers(0, 4095), st.integers(0, 4095), st.integers(0, (1 << 32) - 1)
)


@given(st.lists(st.tuples(st.integers(0, 1 << 16), MUTATIONS), min_size=1, max_size=5))
@settings(max_examples=ROUNDS // 3, suppress_health_check=list(HealthCheck))
def test_any_changes_of_tree_blocks_end_well(subject: Subject, drawn: list[tuple[int, Mutation]]) -> None:
    changes = [(subject.blocks[number % len(subject.blocks)], mutation) for number, mutation in drawn]
    check_sealed(subject, changes)
    check_unsealed(subject, changes)

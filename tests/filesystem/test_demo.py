"""File data and extents of the demo's image: its bytes are known, so no oracle is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.demo import (
    COMPRESSED,
    INLINE,
    PREALLOCATED,
    SPARSE,
    change_extent,
    change_size,
    spoil,
    text,
)
from support.forge import edit_leaf

from btrimg.errors import ChecksumError, CorruptError, NotFoundError
from btrimg.filesystem.extents import FileExtentRow
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.compression import compress
from btrimg.ondisk.constants import Compression, FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import FileExtent, FileExtentInline

if TYPE_CHECKING:
    from support.forge import Items

DISK = text("disk.raw", 0, 1024)
TUESDAY = DISK[: 300 * 4096] + text("disk.raw-on-tuesday", 300, 1) + DISK[301 * 4096 :]
PART = text("part.raw", 0, 16) + DISK[1 << 20 : (1 << 20) + (512 << 10)]
CONTENT = {
    b"/vm/disk.raw": TUESDAY,
    b"/vm/clone.raw": DISK,
    b"/vm/part.raw": PART,
    b"/vm-monday/disk.raw": DISK,
    b"/vm-monday/part.raw": PART,
    b"/files/inline.txt": b"a file this short lies in the metadata\n",
    b"/files/deep/er/symlink": b"a file this short lies in the metadata\n",
    b"/files/sparse.raw": text("sparse.raw", 0, 2).ljust(1 << 20, b"\0"),
    b"/files/preallocated.raw": text("preallocated.raw", 0, 4).ljust(262144, b"\0"),
    b"/files/compressed.txt": text("compressed.txt", 0, 128),
    b"/files/nocow.raw": text("nocow.raw", 0, 8),
    b"/files/caf\xe9": b"bytes that are not UTF-8\n",
}


@pytest.mark.parametrize("path", CONTENT, ids=repr)
def test_every_file_has_the_bytes_that_were_written(path: bytes, demo_image: str) -> None:
    with open_image(demo_image) as image:
        inode, content = image.open(path), CONTENT[path]
        assert inode.read(0, len(content) + 1) == content
        for offset, length in ((0, 1), (len(content) - 2, 9), (len(content), 5), (7000, 4097), (131071, 2), (5, 0)):
            assert inode.read(offset, length) == content[offset : offset + length]


# Verification


@pytest.mark.parametrize(("path", "offset"), [(b"/vm/disk.raw", 5000), (b"/files/compressed.txt", 140_000)])
def test_data_bad_on_every_copy_are_refused(path: bytes, offset: int, forged: str) -> None:
    spoil(forged, path, offset)
    with open_image(forged) as image:
        with pytest.raises(ChecksumError, match="fails its checksum on every copy: found"):
            image.open(path).read(offset, 1)
        assert image.open(path).read(0, 4096) == CONTENT[path][:4096], "another extent, or another sector"


def test_data_bad_on_every_copy_are_given_to_who_does_not_verify(forged: str) -> None:
    spoil(forged, b"/vm/disk.raw", 5000)
    expected = bytearray(TUESDAY)
    expected[5000] ^= 1
    with open_image(forged) as image:
        assert image.open(b"/vm/disk.raw").read(0, 1 << 23, verify=False) == expected


@pytest.mark.parametrize("copy", [0, 1])
def test_data_bad_on_one_copy_come_from_the_other(copy: int, forged: str) -> None:
    spoil(forged, b"/vm/disk.raw", 5000, [copy])
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        assert image.open(b"/vm/disk.raw").read(0, 1 << 23) == TUESDAY
    assert len(said) == (copy == 0)
    assert all("the first copy fails its checksum; another is good" in each for each in said)


def test_data_without_checksums_are_not_verified(forged: str) -> None:
    spoil(forged, b"/files/nocow.raw", 5000)
    with open_image(forged) as image:
        assert image.open(b"/files/nocow.raw").read(5000, 1) == bytes([CONTENT[b"/files/nocow.raw"][5000] ^ 1])


# Rows


def test_what_is_left_of_a_compressed_extent_starts_inside_it(forged: str) -> None:
    def overwrite_its_start(items: Items) -> None:
        key = Key(COMPRESSED, ItemType.EXTENT_DATA, 131072)
        left = FileExtent.unpack(items.pop(key)).replace(offset=8192, num_bytes=131072 - 8192 - 4096)
        items[key._replace(offset=131072 + 8192)] = left.pack()

    edit_leaf(forged, TreeId.FS_TREE, overwrite_its_start)
    whole = CONTENT[b"/files/compressed.txt"]
    expected = whole[:131072] + bytes(8192) + whole[139264 : 262144 - 4096] + bytes(4096) + whole[262144:]
    with open_image(forged) as image:
        inode = image.open(b"/files/compressed.txt")
        assert inode.read(0, 1 << 20) == expected
        assert inode.read(140_000, 5000) == whole[140_000:145_000]


@pytest.mark.parametrize("kind", [Compression.ZLIB, Compression.LZO, Compression.ZSTD])
def test_compressed_inline_data_fill_a_sector_at_most(kind: Compression, forged: str) -> None:
    plain = text("inline", 0, 1) + b"more"

    def compressed(length: int) -> None:
        item = FileExtentInline(
            1, length, kind, 0, 0, FileExtentType.INLINE, compress(kind, plain[:length], sectorsize=4096)
        )
        edit_leaf(
            forged, TreeId.FS_TREE, lambda items: items.update({Key(INLINE, ItemType.EXTENT_DATA, 0): item.pack()})
        )
        change_size(forged, INLINE, length)

    compressed(4096)
    with open_image(forged) as image:
        assert image.open(b"/files/inline.txt").read(0, 5000) == plain[:4096]
    compressed(4097)
    with open_image(forged) as image, pytest.raises(CorruptError, match="claims 4097 bytes of data, at most 4096"):
        image.open(b"/files/inline.txt").read(0, 5000)


def test_a_hole_after_inline_data_starts_at_the_next_sector(forged: str) -> None:
    change_size(forged, INLINE, 10_000)
    with open_image(forged) as image:
        rows = list(image.open(b"/files/inline.txt").extents(holes=True))
        assert rows[1:] == [FileExtentRow(4096, 5904, "hole", 0, None)]
        assert (rows[0].offset, rows[0].length, rows[0].kind) == (0, 39, "inline")
        columns = image.extents(holes=True)
        mine = (columns.subvolume == TreeId.FS_TREE) & (columns.inode == INLINE)
        assert list(zip(columns.offset[mine], columns.length[mine], strict=True)) == [(0, 39), (4096, 5904)]
        assert image.open(b"/files/inline.txt").read(0, 20_000) == CONTENT[b"/files/inline.txt"].ljust(10_000, b"\0")


# Translation


def test_a_resolution_ends_with_the_file(forged: str) -> None:
    change_size(forged, SPARSE, 5000)
    with open_image(forged) as image:
        inode = image.open(b"/files/sparse.raw")
        assert [inode.resolve(offset).length for offset in (0, 4096, 4999)] == [5000, 904, 1]
        for offset in (5000, 8191, 8192):
            with pytest.raises(NotFoundError, match=f"offset {offset} is past the end of the file, 5000 bytes"):
                inode.resolve(offset)


def test_what_is_preallocated_past_the_end_of_a_file_is_resolved(forged: str) -> None:
    change_size(forged, PREALLOCATED, 20_000)
    with open_image(forged) as image:
        inode = image.open(b"/files/preallocated.raw")
        found = [inode.resolve(offset) for offset in (16_384, 19_999, 20_000, 262_143)]
        assert [(each.kind, each.length) for each in found] == [
            ("prealloc", 3616),
            ("prealloc", 1),
            ("prealloc", 262_144 - 20_000),
            ("prealloc", 1),
        ]
        with pytest.raises(NotFoundError, match="past the end of the file"):
            inode.resolve(262_144)


def test_only_a_page_that_lies_on_a_page_of_the_device_may_be_shared(forged: str) -> None:
    edit_leaf(forged, TreeId.FS_TREE, lambda items: change_extent(items, SPARSE, offset=512, num_bytes=4096))
    with open_image(forged) as image:
        assert image.open(b"/files/sparse.raw").resolve(0).refusal == "unaligned"
        assert image.open(b"/files/sparse.raw").resolve(1000).refusal == "unaligned"
        aligned = image.open(b"/vm/part.raw").resolve(65536 + 1000)
        assert (aligned.refusal, aligned.shareable) == (None, True)


def test_a_resolution_has_the_checksum_of_its_sector(forged: str) -> None:
    with open_image(forged) as image:
        digest = image.volume.csum.digest
        for offset in (0, 4095, 5000):
            sector = offset // 4096 * 4096
            expected = digest(CONTENT[b"/files/sparse.raw"][sector : sector + 4096])
            assert image.open(b"/files/sparse.raw").resolve(offset).csum == expected
        assert image.open(b"/files/nocow.raw").resolve(0).csum is None


def test_preallocated_space_has_no_checksum_of_its_own(forged: str) -> None:
    """What the checksum tree still says there is of something else."""
    edit_leaf(forged, TreeId.FS_TREE, lambda items: change_extent(items, SPARSE, type=FileExtentType.PREALLOC))
    with open_image(forged) as image:
        found = image.open(b"/files/sparse.raw").resolve(0)
        assert (found.kind, found.refusal, found.csum) == ("prealloc", "prealloc", None)
        assert found.logical is not None
        assert len(image.csums.lookup(found.logical, 4096)) == image.volume.csum.size
        assert image.open(b"/files/sparse.raw").read(0, 8192) == bytes(8192)

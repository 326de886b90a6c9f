"""A new fsid: written into every tree block, or beside the old one, which the tree blocks keep.

The first is what ``btrfstune -u`` does, the second ``btrfstune -m``. Both happen in place, as there: a commit would
need room for all tree blocks once more. As long as it goes on, the superblocks say so by a flag; nobody mounts such an
image, and the rewriting can be taken up where it ended, here or by ``btrfstune``: as there, the superblocks have the
new fsid from the beginning, and the root block of the root tree has the new uuid of the chunk tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.superblocks import copies_of, standing
from btrimg.errors import BlockError, RefusedError
from btrimg.filesystem.image import root_tree_pointer
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.chunks import DevItem
from btrimg.ondisk.constants import ExtentFlag, Incompat, ItemType, SuperFlag, TreeId
from btrimg.ondisk.extents import ExtentItem
from btrimg.ondisk.seal import seal
from btrimg.trees.block import Block
from btrimg.volume.superblocks import uuid_text
from btrimg.volume.writer import VolumeWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.edit.superblocks import Standing
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.writer import Sink

_AT_ONCE = 4 << 20  # bytes of neighbouring tree blocks


def rewrite_fsid(image: Image, sink: Sink, fsid: bytes, chunk_tree_uuid: bytes) -> bytes:
    """Give the filesystem another *fsid*, and return that: in all tree blocks, device items and superblocks.

    An unfinished change is finished, with the fsid and uuid that it has begun with. Every tree block is read and
    verified before anything is written. Raises RefusedError where it cannot be done, BlockError when a tree block has
    no good copy, DeviceError when a device is missing.
    """
    superblock, devices = image.superblock, standing(image)
    unfinished = bool(superblock.flags & SuperFlag.CHANGING_FSID)
    _refuse(image, keeping=False)
    if unfinished:
        fsid, root = superblock.fsid, image.blocks.read(root_tree_pointer(image.volume))
        chunk_tree_uuid = root.header.chunk_tree_uuid
    addresses = tree_blocks(image)
    for _ in _blocks(image, addresses):
        pass  # all can be read
    writer = _Rewriter(image, sink, fsid, chunk_tree_uuid)
    now = [
        each._replace(
            superblock=each.superblock.replace(fsid=fsid, flags=each.superblock.flags | SuperFlag.CHANGING_FSID)
        )
        for each in devices
    ]
    _write(sink, now)
    writer.rewrite([superblock.root])
    sink.sync()
    writer.rewrite(addresses)
    sink.sync()
    _write(sink, [each._replace(superblock=_finished(each.superblock)) for each in now])
    return fsid


def _refuse(image: Image, *, keeping: bool) -> None:
    """Raise RefusedError where the fsid cannot be changed, *keeping* that in the tree blocks or not."""
    superblock = image.superblock
    if superblock.flags & SuperFlag.SEEDING:
        raise RefusedError("it is a seed, which others know by its fsid; make it none first (seed off)")
    if image.volume.seeds:
        raise RefusedError("it lies on top of a seed, whose tree blocks cannot be changed")
    if keeping:
        if superblock.flags & SuperFlag.CHANGING_FSID:
            raise RefusedError("its fsid is being rewritten, which was interrupted; finish that first (fsid)")
        return
    if superblock.log_root:
        raise RefusedError("its log tree holds changes made after the last commit: replay it first (log replay)")
    if superblock.incompat_flags & Incompat.METADATA_UUID:
        was = uuid_text(superblock.metadata_uuid)
        raise RefusedError(
            f"its tree blocks have the fsid that it had before; go back to that first (metadata-uuid {was})"
        )


def _finished(superblock: Superblock) -> Superblock:
    item = superblock.dev_item.replace(fsid=superblock.fsid)
    return superblock.replace(flags=superblock.flags & ~SuperFlag.CHANGING_FSID, dev_item=item)


def _write(sink: Sink, devices: Iterable[Standing]) -> None:
    for devid, device, superblock in devices:
        for piece in copies_of(devid, device, superblock):
            sink.pwrite(devid, piece.physical, piece.after)
    sink.sync()


def tree_blocks(image: Image) -> list[int]:
    """Return the logical address of every tree block that the extent tree knows, rising."""
    found = []
    for key, payload in image.tree(TreeId.EXTENT_TREE).items():
        if key.type == ItemType.METADATA_ITEM or (
            key.type == ItemType.EXTENT_ITEM and ExtentItem.unpack(payload).flags & ExtentFlag.TREE_BLOCK
        ):
            found.append(key.objectid)
    return found


def _blocks(image: Image, addresses: Iterable[int]) -> Iterator[tuple[int, bytearray, list[bytes]]]:
    """Yield runs of neighbouring tree blocks: the first address, all their bytes, and each header; all of them good.

    Raises BlockError when a block has no good copy.
    """
    volume = image.volume
    nodesize = volume.nodesize
    for start, count in _runs(image, addresses):
        data = bytearray(volume.read(start, count * nodesize))
        headers = []
        for at in range(0, len(data), nodesize):
            block = memoryview(data)[at : at + nodesize]
            if not _is_good(image, start + at, block):
                block[:] = _good_copy(image, start + at)
            headers.append(bytes(block[: Header.SIZE]))
        yield start, data, headers


def _runs(image: Image, addresses: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of neighbouring blocks as (logical, how many), each within one chunk."""
    start = count = end = 0
    nodesize, chunks = image.volume.nodesize, image.volume.chunk_map
    for logical in addresses:
        if count and logical == start + count * nodesize < end and count * nodesize < _AT_ONCE:
            count += 1
            continue
        if count:
            yield start, count
        start, count, end = logical, 1, chunks.find(logical).end
    if count:
        yield start, count


def _is_good(image: Image, logical: int, data: memoryview | bytes) -> bool:
    csum = image.volume.csum
    header = Header.unpack(data)
    return bool(header.bytenr == logical and header.csum[: csum.size] == csum.digest(memoryview(data)[32:]))


def _good_copy(image: Image, logical: int) -> bytes:
    for data in image.volume.candidates(logical, image.volume.nodesize):
        if _is_good(image, logical, data):
            return data
    raise BlockError(logical, "csum", "no copy has the right checksum and address")


class _Rewriter:
    """Writes one fsid and one uuid of the chunk tree into tree blocks, to every copy, parity kept."""

    def __init__(self, image: Image, sink: Sink, fsid: bytes, chunk_tree_uuid: bytes) -> None:
        self._image, self._fsid, self._uuid = image, fsid, chunk_tree_uuid
        self._writer = VolumeWriter(image.volume, sink)

    def rewrite(self, addresses: Iterable[int]) -> None:
        """Rewrite the tree blocks at *addresses*, neighbours in one go."""
        nodesize, csum = self._image.volume.nodesize, self._image.volume.csum
        for start, data, headers in _blocks(self._image, addresses):
            for number, raw in enumerate(headers):
                header = Header.unpack(raw).replace(fsid=self._fsid, chunk_tree_uuid=self._uuid)
                block = header.pack() + data[number * nodesize + Header.SIZE : (number + 1) * nodesize]
                if header.owner == TreeId.CHUNK_TREE and header.level == 0:
                    block = self._with_device_items(header, block)
                data[number * nodesize : (number + 1) * nodesize] = seal(block, csum)
            self._writer.write(start, data)

    def _with_device_items(self, header: Header, block: bytes) -> bytes:
        leaf = Block(header, block)
        for slot in range(len(leaf)):
            if leaf.key(slot).type == ItemType.DEV_ITEM:
                place = leaf.bounds(slot)
                item = DevItem.patch(leaf.payload(slot), fsid=self._fsid)
                block = block[: place.start] + item + block[place.stop :]
        return block


def change_fsid(image: Image, sink: Sink, fsid: bytes) -> None:
    """Let the filesystem be known by *fsid*; its tree blocks keep the one that they have.

    With that one again, nothing tells any more that it was ever changed. An unfinished change is done again. Raises
    RefusedError where it cannot be done, DeviceError when a device is missing.
    """
    devices = standing(image)
    _refuse(image, keeping=True)
    kept = image.volume.metadata_fsid
    flagged = [each._replace(superblock=_flagged(each.superblock)) for each in devices]
    _write(sink, flagged)
    _write(sink, [each._replace(superblock=_known_by(each.superblock, fsid, kept)) for each in flagged])


def _flagged(superblock: Superblock) -> Superblock:
    return superblock.replace(flags=superblock.flags | SuperFlag.CHANGING_FSID_V2)


def _known_by(superblock: Superblock, fsid: bytes, kept: bytes) -> Superblock:
    differs = fsid != kept
    incompat = superblock.incompat_flags & ~Incompat.METADATA_UUID
    return superblock.replace(
        fsid=fsid,
        flags=superblock.flags & ~SuperFlag.CHANGING_FSID_V2,
        incompat_flags=incompat | (Incompat.METADATA_UUID if differs else 0),
        metadata_uuid=kept if differs else bytes(16),
    )

"""What must hold of an item by the type of its key alone.

Kernel: fs/btrfs/tree-checker.c, the functions named by ``check_leaf_item``; of types that it does not look at, what
fs/btrfs writes.
"""

from __future__ import annotations

from btrimg.named import NamedTuple
from btrimg.ondisk import chunks, inodes, roots
from btrimg.ondisk.constants import (
    DEV_ITEMS_OBJECTID,
    FIRST_CHUNK_TREE_OBJECTID,
    MAX_LEVEL,
    U64_MAX,
    ItemType,
    TreeId,
)
from btrimg.ondisk.extents import ExtentDataRef, ExtentItem, FileExtentInline, SharedDataRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NO_LIMIT = 1 << 32  #: more bytes than any payload has
INODES = (TreeId.FIRST_FREE, TreeId.LAST_FREE)  #: least and greatest number of one


class Law(NamedTuple):
    """What must hold of the key and the size of an item of one type."""

    least: int = 0  #: bytes of payload
    most: int = NO_LIMIT
    step: int = 1  #: what bytes there are beyond *least* are a multiple of it
    objectid: tuple[int, int] = (0, U64_MAX)  #: least and greatest
    offset: tuple[int, int] = (0, U64_MAX)
    aligned: Sequence[str] = ()  #: which of "objectid" and "offset" are multiples of the sector size


def _exactly(size: int, **more: object) -> Law:
    return Law(size, size, **more)  # type: ignore[arg-type]


_ADDRESS, _START, _RANGE = ("objectid",), ("offset",), ("objectid", "offset")
_ZERO = (0, 0)
_NAME = 1  # of the shortest name


def laws(csum_size: int) -> dict[int, Law]:
    """Return the law for each type of item that there is one for."""
    one_dir_item, uuid = inodes.DirItem.SIZE + _NAME, roots.UuidSubvolume.SIZE
    chunk, stripe = chunks.Chunk.SIZE, chunks.Stripe.SIZE
    legacy, root = roots.LEGACY_ROOT_ITEM_SIZE, roots.RootItem.SIZE
    return {
        ItemType.UNTYPED: _exactly(chunks.FreeSpaceHeader.SIZE, objectid=(TreeId.FREE_INO, TreeId.FREE_SPACE)),
        ItemType.INODE_ITEM: _exactly(inodes.InodeItem.SIZE, objectid=INODES, offset=_ZERO),
        ItemType.INODE_REF: Law(inodes.InodeRef.SIZE + _NAME, objectid=INODES),
        ItemType.INODE_EXTREF: Law(inodes.InodeExtref.SIZE + _NAME, objectid=INODES),
        ItemType.XATTR_ITEM: Law(one_dir_item, objectid=INODES),
        ItemType.ORPHAN_ITEM: _exactly(0, objectid=(TreeId.ORPHAN,) * 2),
        ItemType.DIR_LOG_ITEM: _exactly(inodes.DirLogItem.SIZE, objectid=INODES),
        ItemType.DIR_LOG_INDEX: _exactly(inodes.DirLogItem.SIZE, objectid=INODES),
        ItemType.DIR_ITEM: Law(one_dir_item, objectid=INODES),
        ItemType.DIR_INDEX: Law(one_dir_item, objectid=INODES),
        ItemType.EXTENT_DATA: Law(FileExtentInline.SIZE, objectid=INODES, aligned=_START),
        ItemType.EXTENT_CSUM: Law(csum_size, step=csum_size, objectid=(TreeId.EXTENT_CSUM,) * 2, aligned=_START),
        ItemType.ROOT_ITEM: Law(legacy, root, root - legacy, objectid=(1, U64_MAX)),
        ItemType.ROOT_BACKREF: Law(roots.RootRef.SIZE + _NAME),
        ItemType.ROOT_REF: Law(roots.RootRef.SIZE + _NAME),
        ItemType.EXTENT_ITEM: Law(ExtentItem.SIZE, aligned=_RANGE),
        ItemType.METADATA_ITEM: Law(ExtentItem.SIZE, offset=(0, MAX_LEVEL - 1), aligned=_ADDRESS),
        ItemType.TREE_BLOCK_REF: _exactly(0, aligned=_ADDRESS),
        ItemType.EXTENT_DATA_REF: Law(ExtentDataRef.SIZE, step=ExtentDataRef.SIZE, aligned=_ADDRESS),
        ItemType.SHARED_BLOCK_REF: _exactly(0, aligned=_RANGE),
        ItemType.SHARED_DATA_REF: _exactly(SharedDataRef.SIZE, aligned=_RANGE),
        ItemType.BLOCK_GROUP_ITEM: _exactly(chunks.BlockGroupItem.SIZE, aligned=_RANGE),
        ItemType.FREE_SPACE_INFO: _exactly(chunks.FreeSpaceInfo.SIZE, aligned=_RANGE),
        ItemType.FREE_SPACE_EXTENT: _exactly(0, aligned=_RANGE),
        ItemType.FREE_SPACE_BITMAP: Law(1, aligned=_RANGE),
        ItemType.DEV_EXTENT: _exactly(chunks.DevExtent.SIZE, aligned=_START),
        ItemType.DEV_ITEM: _exactly(chunks.DevItem.SIZE, objectid=(DEV_ITEMS_OBJECTID,) * 2),
        ItemType.CHUNK_ITEM: Law(
            chunk + stripe, step=stripe, objectid=(FIRST_CHUNK_TREE_OBJECTID,) * 2, aligned=_START
        ),
        ItemType.RAID_STRIPE: Law(chunks.RaidStride.SIZE, step=chunks.RaidStride.SIZE, aligned=_RANGE),
        ItemType.QGROUP_STATUS: Law(32, roots.QgroupStatus.SIZE, 8, objectid=_ZERO, offset=_ZERO),
        ItemType.QGROUP_INFO: _exactly(roots.QgroupInfo.SIZE, objectid=_ZERO),
        ItemType.QGROUP_LIMIT: _exactly(roots.QgroupLimit.SIZE, objectid=_ZERO),
        ItemType.QGROUP_RELATION: _exactly(0),
        # A balance, or a change of checksums, which has no payload.
        ItemType.TEMPORARY_ITEM: Law(0, chunks.BalanceItem.SIZE, chunks.BalanceItem.SIZE),
        ItemType.PERSISTENT_ITEM: Law(0, chunks.DevStats.SIZE, 8, objectid=_ZERO),
        ItemType.DEV_REPLACE: _exactly(chunks.DevReplace.SIZE, objectid=_ZERO, offset=_ZERO),
        ItemType.UUID_KEY_SUBVOL: Law(uuid, step=uuid),
        ItemType.UUID_KEY_RECEIVED_SUBVOL: Law(uuid, step=uuid),
    }

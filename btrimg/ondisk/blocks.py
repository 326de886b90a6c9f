"""Tree blocks: the key, the header, and the two kinds of slots."""

from __future__ import annotations

from btrimg.named import NamedTuple
from btrimg.ondisk.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.fields import U8, U32, U64, Csum, Uuid


class Key(NamedTuple):
    """Address of an item in a tree; keys sort as tuples. On disk it is a :class:`DiskKey`."""

    objectid: int
    type: int
    offset: int


KEY_MIN = Key(0, 0, 0)
KEY_MAX = Key((1 << 64) - 1, 255, (1 << 64) - 1)


class DiskKey(Record):
    """Key of an item as stored (``struct btrfs_disk_key``)."""

    objectid: U64
    type: U8  #: an ItemType
    offset: U64


class Header(Record):
    """Start of every tree block, leaf or node (``struct btrfs_header``)."""

    csum: Csum  #: of bytes [32, nodesize); left-aligned, the rest is kept as found
    fsid: Uuid  #: the superblock's metadata_uuid if METADATA_UUID is set, else its fsid
    bytenr: U64  #: logical address that the block believes it has
    flags: U64  #: HeaderFlag in the low 56 bits, backref revision in the top 8
    chunk_tree_uuid: Uuid  #: the same in all blocks
    generation: U64  #: transid that wrote the block; the parent pointer repeats it
    owner: U64  #: objectid of the tree the block was allocated for
    nritems: U32  #: slots
    level: U8  #: 0 for a leaf


class Item(Record):
    """Slot of a leaf (``struct btrfs_item``)."""

    key: DiskKey
    offset: U32  #: of the payload, in bytes from the end of the header
    size: U32  #: bytes of payload


class KeyPtr(Record):
    """Slot of a node (``struct btrfs_key_ptr``)."""

    key: DiskKey  #: first key of the child
    blockptr: U64  #: logical address of the child
    generation: U64  #: of the child

"""Numbers that btrfs gives meaning to: tree ids, item key types, flags.

Source unless said otherwise: ``include/uapi/linux/btrfs_tree.h`` and ``include/uapi/linux/btrfs.h`` of Linux 6.18.
Records hold raw integers; these enums are applied where a number is used or shown, so that unknown bits stay.
"""

from __future__ import annotations

import stat

from btrimg.enums import IntEnum, IntFlag

MAGIC = int.from_bytes(b"_BHRfS_M", "little")
SUPERBLOCK_SIZE = 4096
SUPERBLOCK_OFFSETS = (64 << 10, 64 << 20, 256 << 30)  #: device offsets; fs/btrfs/disk-io.c btrfs_sb_offset
STRIPE_LEN = 64 << 10  #: fixed since the chunk tree exists (BTRFS_STRIPE_LEN); other values are refused
MAX_COMPRESSED = 128 << 10  #: ram_bytes of a compressed extent never exceeds this (BTRFS_MAX_UNCOMPRESSED)
MAX_LEVEL = 8  #: levels 0..7 (BTRFS_MAX_LEVEL)
NAME_MAX = 255
U64_MAX = (1 << 64) - 1


class TreeId(IntEnum):
    """Objectids of trees, and of pseudo objects that own items in them; negative ones are stored as u64."""

    ROOT_TREE = 1
    EXTENT_TREE = 2
    CHUNK_TREE = 3
    DEV_TREE = 4
    FS_TREE = 5
    ROOT_TREE_DIR = 6
    CSUM_TREE = 7
    QUOTA_TREE = 8
    UUID_TREE = 9
    FREE_SPACE_TREE = 10
    BLOCK_GROUP_TREE = 11
    RAID_STRIPE_TREE = 12
    REMAP_TREE = 13
    FIRST_FREE = 256
    LAST_FREE = (1 << 64) - 256
    BALANCE = (1 << 64) - 4
    ORPHAN = (1 << 64) - 5
    TREE_LOG = (1 << 64) - 6
    TREE_LOG_FIXUP = (1 << 64) - 7
    TREE_RELOC = (1 << 64) - 8
    DATA_RELOC_TREE = (1 << 64) - 9
    EXTENT_CSUM = (1 << 64) - 10
    FREE_SPACE = (1 << 64) - 11
    FREE_INO = (1 << 64) - 12
    CSUM_CHANGE = (1 << 64) - 13
    MULTIPLE = (1 << 64) - 255


DEV_ITEMS_OBJECTID = 1  #: objectid of DEV_ITEM keys in the chunk tree
DEV_STATS_OBJECTID = 0
FIRST_CHUNK_TREE_OBJECTID = 256
EMPTY_SUBVOL_DIR_OBJECTID = 2  #: stands where a snapshot's origin had a subvolume
DEV_REPLACE_DEVID = 0


class ItemType(IntEnum):
    """The type byte of item keys."""

    UNTYPED = 0
    INODE_ITEM = 1
    INODE_REF = 12
    INODE_EXTREF = 13
    XATTR_ITEM = 24
    VERITY_DESC_ITEM = 36
    VERITY_MERKLE_ITEM = 37
    ORPHAN_ITEM = 48
    DIR_LOG_ITEM = 60
    DIR_LOG_INDEX = 72
    DIR_ITEM = 84
    DIR_INDEX = 96
    EXTENT_DATA = 108
    CSUM_ITEM = 120
    EXTENT_CSUM = 128
    ROOT_ITEM = 132
    ROOT_BACKREF = 144
    ROOT_REF = 156
    EXTENT_ITEM = 168
    METADATA_ITEM = 169
    EXTENT_OWNER_REF = 172
    TREE_BLOCK_REF = 176
    EXTENT_DATA_REF = 178
    EXTENT_REF_V0 = 180
    SHARED_BLOCK_REF = 182
    SHARED_DATA_REF = 184
    BLOCK_GROUP_ITEM = 192
    FREE_SPACE_INFO = 198
    FREE_SPACE_EXTENT = 199
    FREE_SPACE_BITMAP = 200
    DEV_EXTENT = 204
    DEV_ITEM = 216
    CHUNK_ITEM = 228
    RAID_STRIPE = 230
    IDENTITY_REMAP = 234
    REMAP = 235
    REMAP_BACKREF = 236
    QGROUP_STATUS = 240
    QGROUP_INFO = 242
    QGROUP_LIMIT = 244
    QGROUP_RELATION = 246
    TEMPORARY_ITEM = 248
    PERSISTENT_ITEM = 249
    DEV_REPLACE = 250
    UUID_KEY_SUBVOL = 251
    UUID_KEY_RECEIVED_SUBVOL = 252
    STRING_ITEM = 253


class CsumType(IntEnum):
    """``csum_type`` of the superblock."""

    CRC32C = 0
    XXHASH64 = 1
    SHA256 = 2
    BLAKE2B = 3


class CompatRo(IntFlag):
    """Features that a writer must know; a reader may ignore them."""

    FREE_SPACE_TREE = 1 << 0
    FREE_SPACE_TREE_VALID = 1 << 1
    VERITY = 1 << 2
    BLOCK_GROUP_TREE = 1 << 3


class Incompat(IntFlag):
    """Features without which nobody may read the image."""

    MIXED_BACKREF = 1 << 0
    DEFAULT_SUBVOL = 1 << 1
    MIXED_GROUPS = 1 << 2
    COMPRESS_LZO = 1 << 3
    COMPRESS_ZSTD = 1 << 4
    BIG_METADATA = 1 << 5
    EXTENDED_IREF = 1 << 6
    RAID56 = 1 << 7
    SKINNY_METADATA = 1 << 8
    NO_HOLES = 1 << 9
    METADATA_UUID = 1 << 10
    RAID1C34 = 1 << 11
    ZONED = 1 << 12
    EXTENT_TREE_V2 = 1 << 13
    RAID_STRIPE_TREE = 1 << 14
    SIMPLE_QUOTA = 1 << 16
    REMAP_TREE = 1 << 17


class SuperFlag(IntFlag):
    """``flags`` of the superblock."""

    WRITTEN = 1 << 0
    RELOC = 1 << 1
    ERROR = 1 << 2
    SEEDING = 1 << 32
    METADUMP = 1 << 33
    METADUMP_V2 = 1 << 34
    CHANGING_FSID = 1 << 35
    CHANGING_FSID_V2 = 1 << 36
    CHANGING_BG_TREE = 1 << 38
    CHANGING_DATA_CSUM = 1 << 39
    CHANGING_META_CSUM = 1 << 40


class HeaderFlag(IntFlag):
    """Low 56 bits of a tree block's ``flags``; the backref revision is in the top 8."""

    WRITTEN = 1 << 0
    RELOC = 1 << 1


BACKREF_REV_SHIFT = 56


class BlockGroup(IntFlag):
    """``type`` of a chunk, ``flags`` of a block group: what it holds, and its profile (no profile bit: single)."""

    DATA = 1 << 0
    SYSTEM = 1 << 1
    METADATA = 1 << 2
    RAID0 = 1 << 3
    RAID1 = 1 << 4
    DUP = 1 << 5
    RAID10 = 1 << 6
    RAID5 = 1 << 7
    RAID6 = 1 << 8
    RAID1C3 = 1 << 9
    RAID1C4 = 1 << 10
    REMAPPED = 1 << 11
    METADATA_REMAP = 1 << 12


PROFILE_MASK = 0x7F8  #: the profile bits, RAID0 to RAID1C4 (BTRFS_BLOCK_GROUP_PROFILE_MASK)


class ExtentFlag(IntFlag):
    """``flags`` of an extent item."""

    DATA = 1 << 0
    TREE_BLOCK = 1 << 1
    FULL_BACKREF = 1 << 8


class FileExtentType(IntEnum):
    """``type`` of a file extent item."""

    INLINE = 0
    REGULAR = 1
    PREALLOC = 2


class Compression(IntEnum):
    """``compression`` of a file extent item."""

    NONE = 0
    ZLIB = 1
    LZO = 2
    ZSTD = 3


class InodeFlag(IntFlag):
    """``flags`` of an inode item; the read-only ones stand in the upper half (since verity, v5.15)."""

    NODATASUM = 1 << 0
    NODATACOW = 1 << 1
    READONLY = 1 << 2
    NOCOMPRESS = 1 << 3
    PREALLOC = 1 << 4
    SYNC = 1 << 5
    IMMUTABLE = 1 << 6
    APPEND = 1 << 7
    NODUMP = 1 << 8
    NOATIME = 1 << 9
    DIRSYNC = 1 << 10
    COMPRESS = 1 << 11
    ROOT_ITEM_INIT = 1 << 31
    VERITY = 1 << 32


class RootFlag(IntFlag):
    """``flags`` of a root item."""

    SUBVOL_RDONLY = 1 << 0
    SUBVOL_DEAD = 1 << 48


class FileType(IntEnum):
    """``type`` of a directory entry; the kernel's FT_* numbers (bit 0x80 marks an encrypted name)."""

    UNKNOWN = 0
    REG_FILE = 1
    DIR = 2
    CHRDEV = 3
    BLKDEV = 4
    FIFO = 5
    SOCK = 6
    SYMLINK = 7
    XATTR = 8


#: What a directory entry says of an inode, by the type in its mode.
FILE_TYPES: dict[int, FileType] = {
    stat.S_IFREG: FileType.REG_FILE,
    stat.S_IFDIR: FileType.DIR,
    stat.S_IFCHR: FileType.CHRDEV,
    stat.S_IFBLK: FileType.BLKDEV,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCK,
    stat.S_IFLNK: FileType.SYMLINK,
}
FILE_TYPE_ENCRYPTED = 0x80


class QgroupStatusFlag(IntFlag):
    """``flags`` of a qgroup status item."""

    ON = 1 << 0
    RESCAN = 1 << 1
    INCONSISTENT = 1 << 2
    SIMPLE_MODE = 1 << 3


class QgroupLimitFlag(IntFlag):
    """``flags`` of a qgroup limit item: which of the limits hold."""

    MAX_RFER = 1 << 0
    MAX_EXCL = 1 << 1
    RSV_RFER = 1 << 2
    RSV_EXCL = 1 << 3
    RFER_CMPR = 1 << 4
    EXCL_CMPR = 1 << 5


class FreeSpaceFlag(IntFlag):
    """``flags`` of a free space info item."""

    USING_BITMAPS = 1 << 0


class BalanceFlag(IntFlag):
    """``flags`` of a balance item: what is balanced."""

    DATA = 1 << 0
    SYSTEM = 1 << 1
    METADATA = 1 << 2
    FORCE = 1 << 3
    RESUME = 1 << 4


class BalanceArgsFlag(IntFlag):
    """``flags`` of disk_balance_args: which filters hold."""

    PROFILES = 1 << 0
    USAGE = 1 << 1
    DEVID = 1 << 2
    DRANGE = 1 << 3
    VRANGE = 1 << 4
    LIMIT = 1 << 5
    LIMIT_RANGE = 1 << 6
    STRIPES_RANGE = 1 << 7
    CONVERT = 1 << 8
    SOFT = 1 << 9
    USAGE_RANGE = 1 << 10

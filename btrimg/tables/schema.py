"""The relations, each declared once: what a row is, and name, type, unit and meaning of every column.

What is built, ``btrimg sql --schema`` and docs/tables.md all follow from here. Names and types stay as they are once
released; columns may be added at the end.
"""

from __future__ import annotations

from btrimg.filesystem.columns import KINDS
from btrimg.filesystem.extents import COMPRESSION_NAMES
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.tables.relation import (
    BYTES,
    FILE,
    LOGICAL,
    PHYSICAL,
    TRANSID,
    Column,
    Relation,
    i64,
    text,
    time,
    u8,
    u16,
    u32,
    u64,
)
from btrimg.volume.profiles import PROFILES

HOLDS = tuple("+".join(w for b, w in enumerate(("data", "system", "metadata")) if n >> b & 1) for n in range(8))
PROFILE_NAMES = (*(profile.name for profile in PROFILES.values()), "")
EXTENT_KINDS = ("data", "tree block")
NAME_SOURCES = {  # by key type: the word in ``names.source``
    ItemType.DIR_ITEM: "dir_item",
    ItemType.DIR_INDEX: "dir_index",
    ItemType.INODE_REF: "inode_ref",
    ItemType.INODE_EXTREF: "inode_extref",
}
BACKREF_KINDS = {  # by key type, and type of an inline reference: the word in ``backrefs.kind``
    ItemType.TREE_BLOCK_REF: "tree_block",
    ItemType.SHARED_BLOCK_REF: "shared_block",
    ItemType.EXTENT_DATA_REF: "extent_data",
    ItemType.SHARED_DATA_REF: "shared_data",
    ItemType.EXTENT_OWNER_REF: "owner",
}
FREE_SPACE_SOURCES = ("extent", "bitmap", "cache")
DEVICE_HOLDS = ("superblock", "tree block", "data", "parity", "free", "reserved", "unallocated")

_SUBVOLUME = u64("subvolume", "id of the subvolume; what snapshots share has a row for each of them")
_TREE = u64("tree", "id of the tree that the item stands in")
_FILES = (TreeId.FS_TREE,)
_BLOCK_GROUP = (
    u64("flags", "BlockGroup bits"),
    text("holds", "what the flags say of the contents", *HOLDS),
    text("profile", "what they say of the profile, empty when it is none", *PROFILE_NAMES),
)

SUPERBLOCK = Relation(
    "superblock",
    "The superblock in use, one row.",
    (
        text("fsid", "uuid of the filesystem"),
        text("metadata_uuid", "uuid in tree blocks: fsid unless it was changed"),
        text("label", "label; bytes that are not UTF-8 as \\xNN"),
        u64("generation", "last commit", TRANSID),
        u64("root", "block of the root tree", LOGICAL),
        u64("chunk_root", "block of the chunk tree", LOGICAL),
        u64("log_root", "block of the log root tree, 0 without one", LOGICAL),
        u64("total_bytes", "size of all devices", BYTES),
        u64("bytes_used", "in extents", BYTES),
        u64("num_devices", "devices"),
        u32("sectorsize", "that one data checksum covers", BYTES),
        u32("nodesize", "of a tree block", BYTES),
        u16("csum_type", "CsumType"),
        u64("flags", "SuperFlag bits"),
        u64("compat_flags", "none is known"),
        u64("compat_ro_flags", "CompatRo bits"),
        u64("incompat_flags", "Incompat bits"),
        u64("cache_generation", "of the v1 space cache", TRANSID),
    ),
)
DEVICES = Relation(
    "devices",
    "A device that the chunk tree names (DEV_ITEM).",
    (
        u64("devid", "id of the device"),
        text("uuid", "uuid of the device"),
        text("fsid", "uuid of the filesystem that it was made for; a seed's is another"),
        u64("total_bytes", "size", BYTES),
        u64("bytes_used", "in device extents", BYTES),
        text("path", "file that was opened for it, empty when it is missing"),
        u64("key_devid", "id of the device by the item's key"),
    ),
    trees=(TreeId.CHUNK_TREE,),
    items=(ItemType.DEV_ITEM,),
)
CHUNKS = Relation(
    "chunks",
    "A mapping of logical to physical addresses (CHUNK_ITEM).",
    (
        u64("logical", "start", LOGICAL),
        u64("length", "logical bytes", BYTES),
        *_BLOCK_GROUP,
        u64("stripe_len", "of an element of a row", BYTES),
        u16("num_stripes", "stripes"),
        u16("sub_stripes", "copies in raid10, as stored; not to be trusted"),
        u64("owner", "tree that uses it: always 2, the extent tree"),
        u32("sector_size", "that of the filesystem", BYTES),
    ),
    trees=(TreeId.CHUNK_TREE,),
    items=(ItemType.CHUNK_ITEM,),
)
STRIPES = Relation(
    "stripes",
    "One device's part of a chunk (within CHUNK_ITEM).",
    (
        u64("chunk", "start of the chunk", LOGICAL),
        u16("number", "of the stripe in the chunk, from 0"),
        u64("devid", "id of the device"),
        u64("physical", "start on the device", PHYSICAL),
        text("dev_uuid", "uuid of the device"),
    ),
    trees=(TreeId.CHUNK_TREE,),
    items=(ItemType.CHUNK_ITEM,),
)
DEV_EXTENTS = Relation(
    "dev_extents",
    "Footprint of a chunk on a device (DEV_EXTENT).",
    (
        u64("devid", "id of the device"),
        u64("physical", "start on the device", PHYSICAL),
        u64("length", "on the device", BYTES),
        u64("chunk", "start of the chunk", LOGICAL),
        u64("chunk_tree", "tree that the chunk stands in: always 3"),
        u64("chunk_objectid", "objectid of the chunk's key: always 256"),
    ),
    trees=(TreeId.DEV_TREE,),
    items=(ItemType.DEV_EXTENT,),
)
BLOCK_GROUPS = Relation(
    "block_groups",
    "Accounting of a chunk (BLOCK_GROUP_ITEM).",
    (
        u64("logical", "start", LOGICAL),
        u64("length", "logical bytes", BYTES),
        u64("used", "in extents", BYTES),
        *_BLOCK_GROUP,
        u64("chunk_objectid", "objectid of the chunk's key: always 256"),
    ),
    trees=(TreeId.EXTENT_TREE, TreeId.BLOCK_GROUP_TREE),
    items=(ItemType.BLOCK_GROUP_ITEM,),
)
ROOTS = Relation(
    "roots",
    "A root item of the root tree (ROOT_ITEM): a tree, a subvolume, a snapshot.",
    (
        u64("id", "of the tree"),
        u64("key_offset", "0, or the transid that made a snapshot, or what a reloc tree copies"),
        u64("logical", "root block", LOGICAL),
        u8("level", "of the root block"),
        u64("generation", "that wrote the root block", TRANSID),
        u32("refs", "0 while the subvolume is being deleted"),
        u64("flags", "RootFlag bits"),
        u64("bytes_used", "by the tree's blocks", BYTES),
        u64("last_snapshot", "of the last snapshot taken of it", TRANSID),
        u64("root_dirid", "inode of the top directory"),
        u64("drop_objectid", "how far a deletion came: objectid of the key, 0 when none began"),
        u8("drop_level", "likewise, the level of the node"),
        u64("generation_v2", "generation, where whoever wrote it knows the whole item; else not", TRANSID),
    ),
    trees=(TreeId.ROOT_TREE,),
    items=(ItemType.ROOT_ITEM,),
)
SUBVOLUMES = Relation(
    "subvolumes",
    "A subvolume or snapshot, also one being deleted; uuids and times are 0 where an old kernel left none.",
    (
        u64("id", "of the subvolume"),
        u64("parent", "id of the subvolume that it hangs in, 0 for the top-level one and one that hangs nowhere"),
        u64("dirid", "inode of the directory that it hangs in"),
        text("name", "in that directory; bytes that are not UTF-8 as \\xNN"),
        text("path", "from the top-level subvolume; empty for that and for one that hangs nowhere"),
        Column("read_only", "?", "whether nothing may be written to it"),
        u64("generation", "of its last commit", TRANSID),
        text("uuid", "uuid"),
        text("parent_uuid", "of the subvolume that it is a snapshot of"),
        text("received_uuid", "of the subvolume that it was received from"),
        u64("otransid", "of its creation", TRANSID),
        *time("otime", "creation"),
    ),
)
TREE_BLOCKS = Relation(
    "tree_blocks",
    "A sound tree block that can be reached from the superblock, once however many trees share it.",
    (
        u64("logical", "start", LOGICAL),
        u64("owner", "tree that it was allocated for"),
        u8("level", "0 for a leaf"),
        u64("generation", "that wrote it", TRANSID),
        u64("flags", "HeaderFlag bits, backref revision in the top 8"),
        u32("items", "slots"),
        u32("fill", "taken by header, slots and payloads", BYTES),
    ),
)
TREE_BLOCKS_WITH_COPIES = TREE_BLOCKS._replace(
    columns=(
        *TREE_BLOCKS.columns,
        text("csum", "of each copy in order, separated by spaces: ok, bad (or another block), missing (or unreadable)"),
    )
)
INODES = Relation(
    "inodes",
    "An inode (INODE_ITEM).",
    (
        u64("inode", "number"),
        u64("generation", "that created it", TRANSID),
        u64("transid", "that last changed it", TRANSID),
        u64("size", "of the file", BYTES),
        u64("nbytes", "in extents, uncompressed, without holes", BYTES),
        u32("nlink", "names"),
        u32("uid", "owner"),
        u32("gid", "group"),
        u32("mode", "type and permissions, as st_mode"),
        u64("rdev", "device number of a special file: major << 20 | minor"),
        u64("flags", "InodeFlag bits"),
        u64("sequence", "NFS change counter"),
        *time("atime", "last access"),
        *time("ctime", "last change of the inode"),
        *time("mtime", "last change of the contents"),
        *time("otime", "creation"),
    ),
    _SUBVOLUME,
    _FILES,
    items=(ItemType.INODE_ITEM,),
)
NAMES = Relation(
    "names",
    "A name, once for each item that has it: two entries of the directory and one reference of the inode.",
    (
        text("source", "type of the item", *NAME_SOURCES.values()),
        u64("parent", "inode of the directory"),
        u64("inode", "that is named; of an entry for a subvolume, the subvolume's id"),
        u64("index", "place in the directory's order; 0 for a dir_item, which does not say"),
        u64("hash", "of the name, as the key has it, of a dir_item or inode_extref; else 0"),
        u8("location_type", "of an entry: key type of what it leads to, INODE_ITEM or ROOT_ITEM; else 0"),
        u8("type", "of an entry: FileType; else 0"),
        u64("transid", "of an entry: that made it; else 0", TRANSID),
        text("name", "bytes that are not UTF-8 as \\xNN"),
        u16("name_length", "of the name", BYTES),
        u32("expected_hash", "of the name, of a dir_item or inode_extref; else 0"),
    ),
    _SUBVOLUME,
    _FILES,
    items=tuple(NAME_SOURCES),
)
XATTRS = Relation(
    "xattrs",
    "An extended attribute (within XATTR_ITEM).",
    (
        u64("inode", "that has it"),
        u64("hash", "of the name, as the key has it"),
        text("name", "with its prefix; bytes that are not UTF-8 as \\xNN"),
        Column("value", "bytes", "value"),
        u16("name_length", "of the name", BYTES),
        u16("value_length", "of the value", BYTES),
        u32("expected_hash", "of the name"),
    ),
    _SUBVOLUME,
    _FILES,
    items=(ItemType.XATTR_ITEM,),
)
FILE_EXTENTS = Relation(
    "file_extents",
    "A file's use of part of an extent (EXTENT_DATA); where there is no extent its numbers are 0.",
    (
        u64("inode", "of the file"),
        i64("offset", "start in the file", FILE),
        i64("length", "of the file", BYTES),
        text("kind", "kind", *KINDS),
        text("compression", "algorithm", *COMPRESSION_NAMES.values()),
        i64("extent", "start of the whole extent", LOGICAL),
        i64("extent_length", "allocated", BYTES),
        i64("extent_offset", "skipped at the start of the extent, uncompressed", BYTES),
        i64("ram_bytes", "of the whole extent, uncompressed", BYTES),
        u64("generation", "that wrote it", TRANSID),
        u32("inline_stored", "of inline data: in the item; else 0", BYTES),
        u64("inline_ram_bytes", "of inline data: uncompressed, as the item says; else 0", BYTES),
    ),
    _SUBVOLUME,
    _FILES,
    items=(ItemType.EXTENT_DATA,),
)
EXTENTS = Relation(
    "extents",
    "An allocated range (EXTENT_ITEM, METADATA_ITEM).",
    (
        u64("logical", "start", LOGICAL),
        u64("length", "length", BYTES),
        text("kind", "what it holds", *EXTENT_KINDS),
        u8("level", "of a tree block; else 0"),
        u64("refs", "references, the sum of backrefs.count but of owners"),
        u64("generation", "that allocated it", TRANSID),
        u64("flags", "ExtentFlag bits"),
    ),
    trees=(TreeId.EXTENT_TREE,),
    items=(ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM),
)
BACKREFS = Relation(
    "backrefs",
    "The extent tree's record of a use of an extent, within the extent's item or as an item of its own.",
    (
        u64("extent", "start of the extent", LOGICAL),
        text("kind", "type of the reference", *BACKREF_KINDS.values()),
        Column("inline", "?", "whether it stands within the extent's item"),
        u64("root", "of tree_block, extent_data and owner: id of the tree; else 0"),
        u64("parent", "of shared_block and shared_data: the block that refers to it; else 0", LOGICAL),
        u64("inode", "of extent_data; else 0"),
        i64("offset", "of extent_data: file offset minus extent_offset of the file extents; else 0", FILE),
        u32("count", "of extent_data and shared_data: file extents; else 1"),
    ),
    trees=(TreeId.EXTENT_TREE,),
    items=(
        ItemType.EXTENT_ITEM,
        ItemType.METADATA_ITEM,
        ItemType.TREE_BLOCK_REF,
        ItemType.SHARED_BLOCK_REF,
        ItemType.EXTENT_DATA_REF,
        ItemType.SHARED_DATA_REF,
    ),
)
CSUMS = Relation(
    "csums",
    "A range of data that has checksums (EXTENT_CSUM).",
    (
        u64("logical", "start", LOGICAL),
        u64("length", "that the checksums cover", BYTES),
    ),
    trees=(TreeId.CSUM_TREE,),
    items=(ItemType.EXTENT_CSUM,),
)
FREE_SPACE = Relation(
    "free_space",
    "A free range, as the free space tree says (FREE_SPACE_EXTENT, or a run of bits of FREE_SPACE_BITMAP), or the v1"
    " space cache of a block group, where it is of the last commit.",
    (
        u64("logical", "start", LOGICAL),
        u64("length", "length", BYTES),
        text("source", "type of the item, or the cache", *FREE_SPACE_SOURCES),
    ),
    trees=(TreeId.FREE_SPACE_TREE,),
    items=(ItemType.FREE_SPACE_EXTENT, ItemType.FREE_SPACE_BITMAP),
)
QGROUPS = Relation(
    "qgroups",
    "A quota group (QGROUP_INFO, and QGROUP_LIMIT of the same key).",
    (
        u64("id", "level << 48 | subvolume"),
        u16("level", "0 for that of one subvolume"),
        u64("generation", "of the numbers", TRANSID),
        u64("rfer", "referenced", BYTES),
        u64("rfer_cmpr", "referenced, compressed", BYTES),
        u64("excl", "that no other group references", BYTES),
        u64("excl_cmpr", "likewise, compressed", BYTES),
        u64("limit_flags", "QgroupLimitFlag bits: which of the limits hold"),
        u64("max_rfer", "limit of rfer", BYTES),
        u64("max_excl", "limit of excl", BYTES),
    ),
)
ORPHANS = Relation(
    "orphans",
    "What is to be deleted (ORPHAN_ITEM): an inode of a subvolume, or, in the root tree, a subvolume.",
    (u64("objectid", "inode number, or id of the subvolume"),),
    _TREE,
    (TreeId.ROOT_TREE, *_FILES),
    items=(ItemType.ORPHAN_ITEM,),
)
PHYSICAL_RANGES = Relation(
    "physical",
    "A range of a device that is there, with what it holds; no gaps, no overlaps, every copy of everything.",
    (
        u64("devid", "id of the device"),
        u64("physical", "start on the device", PHYSICAL),
        u64("length", "length", BYTES),
        text("holds", "what it holds; free is within a chunk, unallocated and reserved in none", *DEVICE_HOLDS),
        u64("logical", "of the first byte, of parity that of its row; 0 in no chunk", LOGICAL),
        u64("chunk", "start of the chunk; 0 in no chunk", LOGICAL),
        u8("copy", "number of the copy, from 0; of parity 0 for P and 1 for Q; in no chunk 0"),
        u64("extent", "start of the extent of data or tree block; else 0", LOGICAL),
    ),
)

RELATIONS = {
    relation.name: relation
    for relation in (
        SUPERBLOCK,
        DEVICES,
        CHUNKS,
        STRIPES,
        DEV_EXTENTS,
        BLOCK_GROUPS,
        ROOTS,
        SUBVOLUMES,
        TREE_BLOCKS_WITH_COPIES,
        INODES,
        NAMES,
        XATTRS,
        FILE_EXTENTS,
        EXTENTS,
        BACKREFS,
        CSUMS,
        FREE_SPACE,
        QGROUPS,
        ORPHANS,
        PHYSICAL_RANGES,
    )
}

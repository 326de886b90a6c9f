"""The relations that only the checker has, declared as those of :mod:`btrimg.tables.schema` are."""

from __future__ import annotations

from btrimg.check import filedata, links, quotas, rootfacts
from btrimg.check.itemfaults import ITEM_FAULTS
from btrimg.check.scrub.copies import STATES
from btrimg.check.superblocks import ITEM_NUMBERS, NUMBERS
from btrimg.tables.relation import BYTES, FILE, LOGICAL, PHYSICAL, Column, Relation, i64, text, u8, u32, u64
from btrimg.tables.schema import BACKREF_KINDS, EXTENT_KINDS
from btrimg.trees.block import FAULTS

COPY_KINDS = ("data", "tree block", "nodatasum", "parity P", "parity Q")

BAD_BLOCKS = Relation(
    "bad_blocks",
    "A tree block of which no copy is what its parent promises; what hangs below it is in no relation.",
    (
        u64("logical", "start", LOGICAL),
        u64("tree", "id of a tree that leads to it, of several the first; 0 where that is not known"),
        u8("level", "that its parent says it has"),
        u64("parent", "node that leads to it; 0 for the root of a tree, and where it is not known", LOGICAL),
        text("fault", "what is wrong with it", *FAULTS),
        text("detail", "a phrase with what was found and expected"),
    ),
)
UNREAD_TREES = Relation(
    "unread_trees",
    "A tree without files that has a bad block; it is known before the leaves of files are read.",
    (u64("tree", "its id"),),
)
BAD_ITEMS = Relation(
    "bad_items",
    "An item that cannot be what its key says; or, where all is 0, something else that making the relations met.",
    (
        u64("leaf", "that it stands in", LOGICAL),
        u64("tree", "that owns the leaf; 0 of what is malformed"),
        u64("objectid", "of the key"),
        u8("type", "of the key, an ItemType"),
        u64("offset", "of the key"),
        text("kind", "name of the type"),
        text("fault", "what is wrong with it", *ITEM_FAULTS),
        u64("found", "the number that is wrong; 0 of what is malformed"),
        u64("expected", "the number that should be there, or the nearest that may; 0 of what is malformed"),
        text("detail", "of what is malformed: a phrase; else empty"),
    ),
)
BAD_COPIES = Relation(
    "bad_copies",
    "A range of a device that does not hold what it should, by the scrub; what is bad side by side is one row.",
    (
        u64("devid", "id of the device"),
        u64("physical", "start on the device", PHYSICAL),
        u64("length", "length", BYTES),
        text("kind", "what should be there; nodatasum is data without checksums", *COPY_KINDS),
        text("state", "what is wrong; what differs cannot be told from what it differs from", *STATES[1:]),
        u8("mirror", "number of the copy, from 1; 0 for parity"),
        u64("logical", "of the first byte; of parity, of the first byte of its row", LOGICAL),
        u8("intact", "good copies of the same bytes elsewhere; with parity, 1 where the rest of the row gives them"),
    ),
)
DISPUTED = Relation(
    "disputed",
    "A reference to an extent, by a tree block that was read or by the extent tree's record, of which the two do not"
    " say the same.",
    (
        u64("extent", "start of the extent", LOGICAL),
        text("kind", "type of the reference", *BACKREF_KINDS.values()),
        u64("root", "of tree_block and extent_data: id of the tree; else 0"),
        u64("parent", "of shared_block and shared_data: the block that refers to it; else 0", LOGICAL),
        u64("inode", "of extent_data; else 0"),
        i64("offset", "of extent_data: file offset minus extent_offset of the file extents; else 0", FILE),
        i64("uses", "how often the trees make it"),
        u64("recorded", "how often the extent tree says that they do"),
        i64("records", "in how many places it says so"),
        u64("length", "of the extent, as those who use it have it; 0 where nobody does", BYTES),
        u8("level", "of the tree block, as those who use it have it; else 0"),
        text("user", "who refers to it, in words"),
    ),
)
UNOWNED = Relation(
    "unowned",
    "A tree block whose owner does not refer to it, although its extent item is without the flag FULL_BACKREF.",
    (
        u64("logical", "start", LOGICAL),
        u64("owner", "id of the tree"),
    ),
)
RECOUNTED = Relation(
    "recounted",
    "An extent whose item counts other references than are recorded.",
    (
        u64("extent", "start", LOGICAL),
        u64("refs", "references by the item"),
        u64("recorded", "sum of the counts of all records"),
    ),
)
UNALIGNED_BACKREFS = Relation(
    "unaligned_backrefs",
    "A reference recorded in the extent tree of which a number is no multiple of the sector size.",
    (
        u64("extent", "start of the extent", LOGICAL),
        text("kind", "type of the reference", *BACKREF_KINDS.values()),
        u64("parent", "as in backrefs", LOGICAL),
        i64("offset", "as in backrefs", FILE),
        u32("sectorsize", "bytes of a sector", BYTES),
    ),
)
OWNER_REFS = Relation(
    "owner_refs",
    "The record of who is charged for an extent by simple quotas, within the extent's item.",
    (
        u64("extent", "start of the extent", LOGICAL),
        u64("root", "id of the subvolume that wrote it"),
        text("kind", "what the extent holds", *EXTENT_KINDS),
        Column("simple_quotas", "?", "whether the filesystem has simple quotas"),
    ),
)
SUPERBLOCKS = Relation(
    "superblocks",
    "A place for a superblock on a device that is there, and what stands at it; its numbers are 0 where nothing does.",
    (
        u64("devid", "id of the device"),
        u8("mirror", "number of the place, 0 for the primary"),
        u64("physical", "start on the device", PHYSICAL),
        u64("device_size", "size of the file or device", BYTES),
        text("state", "sound, bad or none"),
        text("fault", "of one that is not sound: why, a phrase"),
        Column("ours", "?", "whether it is of the filesystem, not of a seed"),
        text("differs", "fields that the primary superblock of the same commit has otherwise"),
        *(u64(name, "as in the superblock") for name in NUMBERS),
        *(u64(f"item_{name}", "as in its device item") for name in ITEM_NUMBERS),
        text("item_uuid", "uuid of the device, as in its device item"),
        text("item_fsid", "uuid of the filesystem, as in its device item"),
    ),
)
SUPERBLOCK_FIELDS = Relation(
    "superblock_fields",
    "A field of the first sound superblock of a device that cannot be so.",
    (
        u64("devid", "id of the device"),
        u8("mirror", "number of the place, 0 for the primary"),
        u64("physical", "start on the device", PHYSICAL),
        text("field", "name of the field"),
        u64("found", "what it holds"),
        text("expected", "what it should be, a phrase"),
        Column("refused", "?", "whether a kernel does not mount such a filesystem"),
    ),
)
SYSTEM_CHUNKS = Relation(
    "system_chunks",
    "A stripe of a chunk in the sys_chunk_array of the superblock in use.",
    (
        u64("logical", "start of the chunk", LOGICAL),
        u64("length", "of the chunk", BYTES),
        u64("flags", "of the chunk, BlockGroup bits"),
        u64("num_stripes", "of the chunk"),
        u64("number", "of the stripe in the chunk, from 0"),
        u64("devid", "id of the device"),
        u64("physical", "start on the device", PHYSICAL),
        text("dev_uuid", "uuid of the device"),
    ),
)
CACHED_SPACE = Relation(
    "cached_space",
    "A free range by a v1 space cache that a kernel would load; and what a kernel never gives out.",
    (
        u64("logical", "start", LOGICAL),
        u64("length", "length", BYTES),
        Column("reserved", "?", "whether a superblock lies there, so that the cache leaves it out"),
    ),
)
FREE_SPACE_INFOS = Relation(
    "free_space_infos",
    "Head of a block group in the free space tree (FREE_SPACE_INFO).",
    (
        u64("logical", "start of the block group", LOGICAL),
        u64("length", "of the block group", BYTES),
        u32("extent_count", "free ranges"),
        u32("flags", "FreeSpaceFlag bits"),
    ),
)
LOG_DATA = Relation(
    "log_data",
    "Data that a file with checksums uses, by a file extent in a log tree.",
    (
        u64("subvolume", "id of the subvolume whose log it is"),
        u64("inode", "of the file"),
        i64("offset", "start in the file", FILE),
        i64("logical", "start of the bytes that are to have checksums", LOGICAL),
        i64("length", "of these", BYTES),
        Column("checksummed", "?", "whether all of them have, in the log or in the checksum tree"),
    ),
)

RELATIONS = {
    relation.name: relation
    for relation in (
        BAD_BLOCKS,
        UNREAD_TREES,
        BAD_ITEMS,
        BAD_COPIES,
        DISPUTED,
        UNOWNED,
        RECOUNTED,
        UNALIGNED_BACKREFS,
        OWNER_REFS,
        LOG_DATA,
        SUPERBLOCKS,
        SUPERBLOCK_FIELDS,
        SYSTEM_CHUNKS,
        CACHED_SPACE,
        FREE_SPACE_INFOS,
        *links.RELATIONS,
        filedata.ODD_SIZES,
        *rootfacts.RELATIONS,
        *quotas.RELATIONS,
    )
}

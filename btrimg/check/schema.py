"""The relations that only the checker has, declared as those of :mod:`btrimg.tables.schema` are."""

from __future__ import annotations

from btrimg.check.copies import STATES
from btrimg.tables.relation import BYTES, LOGICAL, PHYSICAL, Relation, text, u8, u64

COPY_KINDS = ("data", "tree block", "nodatasum", "parity P", "parity Q", "superblock")

BAD_BLOCKS = Relation(
    "bad_blocks",
    "A tree block of which no copy is what its parent promises; what hangs below it is in no relation.",
    (
        u64("logical", "start, 0 where it is not known", LOGICAL),
        text("fault", "what is wrong with it"),
    ),
)
BAD_ITEMS = Relation(
    "bad_items",
    "An item, or part of one, that makes no sense; it is in no other relation.",
    (text("fault", "what is wrong with it"),),
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
        u8("mirror", "number of the copy, from 1; of a superblock from 0; 0 for parity"),
        u64("logical", "of the first byte; of parity, of the first byte of its row; 0 for a superblock", LOGICAL),
        u8("intact", "good copies of the same bytes elsewhere; with parity, 1 where the rest of the row gives them"),
    ),
)

RELATIONS = {relation.name: relation for relation in (BAD_BLOCKS, BAD_ITEMS, BAD_COPIES)}

"""The relations that only the checker has, declared as those of :mod:`btrimg.tables.schema` are."""

from __future__ import annotations

from btrimg.tables.relation import LOGICAL, Relation, text, u64

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

RELATIONS = {relation.name: relation for relation in (BAD_BLOCKS, BAD_ITEMS)}

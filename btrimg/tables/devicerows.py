"""Rows about devices, chunks and roots, of which there are few: names and uuids are made one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import CorruptError
from btrimg.filesystem import strings
from btrimg.filesystem.image import root_item
from btrimg.ondisk.chunks import Chunk, DevExtent, DevItem, Stripe
from btrimg.ondisk.constants import PROFILE_MASK, ItemType
from btrimg.tables.entries import sound
from btrimg.tables.schema import PROFILE_NAMES
from btrimg.trees.batches import ranges
from btrimg.volume.profiles import PROFILES
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.filesystem.strings import Strings
    from btrimg.ondisk.roots import RootItem
    from btrimg.tables.leafscan import Columns, Facts, Taken
    from btrimg.trees.leafbatch import LeafBatch

_PROFILE_CODES = {bits: number for number, bits in enumerate(PROFILES)}
_ROOT_FIELDS = (
    *("level", "generation", "refs", "flags", "bytes_used", "last_snapshot", "root_dirid"),
    *("drop_level", "generation_v2"),
)


def block_group(flags: NDArray[np.uint64]) -> Columns:
    """Return the columns that say what *flags* mean."""
    profiles = (_PROFILE_CODES.get(bits, len(PROFILE_NAMES) - 1) for bits in (flags & PROFILE_MASK).tolist())
    return {"flags": flags, "holds": flags & 7, "profile": np.fromiter(profiles, np.uint8, len(flags))}


def _uuids(values: NDArray[np.void]) -> Strings:
    return strings.of_list([uuid_text(value).encode() for value in values.tolist()])


def devices(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``devices``."""
    items = sound(batch.of_type(ItemType.DEV_ITEM), DevItem.SIZE, facts.report)
    record = items.records(DevItem)
    paths = [facts.device_paths.get(devid, b"") for devid in record["devid"].tolist()]
    return items, {
        **{name: record[name] for name in ("devid", "total_bytes", "bytes_used")},
        "uuid": _uuids(record["uuid"]),
        "fsid": _uuids(record["fsid"]),
        "path": strings.of_list(paths),
        "key_devid": items.offset,
    }


def chunks(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``chunks``."""
    items = sound(batch.of_type(ItemType.CHUNK_ITEM), Chunk.SIZE, facts.report)
    record = items.records(Chunk)
    plain = ("length", "stripe_len", "num_stripes", "sub_stripes", "owner", "sector_size")
    return items, {
        "logical": items.offset,
        **{name: record[name] for name in plain},
        **block_group(record["type"]),
    }


def stripes(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``stripes``: as many as the chunk says and there is room for."""
    items = batch.of_type(ItemType.CHUNK_ITEM)
    items = items.take(items.size >= Chunk.SIZE)
    says = items.records(Chunk)["num_stripes"].astype(np.int64)
    count = np.minimum(says, (items.size - Chunk.SIZE) // Stripe.SIZE)
    for item in np.flatnonzero(count < says).tolist():
        facts.report(items.error(item, f"of its {says[item]} stripes {count[item]} are there"))
    number = ranges(np.zeros(len(count), np.int64), count)
    rows = items.take(np.repeat(np.arange(len(count)), count))
    rows = rows._replace(position=rows.position + Chunk.SIZE + number * Stripe.SIZE)
    record = rows.records(Stripe)
    return rows, {
        "chunk": rows.offset,
        "number": number,
        "devid": record["devid"],
        "physical": record["offset"],
        "dev_uuid": _uuids(record["dev_uuid"]),
    }


def dev_extents(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``dev_extents``."""
    items = sound(batch.of_type(ItemType.DEV_EXTENT), DevExtent.SIZE, facts.report)
    record = items.records(DevExtent)
    return items, {
        "devid": items.objectid,
        "physical": items.offset,
        "length": record["length"],
        "chunk": record["chunk_offset"],
        "chunk_tree": record["chunk_tree"],
        "chunk_objectid": record["chunk_objectid"],
    }


def roots(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``roots``; a legacy item is shorter than its record, so they are read one by one."""
    items = batch.of_type(ItemType.ROOT_ITEM)
    found: list[RootItem] = []
    kept: list[int] = []
    for item, (start, size) in enumerate(zip(items.position.tolist(), items.size.tolist(), strict=True)):
        try:
            found.append(root_item(items.data[start : start + size].tobytes()))
            kept.append(item)
        except CorruptError as error:
            facts.report(items.error(item, str(error)))
    items = items.take(np.array(kept, np.int64))
    columns: Columns = {name: np.array([getattr(root, name) for root in found], np.uint64) for name in _ROOT_FIELDS}
    return items, {
        "id": items.objectid,
        "key_offset": items.offset,
        "logical": np.array([root.bytenr for root in found], np.uint64),
        "drop_objectid": np.array([root.drop_progress.objectid for root in found], np.uint64),
        **columns,
    }

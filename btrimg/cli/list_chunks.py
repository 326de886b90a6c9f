"""``btrimg inspect list-chunks``: where chunks lie on devices, and how full they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, TARGET, open_target
from btrimg.cli.unit_options import UNITS, take_units
from btrimg.errors import CorruptError, NotFoundError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import FIRST_CHUNK_TREE_OBJECTID, U64_MAX, CompatRo, ItemType, TreeId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.chunks import Chunk


def sort_keys(text: str) -> list[str]:
    """Return the columns to sort by, each maybe after a ``-``; raises ValueError."""
    from btrimg.render.chunks import SORT_KEYS

    keys = [key.strip().lower() for key in text.split(",")]
    for key in keys:
        if key.removeprefix("-") not in SORT_KEYS:
            raise ValueError(f"{key!r} is none of {', '.join(SORT_KEYS)}")
    return keys


@command(
    TARGET,
    Option("sort", ("--sort",), "Sort by these columns; -KEY sorts downwards.", sort_keys, "KEYS"),
    *UNITS,
    JSON,
    *OPENING,
    name="list-chunks",
)
def list_chunks(target: Target, sort: list[str] | None, as_json: bool, **options: Any) -> int:
    """List the chunks of all devices, one row for every stripe.

    KEYS are devid, pstart, lstart, usage, length, type, profile, separated by commas.

    \b
      btrimg inspect list-chunks disk.img
      btrimg inspect list-chunks --sort -usage,devid --raw disk1.img -d disk2.img
      btrimg inspect list-chunks --json disk.img | jq 'select(.type == "Data") | .used'

    JSON, one object per row, sizes in bytes: "devid"; "number", by "physical" start on the device; "type"; "profile";
    "physical"; "stripe_length", on the device; "logical_number", by "logical" start on the device; "logical"; "length",
    of the whole chunk in logical bytes; "used", of these, null when no block group item can be read.
    """
    from btrimg.render import chunks as render
    from btrimg.render.answers import json_line

    units = take_units(options)
    with open_target(target, **options) as image:
        chunks = list(_chunks(image))
        rows = render.rows(chunks, dict(_used(image, (logical for logical, _ in chunks))))
        faults = image.faults
    render.sort(rows, sort or [])
    for line in (json_line(row._asdict()) for row in rows) if as_json else render.lines(rows, units.text):
        print(line)
    return 1 if faults else 0


def _chunks(image: Image) -> Iterator[tuple[int, Chunk]]:
    from btrimg.ondisk import chunks
    from btrimg.ondisk.items import records_of

    first = Key(FIRST_CHUNK_TREE_OBJECTID, ItemType.CHUNK_ITEM, 0)
    for key, payload in image.tree(TreeId.CHUNK_TREE).items(first, first._replace(offset=U64_MAX), bad=image.report):
        try:
            yield key.offset, records_of(chunks.Chunk, key.type, payload)[0]
        except CorruptError as error:
            image.report(error)


def _used(image: Image, starts: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (logical start, bytes in use) of the block groups that can be read."""
    from btrimg.ondisk.chunks import BlockGroupItem
    from btrimg.ondisk.items import records_of

    own_tree = image.superblock.compat_ro_flags & CompatRo.BLOCK_GROUP_TREE
    try:
        tree = image.tree(TreeId.BLOCK_GROUP_TREE if own_tree else TreeId.EXTENT_TREE)
    except (CorruptError, NotFoundError) as error:
        image.report(CorruptError(f"no block groups: {error}"))
        return
    for start in starts:
        first = Key(start, ItemType.BLOCK_GROUP_ITEM, 0)
        for key, payload in tree.items(first, first._replace(offset=U64_MAX), bad=image.report):
            try:
                yield key.objectid, records_of(BlockGroupItem, key.type, payload)[0].used
            except CorruptError as error:
                image.report(error)

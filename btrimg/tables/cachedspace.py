"""Rows of ``free_space`` from the v1 space cache, which stands in files of the root tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem.spacecache import cached_free_space
from btrimg.tables import spacerows
from btrimg.tables.leafscan import Facts
from btrimg.tables.schema import FREE_SPACE_SOURCES
from btrimg.trees.leafbatch import leaf_of

if TYPE_CHECKING:
    from btrimg.filesystem.image import Image
    from btrimg.tables.leafscan import Columns


def cached_rows(image: Image) -> Columns:
    """Return the columns of ``free_space`` that the caches of all block groups hold, by block group."""
    volume = image.volume
    facts = Facts(volume.nodesize, volume.sectorsize, volume.csum.size, {}, image.report)
    items, columns = spacerows.free_space(leaf_of(cached_free_space(image), 0), facts)
    source = np.full(len(items.leaf), FREE_SPACE_SOURCES.index("cache"), np.uint8)
    return {"logical": np.asarray(columns["logical"]), "length": np.asarray(columns["length"]), "source": source}

"""Where the pages of an image's files end up under a scheme: shared, only shareable, or refused, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.coverage import cover
from btrimg.pagecache.pages import REFUSALS
from btrimg.pagecache.posted import examine
from btrimg.pagecache.schemes import SCHEMES

if TYPE_CHECKING:
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.schemes import Domains


class Outcomes(NamedTuple):
    """Pages of all files under one scheme, each file counted once; 4096 bytes each."""

    scheme: str
    pages: int
    shared: int  #: their key is that of other pages, too, mostly of other files
    alone: int  #: could be shared, but nobody else has them
    refused: dict[str, int]  #: by reason
    resident: int  #: different keys: what memory holds when all is read
    wrong: dict[str, int]  #: read wrong, by defect; of the posted scheme
    unchecked: int  #: read without looking at the checksum that there is; of the posted scheme


def take(rows: FileRows, scheme: str, domains: Domains) -> Outcomes:
    """Return the outcomes of all pages of *rows*."""
    posted = examine(rows, domains) if scheme == "device-posted" else None
    keys = posted.keys if posted else SCHEMES[scheme].keys(rows, domains)
    covered = cover(keys, np.zeros(len(keys.file), np.int64))
    several = covered.runs > 1
    refused = np.zeros(len(REFUSALS), np.int64)
    np.add.at(refused, keys.refusal, keys.pages)
    shared = int((covered.pages * covered.runs)[several].sum())
    return Outcomes(
        scheme=scheme,
        pages=int(keys.pages.sum()),
        shared=shared,
        alone=int(refused[0]) - shared,
        refused={REFUSALS[code]: int(refused[code]) for code in np.flatnonzero(refused).tolist() if code},
        resident=covered.total,
        wrong=posted.pages_by_defect() if posted else {},
        unchecked=posted.unchecked_pages if posted else 0,
    )

"""What sharing saves when files are read whole, under every scheme: computed from metadata, without a trace."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import UnsupportedError
from btrimg.named import NamedTuple
from btrimg.pagecache.attribution import attribute
from btrimg.pagecache.comparing import Source, contents_of, settle
from btrimg.pagecache.coverage import cover
from btrimg.pagecache.pages import REFUSALS, KeyRuns
from btrimg.pagecache.posted import examine
from btrimg.pagecache.schemes import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from btrimg.pagecache.attribution import Shares
    from btrimg.pagecache.comparing import Contents, EqualSums
    from btrimg.pagecache.schemes import Domains

    Bools = NDArray[np.bool_]

IMAGES_MAX = 127  #: so many filesystems fit the sign bit less of a key's space that domains leave
_IMAGE_SHIFT = 56
_HOLE = REFUSALS.index("hole")


class SchemeEstimate(NamedTuple):
    """What one scheme makes of it; pages of 4096 bytes."""

    scheme: str
    curve: tuple[int, ...]  #: pages in memory after the first 1, 2, … sharers have read all their files
    refused: dict[str, int]  #: pages of files, by reason

    @property
    def resident(self) -> int:
        """Return the pages in memory when everybody has read everything."""
        return self.curve[-1] if self.curve else 0


class Estimate(NamedTuple):
    """What all schemes make of the same files; pages of 4096 bytes."""

    files: int
    sharers: int
    schemes: tuple[SchemeEstimate, ...]
    holes: int  #: pages of zeros that the kernel would hold besides; 0 where holes are counted with the rest
    wrong: dict[str, int]  #: pages of files that the posted scheme reads wrong, by defect
    unchecked: int  #: pages of files that the posted scheme reads without looking at their checksum
    equal_sums: EqualSums
    shares: Shares | None = None  #: whose the pages are under ``extent``, if that was asked for

    def of(self, scheme: str) -> SchemeEstimate:
        """Return what one scheme makes of it."""
        return next(each for each in self.schemes if each.scheme == scheme)


def estimate(
    sources: Sequence[Source],
    sharers: int,
    domains: Domains,
    *,
    holes: bool = False,
    compare: bool = False,
    attributed: bool = False,
    done: Callable[[int, int], None] = lambda _things, _bytes: None,
) -> Estimate:
    """Return what memory holds when *sharers* read all their files, each file once, one sharer after the other.

    Pages of different filesystems are shared by content only. Without *holes* their pages are left out: under every
    scheme each inode has its own zeros. Pages that have equal checksums are read, to see whether they are equal, with
    *compare* also where they are many; *done* is told how many pieces and bytes were. *attributed* adds ``shares``.
    """
    if len(sources) > IMAGES_MAX:
        raise UnsupportedError(f"{len(sources)} images: no more than {IMAGES_MAX} can be held against each other")
    zeros = 0 if holes else sum(int(each.rows.runs.pages[_is_hole(each)].sum()) for each in sources)
    kept = sources if holes else [_without_holes(each) for each in sources]
    examined = [examine(each.rows, domains) for each in kept]
    contents = [contents_of(each, domains) for each in kept]
    by_content, equal = settle(_comparable(contents), read=compare, done=done)
    found, shares = [], None
    for scheme in SCHEMES.values():
        if scheme.name == "content":
            refused = [each.keys for each in contents]
            labels = [each.sharer for each in contents]
            keys = by_content
        else:
            keys = [scheme.keys(each.rows, domains) for each in kept]
            refused = keys
            labels = [each.sharer[runs.file] for each, runs in zip(kept, keys, strict=True)]
            keys = [_of_image(runs, number) for number, runs in enumerate(keys)]
        every = KeyRuns._make(map(np.concatenate, zip(*keys, strict=True)))
        label = np.concatenate(labels)
        new = cover(every, label).by_label(sharers)
        if attributed and scheme.name == "extent":
            shares = attribute(every, label, sharers)
        found.append(SchemeEstimate(scheme.name, tuple(accumulate(new)), _refused(refused)))
    return Estimate(
        files=sum(each.rows.files.rows for each in sources),
        sharers=sharers,
        schemes=tuple(found),
        holes=zeros,
        wrong={name: sum(each.pages_by_defect()[name] for each in examined) for name in examined[0].pages_by_defect()},
        unchecked=sum(each.unchecked_pages for each in examined),
        equal_sums=equal,
        shares=shares,
    )


def _is_hole(source: Source) -> Bools:
    found: Bools = source.rows.runs.refusal == _HOLE
    return found


def _without_holes(source: Source) -> Source:
    runs = source.rows.runs
    kept = type(runs)._make(column[~_is_hole(source)] for column in runs)
    return Source(source.rows._replace(runs=kept), source.sharer)


def _of_image(keys: KeyRuns, number: int) -> KeyRuns:
    """Return *keys* so that they are equal to no other filesystem's."""
    return keys._replace(space=keys.space | number << _IMAGE_SHIFT)


def _comparable(contents: Sequence[Contents]) -> list[Contents]:
    """Return *contents* with keys that are equal only where checksums say the same: one algorithm, as many bytes."""
    volumes = [each.image.volume for each in contents]
    kinds = [(volume.csum.name, volume.sectorsize) for volume in volumes]
    found = []
    for number, each in enumerate(contents):
        mark = np.where(each.keys.refusal == 0, kinds.index(kinds[number]), number) << _IMAGE_SHIFT
        found.append(each._replace(keys=each.keys._replace(space=each.keys.space | mark)))
    return found


def _refused(several: Sequence[KeyRuns]) -> dict[str, int]:
    """Return how many pages of files were refused, by reason."""
    found = np.zeros(len(REFUSALS), np.int64)
    for keys in several:
        np.add.at(found, keys.refusal, keys.pages)
    return {REFUSALS[code]: int(found[code]) for code in np.flatnonzero(found).tolist() if code}

"""Where an image has written what: the ground on which the scrub judges parity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.scrub.logicalsets import Spans, union
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Contents(NamedTuple):
    """What is written, by logical address."""

    checksummed: Spans  #: data with checksums
    plain: Spans  #: data without checksums
    blocks: NDArray[np.uint64]  #: tree blocks, in order
    generations: NDArray[np.uint64]  #: transids that wrote them
    written: Spans  #: all of it


def contents(
    checksummed: Spans, plain: Spans, blocks: NDArray[np.uint64], generations: NDArray[np.uint64], nodesize: int
) -> Contents:
    """Return all that is written; *blocks* are of *nodesize* bytes."""
    start = np.concatenate([checksummed.start, plain.start, blocks.view(np.int64)])
    end = np.concatenate([checksummed.end, plain.end, blocks.view(np.int64) + nodesize])
    written = union(start.view(np.uint64), (end - start).view(np.uint64))
    return Contents(checksummed, plain, blocks, generations, written)

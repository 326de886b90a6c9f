"""From the numbers that stand for names in the checker's tables back to the names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.tables.hashes import fingerprints
from btrimg.tables.leafscan import LeafScan, every_tree, holds_files
from btrimg.tables.schema import NAMES, XATTRS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.filesystem.image import Image


class NameBook:
    """All names of an *image*, which is read again when something is wrong with one."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._texts: dict[object, str] = {}

    def learn(self, numbers: Iterable[object]) -> None:
        """Find the names of *numbers*, which takes a look at all names."""
        unknown = np.array([n for n in set(numbers) if isinstance(n, int) and n not in self._texts], np.uint64)
        if not len(unknown):
            return
        relations = [relation.only(["name"]) for relation in (NAMES, XATTRS)]
        files = [(tree, at) for tree, at in every_tree(self._image) if holds_files(tree)]
        scan = LeafScan(self._image, relations, files)
        for relation in relations:
            names: Any = scan.take(relation).rows.name
            found = fingerprints(names.slices())
            at = np.flatnonzero(np.isin(found, unknown))
            for number, row in zip(found[at].tolist(), at.tolist(), strict=True):
                if number not in self._texts:
                    self._texts[number] = names.decode(row).decode("utf-8", "backslashreplace")

    def text(self, number: object) -> object:
        """Return the name of a number, bytes that are not UTF-8 as \\xNN; what is no number as it is."""
        return self._texts.get(number, f"#{number:x}") if isinstance(number, int) else number

"""What a check puts into its store, kept for those who ask other questions of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from btrimg.check import evidence
from btrimg.check.rule import rules
from btrimg.check.run import check
from btrimg.check.store import Store
from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered

    Columns = dict[str, NDArray[Any]]


class KeptStore(Store):
    """A store that remembers what was put into it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gathered: dict[str, tuple[Gathered, Columns]] = {}  #: by name, with the columns that it has more
        self.columns: dict[str, Columns] = {}  #: by name, of those that were not gathered

    def create(self, gathered: Gathered, **more: NDArray[Any]) -> None:
        self.gathered[gathered.relation.name] = gathered, more
        super().create(gathered, **more)

    def create_from(self, name: str, columns: Columns) -> None:
        self.columns[name] = columns
        super().create_from(name, columns)


def kept_store(devices: Sequence[str]) -> KeptStore:
    """Return the store in which all rules judged an image, settled."""
    made: list[KeptStore] = []

    def remembered(*args: Any) -> KeptStore:
        made.append(KeptStore(*args))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch, open_image(devices) as image:
        patch.setattr(evidence, "Store", remembered)
        list(check(image, list(rules().values())))
    return made[0]

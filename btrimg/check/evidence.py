"""The relations that rules judge, in a database of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check import schema
from btrimg.errors import BlockError, CorruptError
from btrimg.tables.build import build
from btrimg.tables.query import connect
from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.check.rule import Rule
    from btrimg.filesystem.image import Image

_ROWS_AT_ONCE = 10_000
_BLOCK = re.compile(r"tree block (\d+): ")


class Evidence:
    """The relations that some rules name; what making them met is evidence, too."""

    def __init__(self, image: Image, rules: Sequence[Rule]) -> None:
        self._con = connect()
        self._faults: list[CorruptError] = []
        image.listen(self._faults.append)
        words = {word for rule in rules for word in re.findall(r"\w+", rule.query)}
        wanted = list(RELATIONS) if words & set(schema.RELATIONS) else [name for name in RELATIONS if name in words]
        for name, table in build(image, wanted).items():
            self._con.register(name, table)
        self._register_faults()

    def _register_faults(self) -> None:
        blocks = {str(error): None for error in self._faults if isinstance(error, BlockError)}
        items = {str(error): None for error in self._faults if not isinstance(error, BlockError)}
        found = [_BLOCK.match(text) for text in blocks]
        logical = np.array([int(match[1]) if match else 0 for match in found], np.uint64)
        self._con.register("bad_blocks", {"logical": logical, "fault": np.array(list(blocks), object)})
        self._con.register("bad_items", {"fault": np.array(list(items), object)})

    def rows_of(self, rule: Rule) -> Iterator[dict[str, Any]]:
        """Yield the rows that a rule's query returns."""
        answer = self._con.execute(rule.query)
        names = [name for name, *_ in answer.description]
        while rows := answer.fetchmany(_ROWS_AT_ONCE):
            yield from (dict(zip(names, row, strict=True)) for row in rows)

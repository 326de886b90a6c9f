"""What an image has to say to some rules: its relations in a database, and what it met who made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.check.derived import asked
from btrimg.check.filling import Filling
from btrimg.check.makers import CREATED
from btrimg.check.namebook import NameBook
from btrimg.check.rule import rule as rule_of
from btrimg.check.store import Store
from btrimg.tables.database import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.check.makers import Progress
    from btrimg.check.rule import Rule
    from btrimg.check.scrub.begun import BegunScrub
    from btrimg.errors import CorruptError
    from btrimg.filesystem.image import Image


class Evidence:
    """The relations that some rules name; what making them met is evidence, too.

    *faults* is what the image reports; *begun* is the scrub, if some rule needs what it finds.
    """

    def __init__(
        self,
        image: Image,
        rules: Sequence[Rule],
        faults: list[CorruptError],
        progress: Progress,
        begun: BegunScrub | None,
    ) -> None:
        asks = asked([rule.query for rule in rules])
        self._names = NameBook(image)
        self._store = Store(asks.words & CREATED, asks.derived, rules)
        try:
            Filling(image, asks, self._store, faults, progress, begun).fill()
        except BaseException:
            self._store.give_up()
            raise
        self._store.settle()

    def answers(self, rules: Sequence[Rule]) -> Iterator[tuple[Rule, dict[str, Any]]]:
        """Yield the rows that the queries of *rules* return, rule by rule."""
        finding = [rule for rule in rules if self._store.finds(rule)]
        refused = rule_of("image-unreadable")
        yield from ((refused, {"detail": sentence}) for sentence in self._store.refused)
        for rule, answer in zip(finding, self._store.answers([each.query for each in finding]), strict=True):
            if isinstance(answer, QueryError):
                yield refused, {"detail": f"{rule.code} could not be judged: {answer}"}
                continue
            columns, several = answer
            for rows in several:
                if "name" in columns:
                    at = columns.index("name")
                    self._names.learn(row[at] for row in rows)
                for row in rows:
                    found = dict(zip(columns, row, strict=True))
                    yield rule, found | ({"name": self._names.text(found["name"])} if "name" in found else {})

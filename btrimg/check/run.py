"""Run rules over an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.check.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.check.rule import Rule
    from btrimg.filesystem.image import Image


_OF_THE_IMAGE = ("name", "path")  # columns whose text may hold anything; that of others is the rule's own


class Finding(NamedTuple):
    """A row that a rule returned."""

    rule: Rule
    row: dict[str, Any]  #: by column

    def sentence(self, quote: Any = str) -> str:
        """Return what is wrong; *quote* makes text of names."""
        quoted = {column: quote(value) for column, value in self.row.items() if column in _OF_THE_IMAGE}
        return self.rule.sentence.format_map(self.row | quoted)


def check(image: Image, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Yield what *rules* find, one rule after the other; damage in one place does not hide what is wrong elsewhere."""
    evidence = Evidence(image, rules)
    for rule in rules:
        for row in evidence.rows_of(rule):
            yield Finding(rule, row)

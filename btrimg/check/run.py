"""Run rules over an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.check.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.check.makers import Progress
    from btrimg.check.rule import Rule
    from btrimg.filesystem.image import Image


_OF_THE_IMAGE = ("name", "other_name", "path")  # columns whose text may hold anything; that of others is the rule's own


class Finding(NamedTuple):
    """A row that a rule returned."""

    rule: Rule
    row: dict[str, Any]  #: by column

    def sentence(self, quote: Any = str) -> str:
        """Return what is wrong; *quote* makes text of names."""
        quoted = {column: quote(str(value)) for column, value in self.row.items() if column in _OF_THE_IMAGE}
        return self.rule.sentence.format_map(self.row | quoted)


def check(image: Image, rules: Sequence[Rule], progress: Progress = lambda _things, _bytes: None) -> Iterator[Finding]:
    """Read the whole *image*; yield what *rules* find, one rule after the other.

    Damage in one place does not hide what is wrong elsewhere. *progress* hears of tree blocks and bytes while they are
    read, which is before this returns.
    """
    evidence = Evidence(image, rules, progress)
    return (Finding(rule, row) for rule, row in evidence.answers(rules))

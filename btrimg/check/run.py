"""Run rules over an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.check.makers import Progress
    from btrimg.check.rule import Rule
    from btrimg.errors import CorruptError
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
    faults: list[CorruptError] = []
    image.listen(faults.append)
    begun = None
    if any(rule.needs_data for rule in rules):
        from btrimg.check.scrub.begun import BegunScrub

        begun = BegunScrub(image, lambda count: progress(0, count))
    try:
        # Not before: to import it takes 50 ms, and its threads would keep the scrub from being a process.
        from btrimg.check.evidence import Evidence

        evidence = Evidence(image, rules, faults, progress, begun)
    finally:
        if begun:
            begun.stop()
    return (Finding(rule, row) for rule, row in evidence.answers(rules))

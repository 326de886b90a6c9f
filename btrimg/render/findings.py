"""What the checker finds, and its rules, as text and JSON.

What of Python is imported in functions takes 6 ms, which a check that finds nothing need not wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.render.names import escape
from btrimg.render.text import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.check.rule import Rule
    from btrimg.check.run import Finding

_WIDTH = 100


def finding_line(finding: Finding) -> str:
    """Return a finding as text: ``SEVERITY CODE: SENTENCE``, control characters escaped."""
    return f"{finding.rule.severity} {finding.rule.code}: {finding.sentence(_quoted)}"


def more_line(rule: Rule, count: int) -> str:
    """Return the line that stands for *count* further findings of a rule."""
    return f"{rule.severity} {rule.code}: and {count} more, which --all shows"


def finding_json(finding: Finding) -> str:
    """Return a finding as an object of one line; ``row`` has the numbers that the sentence is made of."""
    import json

    rule = finding.rule
    facts: dict[str, Any] = {"code": rule.code, "severity": rule.severity, "sentence": finding.sentence()}
    return json.dumps(facts | {"row": finding.row})


def verdict(errors: int, warnings: int, rules: int) -> str:
    """Return the sum of all findings as a sentence."""
    found = [
        f"{count} {noun}{'s' * (count != 1)}" for count, noun in ((errors, "error"), (warnings, "warning")) if count
    ]
    return f"{'clean' if not errors else 'not clean'} by {rules} rules{': ' * bool(found)}{', '.join(found)}"


def rule_lines(rules: Iterable[Rule]) -> Iterator[str]:
    """Yield a table of rules."""
    rows = ((rule.code, rule.severity, "--data" if rule.needs_data else "", rule.progs) for rule in rules)
    yield from table(("code", "severity", "needs", "btrfs check says"), rows, frozenset(range(4)))


def rule_json(rule: Rule) -> str:
    """Return all that is to say of a rule as an object of one line."""
    import json

    fields = rule._asdict()
    del fields["of"]  # how the query is spared, which the query says
    return json.dumps(fields)


def explanation_lines(rule: Rule) -> Iterator[str]:
    """Yield what a rule means, and its query."""
    import textwrap

    yield f"{rule.code} ({rule.severity}): {rule.sentence}"
    yield ""
    yield from textwrap.wrap(rule.explain, _WIDTH)
    yield ""
    yield f"btrfs check says: {rule.progs}"
    yield ""
    yield from rule.query.splitlines()


def _quoted(text: str) -> str:
    return escape(text.encode("utf-8", "surrogateescape"))

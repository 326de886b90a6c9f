"""What a rule is: a file ``rules/CODE.sql`` with a header of ``-- key: value`` lines and one query for offending rows.

Keys: ``severity`` (error, or warning for what does no harm), ``sentence`` (with columns of the query in braces),
``progs`` (what ``btrfs check`` calls it, "none" if it does not look), ``explain`` (what it means, how it arises and
what a person can do) and, where the rule needs it, ``needs: data`` (the scrub of ``check --data``). A value goes on in
lines that are indented by two more spaces. ``of`` is told of in :mod:`btrimg.check.sqlfiles`.
"""

from __future__ import annotations

import re
from functools import cache

from btrimg.check.sqlfiles import split, texts_in
from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple

ERROR, WARNING = "error", "warning"

_FOLD = re.compile(r"\s*\n--\s+")
_ENTRY = re.compile(r"^-- (\w+): (.*(?:\n--   .*)*)", re.MULTILINE)


class Rule(NamedTuple):
    """One thing that must hold of an image; *query* returns the rows of which it does not."""

    code: str
    severity: str  #: ERROR or WARNING
    sentence: str  #: with columns of the query in braces
    progs: str  #: what ``btrfs check`` calls it, "none" if it does not look
    explain: str
    query: str
    needs_data: bool  #: whether it judges what only the scrub sees
    of: frozenset[str]  #: relations, without rows in any of which it finds nothing; none where that is all it reads


@cache
def rules() -> dict[str, Rule]:
    """Return every rule by its code, in order."""
    return {code: parse_rule(code, text) for code, text in texts_in("rules")}


def rule(code: str) -> Rule:
    """Return the rule with that code.

    Raises BtrimgError when there is none.
    """
    try:
        return rules()[code]
    except KeyError:
        raise BtrimgError(f"there is no rule {code!a}; --rules lists them") from None


def parse_rule(code: str, text: str) -> Rule:
    """Return the rule in the *text* of its file; raises ValueError when a key is missing or unknown."""
    header, of, query = split(text)
    entries = {key: _FOLD.sub(" ", value) for key, value in _ENTRY.findall(header)}
    needs = entries.pop("needs", "")
    if set(entries) != {"severity", "sentence", "progs", "explain"} or needs not in ("", "data"):
        raise ValueError(f"rule {code}: bad header {sorted(entries)} {needs!a}")
    if entries["severity"] not in (ERROR, WARNING):
        raise ValueError(f"rule {code}: bad severity {entries['severity']!a}")
    return Rule(code, query=query, needs_data=needs == "data", of=of, **entries)

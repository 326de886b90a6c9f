"""``btrimg check``: judge an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import FORCE, FURTHER_DEVICES, JSON, open_target, parse_target
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target


@command(
    Argument("target", "[IMAGE]", parse_target, is_path=True, optional=True),
    Option("data", ("--data",), "Also verify every copy of all data and tree blocks, and all parity."),
    Option("list_rules", ("--rules",), "List the rules; takes no IMAGE."),
    Option("only", ("--rule",), "Run this rule; may be repeated.", str, "CODE", many=True),
    Option("explain", ("--explain",), "Tell what a rule means and what to do; takes no IMAGE.", str, "CODE"),
    JSON,
    FURTHER_DEVICES,
    FORCE,
)
def check(
    target: Target | None,
    data: bool,
    list_rules: bool,
    only: tuple[str, ...],
    explain: str | None,
    as_json: bool,
    **opening: Any,
) -> int:
    """Judge the whole of an IMAGE, which is only read.

    \b
      btrimg check disk.img
      btrimg check --data --json disk1.img -d disk2.img
      btrimg check --explain inode-nlink

    Each finding is a line "SEVERITY CODE: SENTENCE". The exit code is 0 when there is no error, 1 when there is one,
    and 2 when the image cannot be judged.
    """
    from btrimg.check.rule import ERROR, rule, rules
    from btrimg.render import findings

    if list_rules:
        chosen = list(rules().values())
        _say(map(findings.rule_json, chosen) if as_json else findings.rule_lines(chosen))
        return 0
    if explain is not None:
        _say([findings.rule_json(rule(explain))] if as_json else findings.explanation_lines(rule(explain)))
        return 0
    if target is None:
        raise BtrimgError("name an IMAGE to check")
    from btrimg.check.run import check as run

    chosen = [rule(code) for code in only] or [each for each in rules().values() if data or not each.needs_data]
    line_of = findings.finding_json if as_json else findings.finding_line
    errors = 0
    with open_target(target, **opening) as image:
        for finding in run(image, chosen):
            errors += finding.rule.severity == ERROR
            print(line_of(finding))
    return 1 if errors else 0


def _say(lines: Any) -> None:
    for line in lines:
        print(line)

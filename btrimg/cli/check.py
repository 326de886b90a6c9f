"""``btrimg check``: judge an image."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import FORCE, FURTHER_DEVICES, JSON, open_target, parse_target
from btrimg.cli.progress import counting
from btrimg.cli.terminal import say
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target

_MOST = 100  # findings of one rule that a person is shown: one fault can be found a million times


@command(
    Argument("target", "[IMAGE]", parse_target, is_path=True, optional=True),
    Option("data", ("--data",), "Also verify every copy of all data and tree blocks, and all parity."),
    Option("list_rules", ("--rules",), "List the rules; takes no IMAGE."),
    Option("everything", ("--all",), f"Print all findings, not only {_MOST} of each rule; JSON has all."),
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
    everything: bool,
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
    from btrimg.check.rule import ERROR, WARNING, rule, rules
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
    from btrimg.tables.memory import keep_for_batches

    keep_for_batches()
    chosen = [rule(code) for code in only] or [each for each in rules().values() if data or not each.needs_data]
    line_of = findings.finding_json if as_json else findings.finding_line
    errors = warnings = 0
    with open_target(target, **opening) as image:
        with counting("checking", "tree blocks", forking=any(each.needs_data for each in chosen)) as progress:
            found = run(image, chosen, progress)
        for each, several in groupby(found, lambda finding: finding.rule):
            count = 0
            for count, finding in enumerate(several, 1):
                if count <= _MOST or everything or as_json:
                    print(line_of(finding))
            errors += count * (each.severity == ERROR)
            warnings += count * (each.severity == WARNING)
            if count > _MOST and not (everything or as_json):
                print(findings.more_line(each, count - _MOST))
    sys.stdout.flush()
    say("", "red" if errors else "green", findings.verdict(errors, warnings, len(chosen)))
    return 1 if errors else 0


def _say(lines: Any) -> None:
    for line in lines:
        print(line)

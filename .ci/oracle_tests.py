"""Count the tests that passed before each oracle; fail when an oracle judged none: ``oracle_tests.py JUNIT.xml``."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

ORACLES = ("progs", "kernel")  #: markers of pyproject.toml; tests/conftest.py writes them into the report


def count_passed(report: str) -> dict[str, int]:
    """Return how many tests of each oracle passed, from pytest's JUnit *report*."""
    passed = dict.fromkeys(ORACLES, 0)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 (our own pytest wrote it)
        if all(case.find(outcome) is None for outcome in ("skipped", "failure", "error")):
            for mark in case.iterfind("properties/property[@name='oracle']"):
                passed[mark.attrib["value"]] += 1
    return passed


if __name__ == "__main__":
    passed = count_passed(sys.argv[1])
    print("passed before an oracle:", ", ".join(f"{count} {oracle}" for oracle, count in passed.items()))
    if not all(passed.values()):
        sys.exit("an oracle judged no test")

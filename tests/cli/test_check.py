"""``btrimg check`` as a program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.program import btrimg

from btrimg.check.rule import rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def damaged(demo_image: str, tmp_path: Path) -> str:
    """Give the demo with a file whose links are counted wrongly."""
    path = str(tmp_path / "damaged.img")
    done = btrimg("corrupt", demo_image, "/files/sparse.raw:INODE_ITEM/nlink=7", "--output", path)
    assert done.returncode == 0, done.stderr
    return path


#: What mkfs.btrfs of that version leaves in the free space tree, which the kernel does not mind.
OF_MKFS = {"free-space-info-orphan"}


@pytest.mark.parametrize("flags", [[], ["--data"]])
def test_a_clean_image_has_warnings_at_most(flags: list[str], demo_image: str) -> None:
    done = btrimg("check", *flags, demo_image)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert {line.split(":")[0] for line in lines} == {f"warning {code}" for code in OF_MKFS}
    count = sum(bool(flags) or not rule.needs_data for rule in rules().values())
    assert done.stderr == f"btrimg: clean by {count} rules: {len(lines)} warnings\n"


def test_a_finding_is_a_line_with_severity_code_and_sentence(damaged: str) -> None:
    done = btrimg("check", damaged)
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if not line.startswith("warning "))
    assert line == "error inode-nlink: inode 262 of subvolume 5 has 7 links, but 1 names"
    assert re.fullmatch(r"btrimg: not clean by \d+ rules: 1 error, \d+ warnings\n", done.stderr)


def test_one_rule_does_not_fill_the_screen(demo_image: str, tmp_path: Path) -> None:
    path = str(tmp_path / "outdated.img")
    assert btrimg("corrupt", demo_image, "super/generation=2", "--output", path).returncode == 0
    few = "import sys; from btrimg.cli import check, main; check._MOST = 5; sys.exit(main.run(sys.argv[1:]))"

    def lines(*words: str) -> list[str]:
        command = [sys.executable, "-c", few, "check", path, "--rule", "extent-generation", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()

    everything = lines("--all")
    assert len(everything) > 6
    assert lines() == [*everything[:5], f"error extent-generation: and {len(everything) - 5} more, which --all shows"]
    assert len(lines("--json")) == len(everything)


def test_json_has_the_numbers(damaged: str) -> None:
    done = btrimg("check", "--json", damaged)
    (found,) = (each for each in map(json.loads, done.stdout.splitlines()) if each["severity"] == "error")
    assert set(found) == {"code", "severity", "sentence", "row"}
    assert (found["code"], found["severity"]) == ("inode-nlink", "error")
    assert (found["row"]["subvolume"], found["row"]["nlink"], found["row"]["names"]) == (5, 7, 1)


def test_one_rule_runs_alone(damaged: str) -> None:
    assert btrimg("check", damaged, "--rule", "inode-nlink").returncode == 1
    done = btrimg("check", damaged, "--rule", "name-hash", "--rule", "inode-mode")
    assert (done.returncode, done.stderr) == (0, "btrimg: clean by 2 rules\n")


def test_rules_are_listed_and_explained() -> None:
    listed = btrimg("check", "--rules").stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == list(rules())
    assert [json.loads(line)["code"] for line in btrimg("check", "--rules", "--json").stdout.splitlines()] == list(
        rules()
    )
    for code, rule in rules().items():
        assert set(rule.sentence) & set("\n") == set()
        assert code
    text = btrimg("check", "--explain", "inode-nlink").stdout
    assert text.startswith("inode-nlink (error): ")
    assert "btrfs check says: link count wrong" in text
    assert "select" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--rule", "nonsense"], 2, "there is no rule 'nonsense'; --rules lists them"),
        (["--explain", "nonsense"], 2, "there is no rule 'nonsense'; --rules lists them"),
        ([], 2, "name an IMAGE to check"),
    ],
)
def test_what_cannot_be_run_is_refused(words: list[str], code: int, said: str, demo_image: str) -> None:
    image = [demo_image] if "--rule" in words else []
    done = btrimg("check", *image, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"btrimg: {said}\n"


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(bytes(1 << 20))
    done = btrimg("check", str(tmp_path / "empty"))
    assert done.returncode == 2
    assert "no btrfs image" in done.stderr

"""``btrimg du`` on the demo image, which needs no oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def du(*words: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "btrimg", "du", *words], capture_output=True, check=False, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout


def answers(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in du(*words, "--json").splitlines()]


def test_a_summary_has_a_line_for_each_argument_and_a_listing_ends_with_it(demo_image: str) -> None:
    targets = (f"{demo_image}:/vm", f"{demo_image}:/files", f"{demo_image}:/vm/disk.raw")
    lines = du("-s", "--raw", *targets).splitlines()
    assert lines[0] == "     Total   Exclusive  Set shared  Filename"
    assert [line.split()[3] for line in lines[1:]] == ["/vm", "/files", "/vm/disk.raw"]
    listed = du("--raw", *targets).splitlines()
    assert [line for line in listed if line in lines] == lines
    rows = answers(targets[1])
    assert rows[-1] == answers("-s", targets[1])[0]
    assert rows[-1]["total"] == sum(row["total"] for row in rows if row["type"] == "file") > 0
    assert [row["set_shared"] is None for row in rows] == [True] * (len(rows) - 1) + [False]


def test_what_a_snapshot_shares_is_not_exclusive(demo_image: str) -> None:
    vm, both = (answers("-s", f"{demo_image}:{path}")[0] for path in ("/vm", "/"))
    assert 0 <= vm["exclusive"] < vm["total"]
    assert vm["total"] < both["total"]
    assert both["set_shared"] < both["total"] - both["exclusive"]


def test_subvolumes_free_together_more_than_each_alone(demo_image: str) -> None:
    rows = answers("--subvolumes", demo_image)
    ids = [row["id"] for row in rows]
    together = answers("--free-if-deleted", ",".join(map(str, ids)), demo_image)
    assert together[0]["subvolumes"] == ids
    assert together[0]["free_if_deleted"] > sum(row["free_if_deleted"] for row in rows)
    for row in rows:
        assert answers("--free-if-deleted", str(row["id"]), demo_image)[0]["free_if_deleted"] == row["free_if_deleted"]
    assert du("--subvolumes", demo_image).splitlines()[0].split()[-3:] == ["If", "deleted", "Path"]
    du("--free-if-deleted", "999", demo_image, code=1)


def test_compression_adds_up(demo_image: str) -> None:
    found = answers("--compression", demo_image)[0]
    assert {"none", "prealloc"} < found["types"].keys()
    for size, total in found["total"].items():
        assert total == sum(sums[size] for sums in found["types"].values())
    assert found["total"]["disk"] < found["total"]["uncompressed"]
    lines = du("--compression", "--raw", demo_image).splitlines()
    assert [line.split()[0] for line in lines] == ["Processed", "Type", "TOTAL", *found["types"]]

"""``btrimg du`` on the demo image, which needs no oracle."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from btrimg.cli.du import du as command
from btrimg.errors import NotFoundError
from btrimg.filesystem import strings
from btrimg.filesystem.image import open_image
from btrimg.render.text import printable
from btrimg.render.usage import json_names, printable_names


def du(*words: str) -> str:
    """Return what ``btrimg du`` prints, run in this process: each new one would import numpy."""
    parameters = command.parse(words)
    assert parameters is not None
    with redirect_stdout(TextIOWrapper(BytesIO(), "utf-8", write_through=True)) as out:
        assert command.run(**parameters) == 0
    return out.buffer.getvalue().decode()


def answers(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in du(*words, "--json").splitlines()]


def test_a_summary_has_a_line_for_each_argument_and_a_listing_ends_with_it(demo_image: str) -> None:
    targets = (f"{demo_image}:/vm", f"{demo_image}:/files", f"{demo_image}:/vm/disk.raw")
    lines = du("-s", "--raw", *targets).splitlines()
    assert lines[0] == "     Total   Exclusive  Set shared  Filename"
    assert [line.split()[3] for line in lines[1:]] == ["/vm", "/files", "/vm/disk.raw"]
    total, exclusive, set_shared = map(int, lines[3].split()[:3])
    assert set_shared == total - exclusive, "of a file"
    listed = du("--raw", *targets).splitlines()
    assert [line for line in listed if line in lines] == lines
    rows = answers(targets[1])
    assert rows[-1] == answers("-s", targets[1])[0]
    assert rows[-1]["total"] == sum(row["total"] for row in rows if row["type"] == "file") > 0
    assert [row["set_shared"] is None for row in rows] == [True] * (len(rows) - 1) + [False]
    for row in rows[1:-1]:
        inside = [each["total"] for each in rows if each["path"].startswith(row["path"] + "/")]
        assert row["type"] == "file" or row["total"] >= max(inside, default=0)


def test_text_says_what_json_says(demo_image: str) -> None:
    head, *lines = du("--raw", "-u", demo_image).splitlines()
    assert head.split()[4:] == ["Unreachable", "Filename"]
    rows = answers(demo_image)
    assert {row["subvolume"] for row in rows} == {5, 256, 257}
    for line, row in zip(lines, rows, strict=True):
        cells = (row["total"], row["exclusive"], row["set_shared"], row["unreachable"])
        shown = "".join(f"{'-' if cell is None else cell:>10}  " for cell in cells)
        assert line == shown + printable(row["path"].encode("utf-8", "surrogateescape"))
    assert rows[-1]["path"] == "/"
    with open_image(demo_image) as image:
        for row in rows:
            inode = image.open(row["path"].encode("utf-8", "surrogateescape"))
            assert (row["subvolume"], row["inode"]) == (inode.subvolume.id, inode.ino)
            assert row["type"] == ("directory" if inode.is_directory else "file")


def test_what_a_snapshot_shares_is_not_exclusive(demo_image: str) -> None:
    vm, both = (answers("-s", f"{demo_image}:{path}")[0] for path in ("/vm", "/"))
    assert 0 <= vm["exclusive"] < vm["total"]
    assert vm["total"] < both["total"]
    assert both["set_shared"] < both["total"] - both["exclusive"]


def test_subvolumes_free_together_more_than_each_alone(demo_image: str) -> None:
    rows = answers("--subvolumes", demo_image)
    ids = [row["id"] for row in rows]
    together = answers("--free-if-deleted", ",".join(map(str, ids)), demo_image)[0]
    assert together.pop("subvolumes") == ids
    assert together.keys() == {"free_data_if_deleted", "free_metadata_if_deleted"}
    for kind, freed in together.items():
        assert freed >= sum(row[kind] for row in rows) > 0
    assert together["free_data_if_deleted"] > sum(row["free_data_if_deleted"] for row in rows)
    for row in rows:
        alone = answers("--free-if-deleted", str(row["id"]), demo_image)[0]
        assert {kind: row[kind] for kind in together} == {kind: alone[kind] for kind in together}
    text = du("--free-if-deleted", ",".join(map(str, ids)), demo_image, "--raw")
    assert text == "{free_data_if_deleted} of data, {free_metadata_if_deleted} of metadata\n".format(**together)
    assert du("--subvolumes", demo_image).splitlines()[0].split()[-5:] == ["Data", "freed", "Metadata", "freed", "Path"]
    with pytest.raises(NotFoundError, match="no subvolume 999"):
        du("--free-if-deleted", "999", demo_image)


def test_compression_adds_up(demo_image: str) -> None:
    row = answers("-s", "--compression", demo_image)[0]
    found = row.pop("compression")
    assert row == answers("-s", demo_image)[0]
    assert {"none", "prealloc"} < found["types"].keys()
    for size, total in found["total"].items():
        assert total == sum(sums[size] for sums in found["types"].values())
    assert found["total"]["disk"] < found["total"]["uncompressed"]
    lines = du("-s", "--compression", "--raw", demo_image).splitlines()
    assert "\n".join(lines[:2]) + "\n" == du("-s", "--raw", demo_image)
    assert [line.split()[0] for line in lines[3:]] == ["Processed", "Type", "TOTAL", *found["types"]]


NAMES = some.lists(some.binary(min_size=1, max_size=6) | some.sampled_from([b"plain", b'q"', b"b\\", "é".encode()]))


@given(NAMES)
def test_many_names_are_written_as_each_one(names: list[bytes]) -> None:
    column = strings.of_list(names)
    assert printable_names(column).to_list() == [printable(name).encode() for name in names]
    texts = [json.dumps(name.decode("utf-8", "surrogateescape"))[1:-1].encode() for name in names]
    assert json_names(column).to_list() == texts

"""The lines of the bulk path are those of the point path."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from btrimg.filesystem.extents import COMPRESSION_NAMES, reference_count
from btrimg.filesystem.image import open_image
from btrimg.filesystem.translate import copies_at
from btrimg.filesystem.walk import walk
from btrimg.render import extent_json, extent_lines
from btrimg.render.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.images import KernelImage

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.inode import Inode
    from btrimg.filesystem.translate import Copy

pytestmark = [pytest.mark.kernel, pytest.mark.progs]


def extent_row(inode: Inode, row: FileExtentRow, copies: Sequence[Copy], refs: int | None) -> str:
    """Return a row of ``extents`` by json.dumps: the reference of the templates."""
    fields = {
        "subvolume": inode.subvolume.id,
        "inode": inode.ino,
        "path": inode.path.decode("utf-8", "surrogateescape"),
        "offset": row.offset,
        "length": row.length,
        "kind": row.kind,
        "compression": COMPRESSION_NAMES[row.compression],
        "logical": row.logical,
        "extent": None if row.extent is None else row.extent._asdict(),
        "copies": [copy._asdict() for copy in copies],
        "refs": refs,
    }
    return json.dumps(fields)


@pytest.fixture(params=["raid1c3", "raid0"])
def written(request: pytest.FixtureRequest, kernel_image: Callable[..., KernelImage]) -> KernelImage:
    # Metadata survives the loss of a device; with raid0 it would depend on the layout what is left to list.
    return kernel_image(profile=request.param, metadata_profile="raid1c3", nodesize=4096, compression="lzo")


def test_json_lines_equal_those_of_each_file(written: KernelImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btrimg.render.extent_lines.SLICE", 200)
    expected: dict[tuple[int, int], list[list[str]]] = {}
    with open_image(written.devices) as image:
        lines = b"".join(extent_lines.json_chunks(image.extents(holes=True), image)).decode("ascii").splitlines()
        for inode in walk(image.open(b"/")):
            if inode.is_regular:
                per_name = expected.setdefault((inode.subvolume.id, inode.ino), [])
                per_name.append([])
                for row in inode.extents(holes=True):
                    copies = () if row.logical is None else copies_at(image, row.logical)[0]
                    refs = None if row.extent is None else reference_count(image, row.extent)
                    line = extent_row(inode, row, copies, refs)
                    assert list(extent_json.lines(inode, [(row, copies, refs)])) == [line + "\n"]
                    per_name[-1].append(line)
    ours: dict[tuple[int, int], list[str]] = {}
    for line in lines:
        fields = json.loads(line)
        ours.setdefault((fields["subvolume"], fields["inode"]), []).append(line)
    assert sum(map(len, ours.values())) == len(lines) > 600
    assert any("\\udc" in line for line in lines)
    for identity, per_name in expected.items():
        assert ours.pop(identity, []) in per_name
    assert not ours


def test_a_missing_device_is_null(written: KernelImage) -> None:
    with open_image(written.devices[:-1], warn=lambda _: None) as image:
        copies = [
            copy
            for chunk in extent_lines.json_chunks(image.extents(), image)
            for line in chunk.splitlines()
            for copy in json.loads(line)["copies"]
        ]
    missing = {copy["devid"] for copy in copies if copy["device"] is None}
    assert missing == {len(written.devices)}


def test_the_table_is_aligned_and_printable(written: KernelImage) -> None:
    with open_image(written.devices) as image:
        columns = image.extents()
        text = b"".join(extent_lines.text_chunks(columns, image)).decode("utf-8")
    head, *lines = text.removesuffix("\n").split("\n")
    assert len(lines) == columns.rows
    start = head.index("path")
    paths = [columns.path_of(row) for row in range(columns.rows)]
    assert [line[start:] for line in lines] == [printable(path) if path is not None else "-" for path in paths]
    assert {line[start - 2 : start] for line in lines} == {"  "}
    end = head.index("  kind")
    assert [line[:end].split() for line in lines] == [
        [str(int(column[row])) for column in (columns.subvolume, columns.inode, columns.offset, columns.length)]
        for row in range(columns.rows)
    ]
    places = [line[head.index("copies") : start].split() for line in lines]
    for row, found in enumerate(places):
        copies = range(columns.copies[row])
        assert found == ([f"{columns.devid[copy, row]}:{columns.physical[copy, row]}" for copy in copies] or ["-"])

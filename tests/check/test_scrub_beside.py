"""The scrub's thread: what it finds is told by the one who waits for it, and it ends where nobody does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from btrimg.check import evidence
from btrimg.check.rule import rule
from btrimg.check.run import check
from btrimg.check.scrub import copies
from btrimg.check.scrub.whole import Scrub
from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import TreeId
from btrimg.tables.leafscan import LeafScan, every_tree
from btrimg.tables.schema import CSUMS, EXTENTS, FILE_EXTENTS
from btrimg.volume.device import Device
from btrimg.volume.mapping import Window

if TYPE_CHECKING:
    from btrimg.errors import CorruptError

RULES = [rule("data-csum")]


def scrubbing() -> list[str]:
    """Return the names of the scrub's threads that are alive."""
    return [thread.name for thread in threading.enumerate() if "_judge_copies" in thread.name]


def test_where_scanning_fails_no_thread_is_left(demo_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BtrimgError("no scan today")

    monkeypatch.setattr(evidence, "LeafScan", fail)
    with open_image([demo_image]) as image, pytest.raises(BtrimgError, match="no scan today"):
        check(image, RULES)
    assert not scrubbing()


def test_who_stops_waits_for_the_thread_and_is_told_nothing(demo_image: str) -> None:
    judged: list[int] = []
    with open_image([demo_image]) as image:
        begun = Scrub(image, judged.append)
        begun.stop()
        assert not scrubbing()
    assert judged == []


def test_what_the_thread_meets_is_reported_by_the_thread_that_asks(forged: str) -> None:
    with open_image([forged]) as image:
        root = image.tree(TreeId.CSUM_TREE).root.logical
        places = image.volume.chunk_map.find(root).locate(root).copies
    with open(forged, "r+b") as file:
        for place in places:
            file.seek(place.physical + 200)
            file.write(b"\xff" * 64)
    heard: list[tuple[CorruptError, threading.Thread]] = []
    with open_image([forged]) as image:
        image.listen(lambda error: heard.append((error, threading.current_thread())))
        begun = Scrub(image, lambda _: None)
        scan = LeafScan(image, [EXTENTS, FILE_EXTENTS], every_tree(image))
        relations = [scan.gathered(relation).different for relation in (EXTENTS, FILE_EXTENTS)]
        heard.clear()
        begun.go_on(*relations)
        table = begun.table()
    assert table["kind"].tolist() == ["tree block"] * len(places)
    assert sorted(table["physical"].tolist()) == sorted(place.physical for place in places)
    assert [(getattr(error, "logical", None), thread) for error, thread in heard] == [
        (root, threading.current_thread())
    ]


def test_what_ends_the_thread_is_raised_by_the_thread_that_asks(
    demo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Scrub, "_scrub_checksummed", fail)
    with open_image([demo_image]) as image, pytest.raises(MemoryError, match="no room"):
        list(check(image, RULES))


@pytest.mark.parametrize("way", ["cannot be loaded", "is staged", "is cut up"])
def test_what_cannot_be_shown_is_read_and_judged_alike(forged: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_image([forged]) as image:
        csums = LeafScan(image, [CSUMS], every_tree(image)).gathered(CSUMS)
        starts = csums.different["logical"][csums.rows].tolist()
        places = [image.volume.chunk_map.find(start).locate(start).copies[-1].physical for start in starts]
    with open(forged, "r+b") as file:
        for place in places[::2]:
            file.seek(place + 100)
            file.write(b"\xff" * 64)

    def findings() -> list[str]:
        with open_image([forged], warn=lambda _: None) as image:
            return [finding.sentence() for finding in check(image, RULES)]

    shown = findings()
    assert len(shown) == len(places[::2])
    if way == "cannot be loaded":
        monkeypatch.setattr(Window, "load", lambda *_: False)
    elif way == "is staged":
        monkeypatch.setattr(Device, "shows_all", False)
    else:
        monkeypatch.setattr(copies, "_MOST_PARTS", 0)
    assert findings() == shown

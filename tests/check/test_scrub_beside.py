"""The scrub beside other work: what it finds is told by the one who waits for it, and it ends where nobody does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.forks import forks

from btrimg.check import filling
from btrimg.check.rule import rule, rules
from btrimg.check.run import check
from btrimg.check.scrub import begun, copies, copyscrub, serving, told
from btrimg.check.scrub.begun import BegunScrub
from btrimg.check.scrub.logicalsets import NOTHING
from btrimg.check.scrub.whole import Scrub
from btrimg.errors import BlockError, BtrimgError
from btrimg.filesystem.image import ChunkTree, open_image
from btrimg.ondisk.constants import TreeId
from btrimg.tables.leafscan import LeafScan, every_tree
from btrimg.tables.schema import CSUMS, EXTENTS, FILE_EXTENTS
from btrimg.volume.device import Device
from btrimg.volume.mapping import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.check.rule import Rule
    from btrimg.errors import CorruptError
    from btrimg.ondisk.chunks import Chunk

RULES = [rule("data-csum")]


@pytest.fixture(params=["process", "thread"], autouse=True)
def carried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have the scrub in a process and in a thread; nothing of it is left afterwards."""
    pids = forks(monkeypatch)
    monkeypatch.setattr(begun, "alone", lambda: request.param == "process")
    yield request.param
    assert not pids or request.param == "process"
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert "within" not in [thread.name for thread in threading.enumerate()]


def test_a_process_is_forked_where_it_can_be(demo_image: str, carried: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = forks(monkeypatch)
    with open_image([demo_image]) as image:
        assert list(check(image, RULES)) == []
    assert len(pids) == (carried == "process")


def test_where_scanning_fails_nothing_goes_on(demo_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BtrimgError("no scan today")

    monkeypatch.setattr(filling, "LeafScan", fail)
    with open_image([demo_image]) as image, pytest.raises(BtrimgError, match="no scan today"):
        check(image, RULES)


def test_who_stops_is_told_nothing(demo_image: str) -> None:
    judged: list[int] = []
    with open_image([demo_image]) as image:
        BegunScrub(image, judged.append).stop()
    assert judged == []


def test_who_stops_does_not_wait_for_all_to_be_judged(demo_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(self: Scrub, _relations: object) -> None:
        while True:
            self._judged(4096)

    monkeypatch.setattr(Scrub, "judge", endless)
    with open_image([demo_image]) as image:
        BegunScrub(image, lambda _: None).stop()


def test_what_it_meets_is_reported_by_the_thread_that_asks(forged: str) -> None:
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
        scrubbing = BegunScrub(image, lambda _: None)
        scan = LeafScan(image, [EXTENTS, FILE_EXTENTS], every_tree(image))
        extents, file_extents = (scan.gathered(relation).different for relation in (EXTENTS, FILE_EXTENTS))
        sound = dict(zip(("logical", "generation"), scan.forest.sound_at_first(), strict=True))
        heard.clear()
        scrubbing.tell(extents, file_extents, sound)
        table = scrubbing.table()
        scrubbing.stop()
    assert table["kind"].tolist() == ["tree block"] * len(places)
    assert sorted(table["physical"].tolist()) == sorted(place.physical for place in places)
    assert [(getattr(error, "logical", None), thread) for error, thread in heard] == [
        (root, threading.current_thread())
    ]


@pytest.mark.parametrize("error", [MemoryError("no room"), BlockError(16384, "csum", "no room", level=1, tree=7)])
def test_what_ends_it_is_raised_by_the_thread_that_asks(
    error: Exception, demo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Scrub, "_scrub_checksummed", fail)
    with open_image([demo_image]) as image, pytest.raises(type(error), match="no room") as raised:
        list(check(image, RULES))
    assert raised.value.args == error.args
    if isinstance(error, BlockError):
        assert vars(raised.value) == vars(error)
    else:
        assert "in fail" in raised.value.__notes__[0], "where it was raised"


def test_a_killed_process_is_an_error(demo_image: str, carried: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if carried == "thread":
        pytest.skip("no process")
    monkeypatch.setattr(Scrub, "judge", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with open_image([demo_image]) as image, pytest.raises(BtrimgError, match="has ended"):
        list(check(image, RULES))


def test_an_error_of_who_hears_is_not_waited_for(demo_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_line: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(serving, "hear_column", fail)
    with open_image([demo_image]) as image, pytest.raises(MemoryError, match="no room"):
        list(check(image, RULES))


def test_a_chunk_map_that_is_slow_is_read_once(demo_image: str, forged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ChunkTree.all

    def slowly(self: ChunkTree) -> Iterator[tuple[int, Chunk]]:
        for each in source(self):
            time.sleep(0.05)
            yield each

    monkeypatch.setattr(ChunkTree, "all", slowly)
    with open_image([demo_image], warn=pytest.fail) as image:
        assert list(check(image, RULES)) == []


def test_columns_are_told_in_parts(forged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings() -> list[str]:
        with open_image([forged], warn=lambda _: None) as image:
            return [finding.sentence() for finding in check(image, [*rules().values()])]

    with open_image([forged]) as image:
        places = image.volume.chunk_map.find(image.tree(TreeId.CSUM_TREE).root.logical)
        at = places.locate(image.tree(TreeId.CSUM_TREE).root.logical).copies[-1].physical
    with open(forged, "r+b") as file:
        file.seek(at + 3000)
        file.write(b"bad")
    found = findings()
    assert any("tree block" in sentence or "copy" in sentence for sentence in found)
    monkeypatch.setattr(told, "_AT_ONCE", 40)
    assert findings() == found


def test_processes_that_nobody_waits_for_are_no_failure(demo_image: str) -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-m", "btrimg", "check", "--data", "--rule", "data-csum", demo_image]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "btrimg: clean by 1 rules\n")


def test_who_stops_does_not_wait_for_copies_of_tree_blocks(demo_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which some are judged before all is told."""
    seen: list[int] = []

    def slowly(pieces: object) -> list[range]:
        return [range(1)] * 10_000

    def are_good(*_: object) -> bool:
        seen.append(1)
        time.sleep(0.01)
        return True

    monkeypatch.setattr(copyscrub, "_several", slowly)
    monkeypatch.setattr(copyscrub.CopyScrub, "_are_good", are_good)
    monkeypatch.setattr(Scrub, "_scrub_checksummed", lambda *_: NOTHING)
    with open_image([demo_image]) as image:
        scan = LeafScan(image, [EXTENTS], every_tree(image))
        scrubbing = BegunScrub(image, lambda _: None)
        scrubbing.tell(scan.columns(EXTENTS))
        time.sleep(0.3)
        begin = time.monotonic()
        scrubbing.stop()
        assert time.monotonic() - begin < 20  # of the 50 seconds that it would take


def test_it_goes_on_in_a_daemon_of_multiprocessing(demo_image: str) -> None:
    """Such a process may have no processes that multiprocessing has begun."""
    code = f"""
from multiprocessing import get_context
def found(path):
    import threading
    from btrimg.check.rule import rule
    from btrimg.check.run import check
    from btrimg.filesystem.image import ChunkTree, open_image
    with open_image([path]) as image:
        return list(check(image, [rule("data-csum")]))
with get_context("fork").Pool(1) as pool:
    print(pool.map(found, [{demo_image!r}] * 2))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("[[], []]\n", "")


@pytest.mark.parametrize("wait", [0.0, 0.001, 0.002, 0.003, 0.1])
def test_ctrl_c_while_it_forks_is_heeded_and_leaves_nothing(demo_image: str, wait: float) -> None:
    command = [sys.executable, "-m", "btrimg", "check", "--data", demo_image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0) as running:
        children: list[str] = []
        with suppress(FileNotFoundError):
            while running.poll() is None and not children:
                with open(f"/proc/{running.pid}/task/{running.pid}/children", encoding="ascii") as file:
                    children = file.read().split()
        assert children
        time.sleep(wait)
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=60)
        assert (running.returncode, said) == (130, (b"", b""))
    assert not os.path.exists(f"/proc/{children[0]}")


@pytest.mark.parametrize("rules", [RULES, [*rules().values()]], ids=["one rule", "all"])
def test_where_no_process_can_be_had_a_thread_does_it(
    rules: list[Rule], forged: str, carried: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def findings() -> list[str]:
        with open_image([forged], warn=lambda _: None) as image:
            return [finding.sentence() for finding in check(image, rules)]

    found = findings()
    if carried == "process":

        def fail() -> int:
            raise BlockingIOError("Resource temporarily unavailable")

        monkeypatch.setattr(os, "fork", fail)
    assert findings() == found


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

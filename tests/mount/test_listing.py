"""Which names of a listing come with attributes: without a mount, by what goes over the wire."""

from __future__ import annotations

import os
import stat
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from btrimg.filesystem.image import open_image
from btrimg.mount import server as server_module
from btrimg.mount.channel import RefusedRequest
from btrimg.mount.server import Server
from btrimg.mount.tree import Files
from btrimg.mount.wire import ROOT, AccessIn, DirentPlus, EntryOut, Opcode, ReadIn
from btrimg.mount.xattrs import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.mount.channel import Channel
    from btrimg.mount.sharing import Sharing

DIRECTORY = stat.S_IFDIR >> 12


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the time that the server sees, in seconds, to be changed."""
    seen = [100.0]
    monkeypatch.setattr(server_module, "time", SimpleNamespace(monotonic=lambda: seen[0]))
    return seen


@pytest.fixture
def server(demo_image: str, now: list[float]) -> Iterator[Server]:
    with open_image((demo_image,)) as image:
        files = Files(image, 5, threading.RLock())
        sharing = cast("Sharing", SimpleNamespace(opens=False))
        yield Server(cast("Channel", None), files, sharing, Absent(None, obeyed=False), lambda: b"")


def listing(server: Server, number: int) -> list[DirentPlus]:
    """Return the entries of a directory, without ``.`` and ``..``."""
    answer = server.handlers[Opcode.READDIRPLUS](number, ReadIn(0, 0, 1 << 20, 0, 0, 0, 0).pack(), 1)
    assert answer is not None
    raw, entries = bytes(answer), []
    while raw:
        entries.append(DirentPlus.unpack(raw))
        raw = raw[DirentPlus.SIZE + entries[-1].namelen + -entries[-1].namelen % 8 :]
    assert [entry.name for entry in entries[:2]] == [b".", b".."]
    return entries[2:]


def look_up(server: Server, parent: int, name: bytes) -> EntryOut:
    answer = server.handlers[Opcode.LOOKUP](parent, name + b"\0", 1)
    assert answer is not None
    return EntryOut.unpack(bytes(answer))


def looked_up(entries: list[DirentPlus]) -> set[bytes]:
    return {entry.name for entry in entries if entry.entry.nodeid}


def test_directories_come_with_attributes_and_files_once_somebody_looks(server: Server) -> None:
    files = look_up(server, ROOT, b"files").nodeid
    before = listing(server, files)
    assert [entry.name for entry in before if entry.type == DIRECTORY] == [b"deep"]
    assert looked_up(before) == {b"deep"}
    assert before[0].entry == look_up(server, files, b"deep")
    assert looked_up(listing(server, files)) == {b"deep"}  # only a directory was looked at
    found = look_up(server, files, b"sparse.raw")
    after = listing(server, files)
    assert [entry.name for entry in after] == [entry.name for entry in before]
    assert looked_up(after) == {entry.name for entry in before}
    assert {entry.name: entry.entry for entry in after}[b"sparse.raw"] == found


def test_who_looks_at_a_file_long_after_a_listing_has_nothing_to_do_with_it(server: Server, now: list[float]) -> None:
    files = look_up(server, ROOT, b"files").nodeid
    listing(server, files)
    now[0] += 3
    look_up(server, files, b"sparse.raw")
    assert looked_up(listing(server, files)) == {b"deep"}
    now[0] += 1
    look_up(server, files, b"sparse.raw")
    assert len(looked_up(listing(server, files))) > 1


def test_nobody_may_execute_what_has_no_such_permission(server: Server) -> None:
    files = look_up(server, ROOT, b"files").nodeid
    access, inline = server.handlers[Opcode.ACCESS], look_up(server, files, b"inline.txt").nodeid
    for number, mask in (files, os.X_OK), (inline, os.R_OK):
        assert access(number, AccessIn(mask, 0).pack(), 1) == b""
    with pytest.raises(RefusedRequest, match="Permission denied"):
        access(inline, AccessIn(os.X_OK, 0).pack(), 1)

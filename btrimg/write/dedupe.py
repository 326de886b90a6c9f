"""Equal data stored once: found by fingerprints of sectors, compared byte by byte, and then shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_64_intdigest

from btrimg.errors import NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.compression import decompress
from btrimg.ondisk.constants import Compression, FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem, FileExtent
from btrimg.units import KIB, MIB, round_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btrimg.write.transaction import Transaction

    Fingerprints = NDArray[np.uint64]

_SLOTS = 1 << 21  # entries of the table: 64 MiB, for 8 GiB of sectors of 4 KiB
_ENTRY = np.dtype(
    [
        ("fingerprint", "<u8"),
        ("logical", "<u8"),  # of the extent
        ("generation", "<u8"),  # that allocated it
        ("sectors", "<u2"),  # allocated for it; 0 where the slot is empty
        ("sector", "<u2"),  # of a plain extent, counted from its start; of a compressed one, how many it stands for
        ("kind", "u1"),  # Compression
        ("padding", "V3"),
    ]
)
_WINDOW = 64 * KIB  # bytes; data that repeat themselves are shared from one window to the next
_FIRST_LOOK = 64 * KIB  # bytes that are compared at first, and then at once
_LOOK = MIB


class _Known(NamedTuple):
    """What the table says of some data: where they are."""

    logical: int  #: of the extent
    generation: int
    sectors: int
    sector: int
    kind: int


class Dedupe:
    """What a sink has stored, in a table of bounded size, where newer data displace older.

    Plain data share runs of whole sectors, wherever they lie; compressed data share whole chunks of 128 KiB that the
    same algorithm compressed. What a snapshot, a reflink or a deletion does to an extent later does not matter: one
    that a commit has freed is not shared any more.
    """

    def __init__(self, txn: Transaction, settle: Callable[[int, int], None]) -> None:
        """Read from the devices of *txn*, after *settle* has had what is held back of (logical, length) written."""
        self._txn, self._settle = txn, settle
        self._sectorsize = txn.volume.sectorsize
        self._table = np.zeros(_SLOTS, _ENTRY)
        self._generation = 0
        self._alive: dict[int, int] = {}  # of extents before this transaction: their generation by logical address

    def place(
        self,
        data: memoryview,
        store: Callable[[memoryview], list[FileExtent]],
        share: Callable[[FileExtent], None],
    ) -> None:
        """Have each part of *data*, in order, either shared or stored.

        *share* takes a file extent that refers to what is there; *store* stores a part plainly, and returns its file
        extents. Memory is taken in proportion to *data*: give a few MiB at once.
        """
        step = self._sectorsize
        whole = self._padded(data)
        sectors = [whole[at : at + step] for at in range(0, len(whole), step)]
        prints = np.fromiter(map(xxh3_64_intdigest, sectors), np.uint64, len(sectors))
        per_window = max(_WINDOW // step, 1)
        repeated = _repeated_later(prints, per_window)
        held = self._holds(prints)
        if not held.any() and not repeated.any():
            self._learn(prints, store(data))
            return
        known = held.tolist()
        at = done = 0  # sectors in [done, at) wait to be stored

        def store_waiting() -> None:
            nonlocal done, known
            if done < at:
                self._learn(prints[done:at], store(data[done * step : at * step]))
                if repeated[done:at].any():
                    known = self._holds(prints).tolist()
                done = at

        for end in range(per_window, len(sectors) + per_window, per_window):
            while at < min(end, len(sectors)):
                match = self._match(int(prints[at]), whole, done * step, at * step) if known[at] else None
                at += 1
                if match:
                    at = match[0] // step
                    store_waiting()
                    share(match[1])
                    at = done = at + match[1].num_bytes // step
            if repeated[done:at].any():
                store_waiting()
        store_waiting()

    def chunk(self, data: memoryview, kind: int) -> FileExtent | None:
        """Return a file extent of all of the extent that holds *data*, compressed by *kind*; None if there is none."""
        whole = self._padded(data)
        found = self._find(xxh3_64_intdigest(whole, kind), kind)
        if found is None or found.sector * self._sectorsize != len(whole):
            return None
        length = found.sectors * self._sectorsize
        stored = self._read(found.logical, length)
        if memoryview(decompress(kind, stored, len(whole), self._sectorsize)) != whole:
            return None
        return self._extent(found, len(whole), 0, len(whole))

    def learn_chunk(self, data: memoryview, extent: FileExtent) -> None:
        """Remember *extent*, which holds *data* compressed."""
        step, kind = self._sectorsize, extent.compression
        entry = np.zeros(1, _ENTRY)
        entry["fingerprint"] = xxh3_64_intdigest(self._padded(data), kind)
        entry["logical"], entry["generation"], entry["kind"] = extent.disk_bytenr, extent.generation, kind
        entry["sectors"], entry["sector"] = extent.disk_num_bytes // step, extent.ram_bytes // step
        self._table[self._slots(entry["fingerprint"])] = entry

    def _padded(self, data: memoryview) -> memoryview:
        length = round_up(len(data), self._sectorsize)
        return data if len(data) == length else memoryview(bytes(data).ljust(length, b"\0"))

    # The table

    def _slots(self, prints: Fingerprints) -> NDArray[np.intp]:
        return (prints % np.uint64(_SLOTS)).astype(np.intp)

    def _holds(self, prints: Fingerprints) -> NDArray[np.bool_]:
        """Return which of *prints* the table has."""
        entries = self._table[self._slots(prints)]
        held: NDArray[np.bool_] = (entries["fingerprint"] == prints) & (entries["sectors"] > 0)
        return held

    def _learn(self, prints: Fingerprints, extents: list[FileExtent]) -> None:
        """Remember where the sectors with *prints* were stored; of equal ones, where the first one was."""
        step = self._sectorsize
        first = 0
        for extent in extents:
            count = extent.num_bytes // step
            entries = np.zeros(count, _ENTRY)
            entries["fingerprint"] = prints[first : first + count]
            entries["logical"], entries["generation"] = extent.disk_bytenr, extent.generation
            entries["sectors"], entries["sector"] = count, np.arange(count)
            slots = self._slots(entries["fingerprint"])
            there = self._table[slots]
            new = (there["fingerprint"] != entries["fingerprint"]) | (there["sectors"] == 0)
            self._table[slots[new][::-1]] = entries[new][::-1]  # of two for one slot, the latter stays
            first += count

    def _find(self, fingerprint: int, kind: int) -> _Known | None:
        """Return what the table has of *fingerprint*, if it is still to be had."""
        slot = fingerprint % _SLOTS
        entry = self._table[slot]
        if int(entry["fingerprint"]) != fingerprint or not entry["sectors"] or entry["kind"] != kind:
            return None
        found = _Known(*map(int, (entry[name] for name in _Known._fields)))
        if self._is_alive(found):
            return found
        self._table["sectors"][slot] = 0
        return None

    def _is_alive(self, found: _Known) -> bool:
        """Return whether an extent is still what it was.

        One that only this transaction has dropped is: a reference that comes before the commit keeps it.
        """
        if found.generation == self._txn.generation:
            return True
        if self._generation != self._txn.generation:
            self._generation = self._txn.generation
            self._alive.clear()
        if found.logical not in self._alive:
            key = Key(found.logical, ItemType.EXTENT_ITEM, found.sectors * self._sectorsize)
            try:
                item = ExtentItem.unpack(self._txn.tree(TreeId.EXTENT_TREE).get(key))
            except NotFoundError:
                self._alive[found.logical] = 0
            else:
                self._alive[found.logical] = item.generation
        return self._alive[found.logical] == found.generation

    # The bytes

    def _match(self, fingerprint: int, data: memoryview, first: int, at: int) -> tuple[int, FileExtent] | None:
        """Return where the longest run of sectors around *at* begins, not before *first*, that is stored already.

        That is in bytes of *data*; with it comes the file extent for the run. None if what has the fingerprint of the
        sector at *at* is something else.
        """
        found = self._find(fingerprint, Compression.NONE)
        if found is None:
            return None
        offset, length = found.sector * self._sectorsize, found.sectors * self._sectorsize
        equal = self._equal(data[at : at + length - offset], found.logical + offset)
        if not equal:
            return None
        before = self._equal_before(data[max(first, at - offset) : at], found.logical + offset)
        return at - before, self._extent(found, length, offset - before, before + equal)

    def _extent(self, found: _Known, ram_bytes: int, offset: int, num_bytes: int) -> FileExtent:
        allocated = found.sectors * self._sectorsize
        head = (found.generation, ram_bytes, found.kind, 0, 0, FileExtentType.REGULAR)
        return FileExtent(*head, found.logical, allocated, offset, num_bytes)

    def _equal(self, data: memoryview, logical: int) -> int:
        """Return how many bytes of *data*, in whole sectors, are what is stored at *logical*."""
        done, size = 0, _FIRST_LOOK
        while done < len(data):
            piece = data[done : done + size]
            stored = self._read(logical + done, len(piece))
            different = np.flatnonzero(np.frombuffer(piece, "<u8") != np.frombuffer(stored, "<u8"))
            if len(different):
                return done + int(different[0]) * 8 // self._sectorsize * self._sectorsize
            done, size = done + len(piece), _LOOK
        return done

    def _equal_before(self, data: memoryview, logical: int) -> int:
        """Return how many bytes at the end of *data*, in whole sectors, are what is stored before *logical*.

        There are some where the table has lost a sector, or met an equal one elsewhere first.
        """
        step, equal = self._sectorsize, 0
        while equal < len(data) and self._read(logical - equal - step, step) == data[-equal - step :][:step]:
            equal += step
        return equal

    def _read(self, logical: int, length: int) -> bytes:
        self._settle(logical, length)
        return self._txn.volume.read(logical, length)


def _repeated_later(prints: Fingerprints, per_window: int) -> NDArray[np.bool_]:
    """Return which of *prints* come again in a later window of so many."""
    if len(prints) <= per_window:
        return np.zeros(len(prints), np.bool_)
    order = np.argsort(prints, kind="stable")
    ordered, windows = prints[order], order // per_window
    again = (ordered[1:] == ordered[:-1]) & (windows[1:] != windows[:-1])
    repeated = np.zeros(len(prints), np.bool_)
    repeated[order[:-1][again]] = True
    return repeated

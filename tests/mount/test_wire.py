"""The structures of the FUSE protocol have the kernel's sizes, and the three forms of a Record agree on them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btrimg.mount import wire
from btrimg.ondisk.record import Record

#: sizeof() of each, as include/uapi/linux/fuse.h lays it out.
SIZES = {
    "InHeader": 40,
    "OutHeader": 16,
    "InitIn": 64,
    "InitOut": 64,
    "Attr": 88,
    "EntryOut": 128,
    "AttrOut": 104,
    "StatxIn": 24,
    "SxTime": 16,
    "Statx": 256,
    "StatxOut": 288,
    "OpenOut": 16,
    "AccessIn": 8,
    "ReleaseIn": 24,
    "ReadIn": 40,
    "Dirent": 24,
    "DirentPlus": 152,
    "GetxattrIn": 8,
    "GetxattrOut": 8,
    "LseekIn": 24,
    "LseekOut": 8,
    "StatfsOut": 80,
    "ForgetIn": 8,
    "ForgetOne": 16,
    "BatchForgetIn": 8,
    "InterruptIn": 8,
    "IoctlIn": 32,
    "IoctlOut": 16,
    "BackingMap": 16,
}
RECORDS = [kind for kind in vars(wire).values() if isinstance(kind, type) and issubclass(kind, Record)]
FIXED = [kind for kind in RECORDS if kind is not Record and not kind.TAIL]


def test_sizes_are_the_kernels() -> None:
    assert {kind.__name__: kind.SIZE for kind in RECORDS if kind is not Record} == SIZES


@pytest.mark.parametrize("kind", FIXED, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_all_forms_agree_on_any_bytes(kind: type[Record], data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=kind.SIZE, max_size=kind.SIZE))
    record = kind.unpack(raw)
    assert record.pack() == raw
    assert kind.con().parse(raw) == record
    assert kind.dtype().itemsize == kind.SIZE


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=8))
def test_forgets_come_in_batches(nodes: list[tuple[int, int]]) -> None:
    batch = wire.BatchForgetIn(len(nodes), 0, tuple(wire.ForgetOne(*node) for node in nodes))
    assert wire.BatchForgetIn.unpack(batch.pack()) == batch

"""Exported keys: as the format says, and as libCacheSim reads them, where it is installed."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from btrimg.pagecache import exported
from btrimg.pagecache.simulate import Stream
from pagecache.test_eviction import WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path


def test_oracle_general_is_as_its_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "_PIECE", 2)
    pieces = list(
        exported.oracle_general(Stream(np.array([7, 3, 7, 7, 0]), 8), np.array([0, 1, 2, 3, 9]) * 999_999_999)
    )
    assert [len(piece) for piece in pieces] == [48, 48, 24]
    assert list(struct.iter_unpack("<IQIq", b"".join(pieces))) == [
        (0, 7, 4096, 2),
        (0, 3, 4096, -1),
        (1, 7, 4096, 3),
        (2, 7, 4096, -1),
        (8, 0, 4096, -1),
    ]


def test_csv() -> None:
    pieces = exported.csv(Stream(np.array([7, 3]), 8), np.array([0, 5_500_000_000]))
    assert b"".join(pieces) == b"time,object,size\n0,7,4096\n5,3,4096\n"


@pytest.mark.parametrize("policy", ["lru", "clock", "s3-fifo", "belady"])
def test_libcachesim_reads_it(tmp_path: Path, policy: str) -> None:
    package = pytest.importorskip("libcachesim")
    stream = Stream(np.array(WORKLOADS["scanned"]()), 2000)
    path = tmp_path / "keys.oracleGeneral"
    path.write_bytes(b"".join(exported.oracle_general(stream, np.zeros(len(stream.pages), np.int64))))
    reader = package.TraceReader(trace=str(path), trace_type=package.TraceType.ORACLE_GENERAL_TRACE)
    made = {"lru": "LRU", "clock": "Clock", "s3-fifo": "S3FIFO", "belady": "Belady"}[policy]
    cache = (
        getattr(package, made)(300 * 4096, reader=reader) if policy == "belady" else getattr(package, made)(300 * 4096)
    )
    missed, _ = cache.process_trace(reader)
    assert missed == pytest.approx(1 - stream.run(policy, 300).hits.mean(), abs=1e-9)

"""One CRC-32C of many pieces, against the CRC-32C of all their bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.ondisk.crcjoin import PIECES, join, joined
from btrimg.ondisk.csum import crc32c, crcmod_crc32c


def sums_of(pieces: list[bytes], width: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """Return the checksums of *pieces*, filled up in front to *width*."""
    sums = [0] * (width - len(pieces)) + [crcmod_crc32c(piece) for piece in pieces]
    return np.array([sums], np.uint32)


@given(st.integers(1, 17), st.sampled_from([1, 2, 4, 16, 64]), st.data())
def test_joined_checksums_are_that_of_all_bytes(width: int, length: int, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.binary(min_size=length, max_size=length), min_size=1, max_size=width))
    assert join(sums_of(pieces, width), length).tolist() == [crcmod_crc32c(b"".join(pieces))]


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=40), st.sampled_from([0, PIECES - 40]))
def test_one_row_of_any_length_is_joined_as_stored(pieces: list[bytes], zeros: int) -> None:
    pieces = [bytes(16)] * zeros + pieces
    sums = b"".join(crc32c(piece).to_bytes(4, "little") for piece in pieces)
    assert joined(sums, 16) == crc32c(b"".join(pieces))


def test_many_rows_are_joined_at_once() -> None:
    content = random.Random("rows").randbytes(3 * 8 * 4096)
    sums = [crc32c(content[at : at + 4096]) for at in range(0, len(content), 4096)]
    joined = join(np.array(sums, np.uint32).reshape(3, 8), 4096)
    assert joined.tolist() == [crc32c(content[at : at + 8 * 4096]) for at in range(0, len(content), 8 * 4096)]


def test_pieces_of_all_sizes_of_sectors_are_joined() -> None:
    content = random.Random("sizes").randbytes(3 << 16)
    for length in (1 << bits for bits in range(17)):
        pieces = [content[at : at + length] for at in range(0, 3 * length, length)]
        assert join(sums_of(pieces, 3), length).tolist() == [crc32c(content[: 3 * length])]
    with pytest.raises(ValueError, match="pieces of 12 bytes"):
        join(np.zeros((1, 2), np.uint32), 12)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_up_to_three_changed_bits_are_never_missed(bits: int) -> None:
    """CRC-32C's Hamming distance is 4 up to 2**31 bits: for a group of sectors as for one of them."""
    some = random.Random(bits)
    content = some.randbytes(16 * 512)
    joined = join(sums_of([content[at : at + 512] for at in range(0, len(content), 512)], 16), 512)[0]
    for _ in range(300):
        changed = bytearray(content)
        for bit in some.sample(range(len(content) * 8), bits):
            changed[bit // 8] ^= 1 << bit % 8
        assert crc32c(changed) != joined

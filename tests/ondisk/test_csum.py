"""Checksums and key hashes against published vectors, a second implementation, and what mkfs and Linux wrote.

Linux's values are keys that dump-tree showed on an image of Linux 6.18.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import UnsupportedError
from btrimg.ondisk import csum

if TYPE_CHECKING:
    from pathlib import Path

U32 = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("function", [csum.crc32c, csum.crcmod_crc32c])
@pytest.mark.parametrize(
    ("data", "value"),
    [  # RFC 3720, B.4, read as little-endian words
        (b"", 0),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c_known_vectors(function: object, data: bytes, value: int) -> None:
    assert callable(function)
    assert function(data) == value


@given(st.binary(max_size=9000), st.none() | U32)
def test_fastcrc_agrees_with_the_declared_polynomial(data: bytes, initial: int | None) -> None:
    assert csum.crc32c(data, initial) == csum.crcmod_crc32c(data, initial)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_crc32c_continues_where_it_stopped(data: bytes, cut: int) -> None:
    assert csum.crc32c(data[cut:], csum.crc32c(data[:cut])) == csum.crc32c(data)


def _bitwise_crc32c(seed: int, data: bytes) -> int:
    for byte in data:
        seed ^= byte
        for _ in range(8):
            seed = seed >> 1 ^ (0x82F63B78 if seed & 1 else 0)
    return seed


@given(U32, st.binary(max_size=40))
def test_raw_crc32c_inverts_nothing(seed: int, data: bytes) -> None:
    assert csum.crc32c_raw(seed, data) == _bitwise_crc32c(seed, data)


def test_crcmod_takes_over_without_fastcrc() -> None:
    code = (
        "import sys; sys.modules['fastcrc'] = None\n"
        "from btrimg.ondisk import csum\n"
        "print(csum.crc32c is csum.crcmod_crc32c, csum.name_hash(b'default'))\n"
        "print(csum.algorithm(0).digest(b'a').hex())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "2378154706", csum.algorithm(0).digest(b"a").hex()]


def test_import_loads_no_heavy_module() -> None:
    code = "import sys, btrimg.ondisk.csum; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "construct", "hashlib", "xxhash", "crcmod"} & set(run.stdout.split())


def test_name_hash() -> None:
    assert csum.name_hash(b"default") == 2378154706


@pytest.mark.parametrize(
    ("parent", "name", "hashed"),
    [(258, b"name308-", 6242955), (258, b"name395-", 13588469), (258, b"name088-", 19337132)],
)
def test_extref_hash_as_linux_wrote_it(parent: int, name: bytes, hashed: int) -> None:
    assert csum.extref_hash(parent, name + b"x" * 200) == hashed
    assert csum.extref_hash(parent + (7 << 32), name + b"x" * 200) == hashed


@pytest.mark.parametrize(
    ("root", "objectid", "offset", "hashed"),
    [  # EXTENT_DATA_REF keys of one extent with 151 references
        (256, 391, 8192, 1002667597144494665),
        (256, 328, 18446744073709547520, 1002667597150196221),
        (256, 328, -4096, 1002667597150196221),
        (256, 396, 12288, 1002667597181822779),
        (256, 303, 0, 1002667597794388565),
    ],
)
def test_extent_data_ref_hash_as_linux_wrote_it(root: int, objectid: int, offset: int, hashed: int) -> None:
    assert csum.extent_data_ref_hash(root, objectid, offset) == hashed


@pytest.mark.parametrize(
    ("csum_type", "name", "digest"),
    [
        (0, "crc32c", "b73f4b36"),
        (1, "xxhash64", "990977adf52cbc44"),
        (2, "sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (3, "blake2b", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"),
    ],
)
def test_digest_of_abc(csum_type: int, name: str, digest: str) -> None:
    algorithm = csum.algorithm(csum_type)
    assert algorithm.name == name
    assert algorithm.size == csum.CSUM_SIZES[csum_type] == len(digest) // 2
    assert algorithm.digest(b"abc").hex() == digest


@pytest.mark.parametrize("csum_type", csum.CSUM_SIZES)
@given(st.binary(max_size=5000))
def test_digest_has_its_size_for_every_kind_of_buffer(csum_type: int, data: bytes) -> None:
    name, size, digest, digests = csum.algorithm(csum_type)
    assert len(digest(data)) == size, name
    assert digest(memoryview(b"xy" + data)[2:]) == digest(bytearray(data)) == digest(data)
    assert digests([data, data[1:], b""]) == digest(data) + digest(data[1:]) + digest(b"")
    assert digests([]) == b""


def test_digest_maps_over_the_rows_of_an_array() -> None:
    np = pytest.importorskip("numpy")
    rows = np.arange(5 * 4096, dtype=np.uint32).view(np.uint8).reshape(20, 4096)
    for csum_type in csum.CSUM_SIZES:
        digest = csum.algorithm(csum_type).digest
        assert list(map(digest, rows)) == [digest(row.tobytes()) for row in rows]


def test_unknown_type_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"type 4 is not known .0 crc32c, 1 xxhash64, 2 sha256, 3 blake2b are"):
        csum.algorithm(4)


@pytest.mark.progs
@pytest.mark.parametrize(("csum_type", "name"), list(enumerate(["crc32c", "xxhash", "sha256", "blake2"])))
def test_superblock_of_mkfs(tmp_path: Path, csum_type: int, name: str) -> None:
    image = tmp_path / "image"
    image.touch()
    with image.open("r+b") as file:
        file.truncate(256 << 20)
        subprocess.run(["mkfs.btrfs", "-q", "--csum", name, image], check=True, capture_output=True)
        file.seek(65536)
        block = file.read(4096)
    assert block[:32] == csum.algorithm(csum_type).digest(memoryview(block)[32:]).ljust(32, b"\0")

"""Checksums, and the hashes that on-disk keys are made of.

The superblock names one checksum algorithm for all blocks and data of a filesystem. CRC-32C is also the hash
in the keys of directory items, xattrs, extended inode references and extent data references, whichever
checksum algorithm the filesystem has.

fastcrc computes CRC-32C 57 times faster than crcmod on 4 KiB (docs/dependencies.md). crcmod holds the
declared polynomial: the tests judge fastcrc by it, and it takes over where fastcrc has no wheel.
"""

from __future__ import annotations

import struct
from functools import cache, lru_cache

from btrimg.errors import UnsupportedError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import CsumType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

_U32_MAX = 0xFFFF_FFFF
_TWO = struct.Struct("<QQ")


@cache
def _castagnoli() -> Callable[[Buffer, int], int]:
    import crcmod

    return crcmod.mkCrcFun(0x1_1EDC_6F41, initCrc=0, rev=True, xorOut=_U32_MAX)  # type: ignore[return-value]


def crcmod_crc32c(data: Buffer, initial: int | None = None) -> int:
    """Return the CRC-32C of *data*, continuing from *initial*, the CRC-32C of what came before."""
    return _castagnoli()(data, initial or 0)


try:
    from fastcrc.crc32 import iscsi
except ImportError:
    crc32c = crcmod_crc32c
else:
    crc32c = iscsi  # the C function itself, not a wrapper: it runs for every block of an image


def crc32c_raw(seed: int, data: Buffer) -> int:
    """Return CRC-32C as the kernel's ``crc32c(seed, data)`` does, neither *seed* nor the result inverted."""
    return crc32c(data, seed ^ _U32_MAX) ^ _U32_MAX


def name_hash(name: bytes) -> int:
    """Return the key offset of the DIR_ITEM or XATTR_ITEM for *name* (``btrfs_name_hash``)."""
    return crc32c_raw(_U32_MAX - 1, name)


def extref_hash(parent: int, name: bytes) -> int:
    """Return the key offset of the INODE_EXTREF for *name* in directory *parent* (``btrfs_extref_hash``).

    Only the low 32 bits of the inode number *parent* count, because the kernel's seed is a u32.
    """
    return crc32c_raw(parent & _U32_MAX, name)


def extent_data_ref_hash(root: int, objectid: int, offset: int) -> int:
    """Return the key offset of the EXTENT_DATA_REF of a file extent (``hash_extent_data_ref``).

    *root* is the tree's id, *objectid* the inode, *offset* the file offset in bytes less the offset into the
    extent: where that is negative, the kernel's u64 wraps. The halves overlap by one bit: the hash has 63.
    """
    low = crc32c_raw(_U32_MAX, _TWO.pack(objectid, offset % (1 << 64)))
    return _root_part(root) ^ low


@lru_cache(1024)
def _root_part(root: int) -> int:
    return crc32c_raw(_U32_MAX, struct.pack("<Q", root)) << 31


class CsumAlgorithm(NamedTuple):
    """One checksum algorithm of btrfs."""

    name: str  #: as dump-super prints it
    size: int  #: bytes of a digest on disk
    digest: Callable[[Buffer], bytes]  #: the bytes stored on disk, exactly ``size`` of them
    digests: Callable[[Iterable[Buffer]], bytes]  #: those of many, one after the other, quicker than one by one


def _crc32c() -> Callable[[Buffer], bytes]:
    return lambda data: crc32c(data).to_bytes(4, "little")


def _many_crc32c(sectors: Iterable[Buffer]) -> bytes:
    sums = [*map(crc32c, sectors)]  # without a Python function in between: a sixth of the time
    return struct.pack(f"<{len(sums)}I", *sums)


def _xxhash64() -> Callable[[Buffer], bytes]:
    from xxhash import xxh64_intdigest

    return lambda data: xxh64_intdigest(data).to_bytes(8, "little")


def _sha256() -> Callable[[Buffer], bytes]:
    from hashlib import sha256

    return lambda data: sha256(data).digest()


def _blake2b() -> Callable[[Buffer], bytes]:
    from hashlib import blake2b

    return lambda data: blake2b(data, digest_size=32).digest()


_ALGORITHMS: dict[int, tuple[str, int, Callable[[], Callable[[Buffer], bytes]]]] = {
    CsumType.CRC32C: ("crc32c", 4, _crc32c),
    CsumType.XXHASH64: ("xxhash64", 8, _xxhash64),
    CsumType.SHA256: ("sha256", 32, _sha256),
    CsumType.BLAKE2B: ("blake2b", 32, _blake2b),
}

#: Bytes of one checksum on disk, by csum type number.
CSUM_SIZES = {number: size for number, (_, size, _) in _ALGORITHMS.items()}


@cache
def algorithm(csum_type: int) -> CsumAlgorithm:
    """Return the algorithm that the superblock's *csum_type* means; raise UnsupportedError if none is."""
    if csum_type not in _ALGORITHMS:
        known = ", ".join(f"{number} {name}" for number, (name, _, _) in _ALGORITHMS.items())
        raise UnsupportedError(f"checksum type {csum_type} is not known ({known} are)")
    name, size, make_digest = _ALGORITHMS[csum_type]
    digest = make_digest()
    many = _many_crc32c if csum_type == CsumType.CRC32C else lambda sectors: b"".join(map(digest, sectors))
    return CsumAlgorithm(name, size, digest, many)

"""Checksums of tree blocks and superblocks, made right."""

from __future__ import annotations

from btrimg.errors import UnsupportedError
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.superblock import Superblock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.csum import CsumAlgorithm

_CSUM_FIELD = 32  # bytes before what the checksum covers


def seal(data: bytes, csum: CsumAlgorithm) -> bytes:
    """Return a tree block or superblock with its checksum made right."""
    return csum.digest(memoryview(data)[_CSUM_FIELD:]).ljust(_CSUM_FIELD, b"\0") + data[_CSUM_FIELD:]


def seal_superblock(data: bytes) -> bytes:
    """Return a superblock with its checksum made right, by the type that it names; as it was if that is not known."""
    try:
        csum = algorithm(Superblock.unpack(data).csum_type)
    except UnsupportedError:
        return data
    return seal(data, csum)

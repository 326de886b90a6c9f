"""Devices that no mkfs made: superblocks with chosen fields, and chunks filled by a model of RAID of its own."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.ondisk.blocks import DiskKey
from btrimg.ondisk.chunks import Chunk, DevItem, Stripe
from btrimg.ondisk.constants import MAGIC, STRIPE_LEN, SUPERBLOCK_OFFSETS, BlockGroup, ItemType
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
SIZE = 66 * MIB  # the second copy of the superblock fits


def uuid(name: str) -> bytes:
    return hashlib.md5(name.encode()).digest()


class Spec(NamedTuple):
    """A device to be written."""

    name: str
    devid: int
    fs: str = "top"
    generation: int = 10
    flags: int = 1


def chunk(profile: int, width: int, length: int, *, logical: int = 0, devids: Sequence[int] = ()) -> Chunk:
    """Return a chunk whose stripe n lies at (n + 1) MiB of its device, of uuid ``dev<devid>``."""
    stripes = tuple(
        Stripe(devid, (n + 1) * MIB, uuid(f"dev{devid}")) for n, devid in enumerate(devids or range(1, width + 1))
    )
    return Chunk(length, 2, STRIPE_LEN, BlockGroup.DATA | profile, 65536, 65536, 4096, width, 1, stripes)


def sys_chunk_array(chunks: dict[int, Chunk]) -> bytes:
    return b"".join(DiskKey(256, ItemType.CHUNK_ITEM, logical).pack() + each.pack() for logical, each in chunks.items())


def dev_item(devid: int, name: str, fs: str = "top") -> DevItem:
    return DevItem.unpack(bytes(DevItem.SIZE)).replace(devid=devid, uuid=uuid(name), fsid=uuid(fs), total_bytes=SIZE)


def superblock(spec: Spec, chunks: dict[int, Chunk], **changes: Any) -> Superblock:
    array = sys_chunk_array(chunks)
    values: dict[str, Any] = {
        "fsid": uuid(spec.fs),
        "magic": MAGIC,
        "flags": spec.flags,
        "generation": spec.generation,
        "root": MIB,
        "chunk_root": MIB,
        "total_bytes": SIZE,
        "bytes_used": MIB,
        "num_devices": 1,
        "sectorsize": 4096,
        "nodesize": 16384,
        "sys_chunk_array_size": len(array),
        "sys_chunk_array": array.ljust(2048, b"\0"),
        "dev_item": dev_item(spec.devid, spec.name, spec.fs),
    }
    return Superblock.unpack(bytes(4096)).replace(**{**values, **changes})


def sealed(block: Superblock) -> bytes:
    """Return the bytes of a superblock with its checksum made right."""
    csum = algorithm(block.csum_type).digest(block.pack()[32:])
    return block.replace(csum=csum.ljust(32, b"\0")).pack()


def write_superblock(path: str, block: Superblock, mirrors: Sequence[int] = (0, 1)) -> None:
    with open(path, "r+b") as file:
        for mirror in mirrors:
            file.seek(SUPERBLOCK_OFFSETS[mirror])
            file.write(sealed(block.replace(bytenr=SUPERBLOCK_OFFSETS[mirror])))


def make_device(directory: object, spec: Spec, chunks: dict[int, Chunk], **changes: Any) -> str:
    """Write a sparse device with its superblocks, and give its path."""
    path = os.path.join(str(directory), f"{spec.fs}-{spec.name}-{spec.generation}.img")
    with open(path, "wb") as file:
        file.truncate(SIZE)
    write_superblock(path, superblock(spec, chunks, **changes))
    return path


def times_two(value: int) -> int:
    return (value << 1) ^ 0x11D if value & 0x80 else value << 1


def slow_parity(data: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return P and Q byte by byte, from their definitions: the sum of D_i, and the sum of D_i times 2 to the i."""
    ps, qs = bytearray(len(data[0])), bytearray(len(data[0]))
    for number, column in enumerate(data):
        for at, value in enumerate(column):
            ps[at] ^= value
            for _ in range(number % 255):
                value = times_two(value)
            qs[at] ^= value
    return bytes(ps), bytes(qs)


def fill_row(paths: Sequence[str], row: int, parity: int, seed: int, length: int) -> list[bytes]:
    """Write the first *length* bytes of the elements of a row of RAID5 or RAID6 over all *paths*; give the data."""
    width = len(paths)
    data = [random.Random(seed * 99 + n).randbytes(length) for n in range(width - parity)]
    columns = [*data, *slow_parity(data)[:parity]]
    for position, column in enumerate(columns):
        stripe = (row + position) % width
        with open(paths[stripe], "r+b") as file:
            file.seek((stripe + 1) * MIB + row * STRIPE_LEN)
            file.write(column)
    return data

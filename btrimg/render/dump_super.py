"""A superblock in the layout of ``btrfs inspect-internal dump-super`` (6.19), and as an object."""

from __future__ import annotations

from btrimg.errors import CorruptError
from btrimg.ondisk.chunks import sys_chunks
from btrimg.ondisk.constants import MAGIC, CompatRo, Incompat, ItemType, SuperFlag
from btrimg.ondisk.csum import CSUM_SIZES, algorithm
from btrimg.render.answers import name as text_of
from btrimg.render.dump_json import key_object, record_object
from btrimg.render.dump_space import chunk_lines
from btrimg.render.names import dotted, flag_names, key_text, printable
from btrimg.render.text import printable as safe
from btrimg.volume.superblocks import metadata_fsid, uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from btrimg.enums import IntFlag
    from btrimg.ondisk.blocks import DiskKey
    from btrimg.ondisk.chunks import Chunk
    from btrimg.ondisk.superblock import RootBackup, Superblock

_RULE = "-" * 57
_CSUM_FIELD = 32  # bytes before what the checksum covers
_UNKNOWN_FLAG = "unknown flag: {:#x}"


def heading(offset: int, path: str) -> Iterator[str]:
    """Yield the two lines above a superblock found at byte *offset* of the device *path*."""
    yield f"superblock: bytenr={offset}, device={safe(path.encode(errors='surrogateescape'))}"
    yield _RULE


def lines(superblock: Superblock, *, full: bool = False) -> Iterator[str]:
    """Yield the superblock's values, one a line; with *full* its system chunks and backup roots too."""
    for row in _rows(superblock):
        name, value, *more = row
        yield f"{_label(name)}{value}"
        yield from more
    if full:
        yield f"sys_chunk_array[{len(superblock.sys_chunk_array)}]:"
        yield from _system_chunk_lines(superblock)
        yield f"backup_roots[{len(superblock.super_roots)}]:"
        for number, backup in enumerate(superblock.super_roots):
            if backup.tree_root or backup.tree_root_gen:
                yield f"\tbackup {number}:"
                yield from _backup_lines(backup, superblock)


def csum_matches(superblock: Superblock) -> bool | None:
    """Return whether the superblock's checksum is that of its bytes; None when its type is not known."""
    if superblock.csum_type not in CSUM_SIZES:
        return None
    csum = algorithm(superblock.csum_type)
    return superblock.csum[: csum.size] == csum.digest(superblock.pack()[_CSUM_FIELD:])


def fsid_matches(superblock: Superblock) -> bool:
    """Return whether the device item belongs to the filesystem that the superblock names."""
    return superblock.dev_item.fsid == metadata_fsid(superblock)


def _label(name: str) -> str:
    """Return *name* and the tabs that put its value into column 24, or one tab if it is too long for that."""
    return f"{name}\t" if len(name) >= 16 else name + "\t" * (3 - len(name) // 8)


def _match(good: bool) -> str:
    return "[match]" if good else "[DON'T MATCH]"


def _flags(name: str, flags: int, kind: type[IntFlag]) -> tuple[str, ...]:
    names = flag_names(flags, kind, _UNKNOWN_FLAG)
    begins, ends = ["(", *" " * len(names)], [*"|" * (len(names) - 1), ")"]
    more = [f"\t\t\t{begin} {flag} {end}" for begin, flag, end in zip(begins, names, ends, strict=False)]
    return name, f"0x{flags:x}", *more


def _rows(sb: Superblock) -> Iterator[tuple[str, ...]]:
    """Yield (name, value, further lines…) in btrfs-progs' order."""
    good, known = csum_matches(sb), CSUM_SIZES.get(sb.csum_type)
    size = known or len(sb.csum)
    yield "csum_type", f"{sb.csum_type} ({algorithm(sb.csum_type).name if known else 'INVALID'})"
    yield "csum_size", str(size)
    yield "csum", f"0x{sb.csum[:size].hex()} {'[UNKNOWN CSUM TYPE OR SIZE]' if good is None else _match(good)}"
    yield "bytenr", str(sb.bytenr)
    yield _flags("flags", sb.flags, SuperFlag)
    yield "magic", f"{dotted(sb.magic.to_bytes(8, 'little'))} {_match(sb.magic == MAGIC)}"
    yield "fsid", uuid_text(sb.fsid)
    yield "metadata_uuid", uuid_text(sb.metadata_uuid)
    yield "label", printable(sb.label)
    for name in ("generation", "root"):
        yield name, str(getattr(sb, name))
    yield "sys_array_size", str(sb.sys_chunk_array_size)
    for name in ("chunk_root_generation", "root_level", "chunk_root", "chunk_root_level", "log_root"):
        yield name, str(getattr(sb, name))
    yield "log_root_transid (deprecated)", str(sb.log_root_transid)
    for name in ("log_root_level", "total_bytes", "bytes_used", "sectorsize", "nodesize"):
        yield name, str(getattr(sb, name))
    yield "leafsize (deprecated)", str(sb.leafsize)
    yield "stripesize", str(sb.stripesize)
    yield "root_dir", str(sb.root_dir_objectid)
    yield "num_devices", str(sb.num_devices)
    yield "compat_flags", f"0x{sb.compat_flags:x}"
    yield _flags("compat_ro_flags", sb.compat_ro_flags, CompatRo)
    yield _flags("incompat_flags", sb.incompat_flags, Incompat)
    yield "cache_generation", str(sb.cache_generation)
    yield "uuid_tree_generation", str(sb.uuid_tree_generation)
    yield from _unprinted(sb)
    yield "dev_item.uuid", uuid_text(sb.dev_item.uuid)
    yield "dev_item.fsid", f"{uuid_text(sb.dev_item.fsid)} {_match(fsid_matches(sb))}"
    for name in ("type", "total_bytes", "bytes_used", "io_align", "io_width", "sector_size", "devid", "dev_group"):
        yield f"dev_item.{name}", str(getattr(sb.dev_item, name))
    for name in ("seek_speed", "bandwidth", "generation"):
        yield f"dev_item.{name}", str(getattr(sb.dev_item, name))


def _unprinted(sb: Superblock) -> Iterator[tuple[str, ...]]:
    """Yield what btrfs-progs does not print, where the filesystem uses it."""
    if sb.incompat_flags & Incompat.EXTENT_TREE_V2:
        yield "nr_global_roots", str(sb.nr_global_roots)
    if sb.incompat_flags & Incompat.REMAP_TREE:
        for name in ("remap_root", "remap_root_generation", "remap_root_level"):
            yield name, str(getattr(sb, name))


def _system_chunks(sb: Superblock) -> Iterator[tuple[DiskKey, Chunk] | str]:
    """Yield the system chunks as far as they can be read, then a phrase if that is not to the end."""
    array = sb.sys_chunk_array[: sb.sys_chunk_array_size]
    try:
        for key, chunk in sys_chunks(array):
            if key.type != ItemType.CHUNK_ITEM:
                yield f"no chunk, but {key_text(key)}; what follows cannot be read"
                return
            yield key, chunk
    except CorruptError as error:
        yield f"cut short: {error}"
    if len(array) < sb.sys_chunk_array_size:
        yield f"cut short: sys_array_size is {sb.sys_chunk_array_size}"


def _system_chunk_lines(sb: Superblock) -> Iterator[str]:
    for number, found in enumerate(_system_chunks(sb)):
        if isinstance(found, str):
            yield f"\t{found}"
        else:
            key, chunk = found
            yield f"\titem {number} {key_text(key)}"
            yield from chunk_lines(chunk)


def _backup_lines(backup: RootBackup, sb: Superblock) -> Iterator[str]:
    extent_name = "block_group_root" if sb.incompat_flags & Incompat.EXTENT_TREE_V2 else "extent_root"
    for name, field, tabs in (
        ("backup_tree_root", "tree_root", 1),
        ("backup_chunk_root", "chunk_root", 1),
        (f"backup_{extent_name}", "extent_root", 1),
        ("backup_fs_root", "fs_root", 2),
        ("backup_dev_root", "dev_root", 1),
        ("csum_root", "csum_root", 1),
    ):
        root, generation, level = (getattr(backup, field + suffix) for suffix in ("", "_gen", "_level"))
        yield f"\t\t{name}:{chr(9) * tabs}{root}\tgen: {generation}\tlevel: {level}"
    for field in ("total_bytes", "bytes_used", "num_devices"):
        yield f"\t\tbackup_{field}:\t{getattr(backup, field)}"
    yield ""


def as_dict(superblock: Superblock) -> dict[str, Any]:
    """Return the superblock as an object: raw integers, what they are called under ``names``, and what was verified."""
    found = record_object(superblock)
    del found["reserved"], found["padding"]
    found["label"] = text_of(superblock.label.partition(b"\0")[0])
    found["sys_chunk_array"] = [
        {"key": key_object(entry[0]), **record_object(entry[1])}
        for entry in _system_chunks(superblock)
        if not isinstance(entry, str)
    ]
    found["names"] = {
        "csum_type": algorithm(superblock.csum_type).name if superblock.csum_type in CSUM_SIZES else None,
        "flags": flag_names(superblock.flags, SuperFlag),
        "compat_ro_flags": flag_names(superblock.compat_ro_flags, CompatRo),
        "incompat_flags": flag_names(superblock.incompat_flags, Incompat),
        "magic": dotted(superblock.magic.to_bytes(8, "little")),
    }
    found["valid"] = {
        "csum": csum_matches(superblock),
        "magic": superblock.magic == MAGIC,
        "dev_item_fsid": fsid_matches(superblock),
    }
    return found

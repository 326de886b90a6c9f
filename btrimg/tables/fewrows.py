"""Rows of relations that are few on any image, made one by one through the point path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem import namei
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import QgroupInfo, QgroupLimit
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image, Parent
    from btrimg.ondisk.record import Record

    Row = dict[str, Any]  # text as bytes

_SUPERBLOCK_FIELDS = (
    *("generation", "root", "chunk_root", "log_root", "total_bytes", "bytes_used", "num_devices", "sectorsize"),
    *("nodesize", "csum_type", "flags", "compat_flags", "compat_ro_flags", "incompat_flags", "cache_generation"),
)
_NO_UUID = bytes(16)


def superblock(image: Image) -> Iterator[Row]:
    """Yield the row of ``superblock``."""
    sb = image.superblock
    changed = sb.metadata_uuid if sb.metadata_uuid != _NO_UUID else sb.fsid
    yield {
        "fsid": _uuid(sb.fsid),
        "metadata_uuid": _uuid(changed),
        "label": sb.label.partition(b"\0")[0],
        **{name: getattr(sb, name) for name in _SUPERBLOCK_FIELDS},
    }


def subvolumes(image: Image) -> Iterator[Row]:
    """Yield the rows of ``subvolumes``."""
    for each in image.subvolumes():
        root = each.root
        parent, path = _place(image, each.id)
        tail = each.has_tail
        yield {
            "id": each.id,
            "parent": parent.subvolume if parent else 0,
            "dirid": parent.dirid if parent else 0,
            "name": parent.name if parent else b"",
            "path": path or b"",
            "read_only": each.read_only,
            "generation": root.generation,
            "uuid": _uuid(root.uuid if tail else _NO_UUID),
            "parent_uuid": _uuid(root.parent_uuid if tail else _NO_UUID),
            "received_uuid": _uuid(root.received_uuid if tail else _NO_UUID),
            "otransid": root.otransid if tail else 0,
            "otime": root.otime.sec if tail else 0,
            "otime_nsec": root.otime.nsec if tail else 0,
        }


def _place(image: Image, subvolume: int) -> tuple[Parent | None, bytes | None]:
    try:
        return image.parent_of(subvolume), namei.path_of_subvolume(image, subvolume)
    except CorruptError as error:
        image.report(error)
        return None, None


def qgroups(image: Image) -> Iterator[Row]:
    """Yield the rows of ``qgroups``; none where quotas were never on."""
    try:
        tree = image.tree(TreeId.QUOTA_TREE)
    except NotFoundError:
        return
    except CorruptError as error:
        image.report(error)
        return
    kinds: dict[int, type[Record]] = {ItemType.QGROUP_INFO: QgroupInfo, ItemType.QGROUP_LIMIT: QgroupLimit}
    found: dict[int, dict[int, Any]] = {kind: {} for kind in kinds}
    for key, payload in tree.items(bad=image.report):
        if key.type in kinds:
            try:
                found[key.type][key.offset] = records_of(kinds[key.type], key.type, payload)[0]
            except CorruptError as error:
                image.report(CorruptError(f"quota group {key.offset:#x}: {error}"))
    unlimited = QgroupLimit.unpack(bytes(QgroupLimit.SIZE))
    for number, info in found[ItemType.QGROUP_INFO].items():
        limit = found[ItemType.QGROUP_LIMIT].get(number, unlimited)
        yield {
            "id": number,
            "level": number >> 48,
            **info.asdict(),
            "limit_flags": limit.flags,
            "max_rfer": limit.max_rfer,
            "max_excl": limit.max_excl,
        }


def _uuid(uuid: bytes) -> bytes:
    return uuid_text(uuid).encode()

"""Superblocks made good again: from a mirror, or from the roots that they keep of the last commits.

An image whose primary superblock is destroyed is not mounted by the kernel, though its mirrors are whole. Nothing here
needs the trees: an image that cannot be opened is what it is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.superblocks import copies_of
from btrimg.errors import NotFoundError, RefusedError
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS
from btrimg.volume.superblocks import read_copies

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from btrimg.ondisk.superblock import RootBackup, Superblock
    from btrimg.volume.device import Device
    from btrimg.volume.draft import Piece
    from btrimg.volume.superblocks import SuperCopy


def repaired_superblocks(
    devices: Mapping[int, Device],
    mirror: int | None = None,
    backup: int | None = None,
    made: Mapping[int, Superblock] | None = None,
) -> Iterator[Piece]:
    """Yield what is to be written so that all superblocks of each device are what the best sound one is, or *mirror*.

    The best is that of the highest generation, of these the first. With *backup*, its roots become those of that backup
    (0 to 3), which an earlier commit may have written: what came later is lost. Raises NotFoundError when there is no
    sound one, or no such backup, RefusedError when *mirror* is not sound. Devices that have none are given those *made*
    for them, by devid.
    """
    for devid, device in devices.items():
        superblock = made[devid] if made and devid in made else _chosen(device, mirror)
        yield from copies_of(devid, device, superblock if backup is None else _of_backup(superblock, backup))


def _chosen(device: Device, mirror: int | None) -> Superblock:
    copies = read_copies(device)
    sound = [copy for copy in copies if copy.superblock and not copy.fault]
    if mirror is None:
        best = max(
            sound, key=lambda copy: (copy.superblock.generation if copy.superblock else 0, -copy.mirror), default=None
        )
        if best is None or best.superblock is None:
            raise NotFoundError(f"{device.path} has no sound superblock: {_told(copies)}")
        return best.superblock
    if not 0 <= mirror < len(copies):
        places = ", ".join(f"{number} at {SUPERBLOCK_OFFSETS[number]}" for number in range(len(copies)))
        raise NotFoundError(f"{device.path} has no superblock {mirror}; by its size it can have {places or 'none'}")
    chosen = copies[mirror]
    if chosen.superblock is None or chosen.fault:
        raise RefusedError(f"superblock {mirror} of {device.path} is not sound: {chosen.fault}")
    return chosen.superblock


def _told(copies: list[SuperCopy]) -> str:
    return "; ".join(f"at {copy.offset}: {copy.fault}" for copy in copies) or "it is too small for any"


def _of_backup(superblock: Superblock, number: int) -> Superblock:
    """Return *superblock* as it was when the roots of a backup were its own (kernel ``read_backup_root``)."""
    if not 0 <= number < len(superblock.super_roots):
        raise NotFoundError(f"a superblock has {len(superblock.super_roots)} backups of its roots, no {number}")
    backup: RootBackup = superblock.super_roots[number]
    if not backup.tree_root or not backup.tree_root_gen:
        raise NotFoundError(f"backup {number} of the roots is empty")
    return superblock.replace(
        root=backup.tree_root,
        root_level=backup.tree_root_level,
        generation=backup.tree_root_gen,
        chunk_root=backup.chunk_root,
        chunk_root_level=backup.chunk_root_level,
        chunk_root_generation=backup.chunk_root_gen,
        total_bytes=backup.total_bytes,
        bytes_used=backup.bytes_used,
        num_devices=backup.num_devices,
        log_root=0,
        log_root_level=0,
    )

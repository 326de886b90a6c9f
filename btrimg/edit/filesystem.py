"""Edits of the filesystem as a whole that its superblocks alone say: the label, and whether it is a seed."""

from __future__ import annotations

from btrimg.edit.superblocks import changed_superblocks
from btrimg.errors import RefusedError
from btrimg.ondisk.constants import Incompat, SuperFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.draft import Piece

_LONGEST_LABEL = 255  # bytes; the last of the 256 is a NUL


def label_pieces(image: Image, label: bytes) -> Iterator[Piece]:
    """Yield what is to be written for the filesystem to have *label*; without bytes it has none.

    Raises RefusedError when it cannot be a label.
    """
    if len(label) > _LONGEST_LABEL:
        raise RefusedError(f"a label has up to {_LONGEST_LABEL} bytes, this one has {len(label)}")
    if b"\0" in label or b"\n" in label:
        raise RefusedError("a label ends at a NUL, and holds no line break")
    stored = label.ljust(_LONGEST_LABEL + 1, b"\0")
    return changed_superblocks(image, lambda superblock: superblock.replace(label=stored))


def seed_pieces(image: Image, seed: bool) -> Iterator[Piece]:
    """Yield what is to be written for the filesystem to be a *seed*, which is never written to, or to be none.

    Filesystems on top of a seed miss it when it has changed; which there are, it does not know. Raises RefusedError
    when it cannot become one.
    """
    superblock = image.superblock
    if seed and superblock.log_root:
        raise RefusedError("its log tree holds changes made after the last commit: replay it first (log replay)")
    if seed and superblock.incompat_flags & Incompat.METADATA_UUID:
        raise RefusedError("its fsid was changed by metadata-uuid; give it the old one again, or rewrite it (fsid)")
    if seed and image.volume.seeds and not superblock.flags & SuperFlag.SEEDING:
        raise RefusedError("it lies on top of a seed itself")

    def change(old: Superblock) -> Superblock:
        return old.replace(flags=old.flags | SuperFlag.SEEDING if seed else old.flags & ~SuperFlag.SEEDING)

    return changed_superblocks(image, change)

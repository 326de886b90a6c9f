"""What numbers of fields mean: flags by their names, kinds, modes of files in octal digits."""

from __future__ import annotations

from btrimg.ondisk import constants as known
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.chunks import (
    BalanceArgs,
    BalanceItem,
    BlockGroupItem,
    BlockGroupItemV2,
    Chunk,
    FreeSpaceInfo,
)
from btrimg.ondisk.extents import (
    ExtentItem,
    FileExtent,
    FileExtentInline,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
)
from btrimg.ondisk.inodes import DirItem, InodeItem
from btrimg.ondisk.roots import QgroupLimit, QgroupStatus, RootItem
from btrimg.ondisk.superblock import Superblock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.enums import IntEnum, IntFlag
    from btrimg.ondisk.record import Record

#: By structure and field.
KINDS: dict[tuple[type[Record], str], type[IntEnum | IntFlag]] = {
    (Superblock, "flags"): known.SuperFlag,
    (Superblock, "compat_ro_flags"): known.CompatRo,
    (Superblock, "incompat_flags"): known.Incompat,
    (Superblock, "csum_type"): known.CsumType,
    (Superblock, "root_dir_objectid"): known.TreeId,
    (Header, "flags"): known.HeaderFlag,
    (Chunk, "type"): known.BlockGroup,
    (BlockGroupItem, "flags"): known.BlockGroup,
    (BlockGroupItemV2, "flags"): known.BlockGroup,
    (BalanceArgs, "flags"): known.BalanceArgsFlag,
    (BalanceArgs, "profiles"): known.BlockGroup,
    (BalanceArgs, "target"): known.BlockGroup,
    (BalanceItem, "flags"): known.BalanceFlag,
    (FreeSpaceInfo, "flags"): known.FreeSpaceFlag,
    (ExtentItem, "flags"): known.ExtentFlag,
    (InlineRef, "type"): known.ItemType,
    (InlineDataRef, "type"): known.ItemType,
    (InlineSharedDataRef, "type"): known.ItemType,
    (FileExtent, "type"): known.FileExtentType,
    (FileExtent, "compression"): known.Compression,
    (FileExtentInline, "type"): known.FileExtentType,
    (FileExtentInline, "compression"): known.Compression,
    (InodeItem, "flags"): known.InodeFlag,
    (DirItem, "type"): known.FileType,
    (RootItem, "flags"): known.RootFlag,
    (QgroupStatus, "flags"): known.QgroupStatusFlag,
    (QgroupLimit, "flags"): known.QgroupLimitFlag,
}


def meaning(of: type[Record], field: str, value: object) -> str:
    """Return what the number of a *field* means, nothing where it means just that."""
    if not isinstance(value, int):
        return ""
    if (of, field) == (InodeItem, "mode"):
        return f"{value:#o}"
    if (of, field) == (Header, "flags"):
        value &= (1 << known.BACKREF_REV_SHIFT) - 1  # above stands a number
    kind = KINDS.get((of, field))
    try:
        return (kind(value).name if kind else None) or ""
    except ValueError:
        return ""

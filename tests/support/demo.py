"""What fixtures/demo.sh put into the demo's image, and other items for its inodes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.constants import FileExtentType, FileType, ItemType, TreeId
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.extents import FileExtent, FileExtentInline
from btrimg.ondisk.inodes import DirItem, InodeItem

from .forge import edit_leaf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .forge import Items

# Inodes of the top-level subvolume, and the subvolumes
TOP, FILES, DEEP, INLINE, SPARSE, PREALLOCATED, COMPRESSED, SYMLINK = 256, 258, 259, 261, 262, 263, 264, 266
VM, VM_MONDAY = 256, 257


def text(name: str, first: int, count: int) -> bytes:
    """Return *count* blocks of 4 KiB as the script's ``text`` writes them, from block *first* on."""
    blocks = []
    for block in range(first, first + count):
        line = f"written to {name} at {block * 4096}\n"
        lines, rest = divmod(4096 - len(line) - 1, 64)
        blocks.append(line + ("." * 63 + "\n") * lines + f"{'.':>{rest}}\n")
    return "".join(blocks).encode()


def entry(ino: int, name: bytes, kind: int = FileType.REG_FILE, **changes: Any) -> bytes:
    """Return a directory entry *name* that leads to an inode."""
    location = DiskKey(ino, ItemType.INODE_ITEM, 0)
    return DirItem(location, 1, 0, len(name), kind, name, b"").replace(**changes).pack()


def add_name(
    items: Items, directory: int, index: int, ino: int, name: bytes, kind: int = FileType.REG_FILE, **changes: Any
) -> None:
    """Add an entry to both indexes of *directory*."""
    for key_type, offset in ((ItemType.DIR_INDEX, index), (ItemType.DIR_ITEM, name_hash(name))):
        items[Key(directory, key_type, offset)] = entry(ino, name, kind, **changes)


def change_inode(items: Items, ino: int, **changes: Any) -> None:
    """Change fields of an inode item."""
    key = Key(ino, ItemType.INODE_ITEM, 0)
    items[key] = InodeItem.unpack(items[key]).replace(**changes).pack()


def change_extent(items: Items, ino: int, **changes: Any) -> None:
    """Change fields of the first file extent of *ino*."""
    key = min(key for key in items if key[:2] == (ino, ItemType.EXTENT_DATA))
    record = FileExtentInline if items[key][20] == FileExtentType.INLINE else FileExtent
    items[key] = record.unpack(items[key]).replace(**changes).pack()


def change_size(path: str, ino: int, size: int) -> None:
    """Change the size of a file of the top-level subvolume, and nothing else."""
    edit_leaf(path, TreeId.FS_TREE, lambda items: change_inode(items, ino, size=size))


def retarget(path: str, target: bytes) -> None:
    """Let the demo's symlink lead to *target*."""

    def change(items: Items) -> None:
        data = FileExtentInline(1, len(target), 0, 0, 0, FileExtentType.INLINE, target)
        items[Key(SYMLINK, ItemType.EXTENT_DATA, 0)] = data.pack()
        change_inode(items, SYMLINK, size=len(target))

    edit_leaf(path, TreeId.FS_TREE, change)


def spoil(path: str, file: bytes, offset: int, copies: Sequence[int] = (0, 1)) -> None:
    """Change the byte at *offset* of a file, on those copies of it."""
    with open_image(path) as image, open(path, "r+b") as device:
        places = image.open(file).resolve(offset).copies
        for number in copies:
            (byte,) = os.pread(device.fileno(), 1, places[number].physical)
            os.pwrite(device.fileno(), bytes([byte ^ 1]), places[number].physical)

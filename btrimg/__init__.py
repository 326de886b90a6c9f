"""btrimg: read, translate and verify btrfs images on disk, without root and without a mount.

::

    import btrimg

    with btrimg.open("disk.img") as fs:
        print(fs.open(b"/etc/passwd").resolve(4096))

The public names are those of ``__all__``; each is imported when it is first used, so that ``import btrimg`` is cheap.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.errors import (
        BlockError,
        BtrimgError,
        ChecksumError,
        CorruptError,
        DeviceError,
        ItemError,
        NotFoundError,
        UnsupportedError,
    )
    from btrimg.filesystem.columns import ExtentColumns
    from btrimg.filesystem.extents import ExtentRef, FileExtentRow
    from btrimg.filesystem.image import BtrimgWarning, Image, Parent, Subvolume
    from btrimg.filesystem.image import open_image as open  # noqa: A004 (the public name, as gzip.open)
    from btrimg.filesystem.inode import Inode
    from btrimg.filesystem.translate import Copy, Resolution

__all__ = [
    "BlockError",
    "BtrimgError",
    "BtrimgWarning",
    "ChecksumError",
    "Copy",
    "CorruptError",
    "DeviceError",
    "ExtentColumns",
    "ExtentRef",
    "FileExtentRow",
    "Image",
    "Inode",
    "ItemError",
    "NotFoundError",
    "Parent",
    "Resolution",
    "Subvolume",
    "UnsupportedError",
    "open",
]
_HOMES = {  # where a public name lives, if not in btrimg.errors
    "BtrimgWarning": "filesystem.image",
    "Copy": "filesystem.translate",
    "ExtentColumns": "filesystem.columns",
    "ExtentRef": "filesystem.extents",
    "FileExtentRow": "filesystem.extents",
    "Image": "filesystem.image",
    "Inode": "filesystem.inode",
    "Parent": "filesystem.image",
    "Resolution": "filesystem.translate",
    "Subvolume": "filesystem.image",
    "open": "filesystem.image",
}

if not TYPE_CHECKING:  # or a type checker would believe in every name

    def __getattr__(name: str) -> object:
        """Import the public *name* from the module where it lives."""
        if name not in __all__:
            raise AttributeError(f"module 'btrimg' has no attribute {name!r}")
        from importlib import import_module

        home = import_module(f"btrimg.{_HOMES.get(name, 'errors')}")
        return globals().setdefault(name, getattr(home, "open_image" if name == "open" else name))

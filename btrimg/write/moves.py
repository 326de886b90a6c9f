"""Names moved: renamed, within a directory or into another one of the same subvolume (fs/btrfs/inode.c)."""

from __future__ import annotations

import stat

from btrimg.errors import CorruptError, RefusedError
from btrimg.filesystem import edit_names
from btrimg.filesystem.edit_names import inode_key
from btrimg.filesystem.inode import quoted
from btrimg.filesystem.namei import Link
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileType, ItemType, TreeId
from btrimg.write import inodes, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.write.files import Files


def rename(files: Files, directory: int, name: bytes, new_directory: int, new_name: bytes) -> None:
    """Give the inode called *name* the name *new_name* in its place; what had that name goes (``btrfs_rename``).

    Raises NotFoundError when it is not there; RefusedError for a subvolume, for which there is
    :func:`subvolumes.rename`, when a directory would move into itself, and when what had the name cannot go:
    only an empty directory makes room for a directory, and only what is none for the rest.
    """
    names.check_name(new_name)
    ino = names.find_inode(files, directory, name)
    item = inodes.read(files, ino)
    if stat.S_ISDIR(item.mode) and new_directory != directory:
        _refuse_inside(files, new_directory, ino)
    kind = inodes.file_type(item.mode)
    other = edit_names.entry_named(files.tree, new_directory, new_name)
    if other is None:
        names.enter(files, new_directory, new_name, ino, kind)
    elif other.location.type == ItemType.INODE_ITEM and other.location.objectid == ino:
        return  # POSIX: two names of one file, or the same name, stay as they are
    else:
        _replace(files, new_directory, new_name, ino, kind)
    names.take_away(files, directory, name, ino)
    inodes.change(files, ino, ctime=files.now)


def _replace(files: Files, directory: int, name: bytes, ino: int, kind: FileType) -> None:
    """Give *ino* a *name* that another has, which loses it; the other stays when anything is refused."""
    is_directory = kind == FileType.DIR
    other = names.find_inode(files, directory, name)
    if stat.S_ISDIR(inodes.read(files, other).mode) != is_directory:
        what = "a directory" if is_directory else "what is no directory"
        raise RefusedError(f"{quoted(name)} in directory {directory} cannot make room for {what}")
    if is_directory:
        names.refuse_filled(files, other)
    index = files.new_index(directory)  # as in the kernel, above that of the name that goes
    edit_names.add_ref(files.tree, ino, Link(directory, index, name))
    (names.remove_directory if is_directory else names.unlink)(files, directory, name)
    names.add_entry(files, directory, index, name, inode_key(ino), kind)


def _refuse_inside(files: Files, directory: int, moved: int) -> None:
    """Raise RefusedError when *directory* is *moved* or lies below it, CorruptError when the way up has no end."""
    seen: set[int] = set()
    at = directory
    while at != TreeId.FIRST_FREE:
        if at == moved:
            raise RefusedError(f"directory {moved} cannot be moved into itself")
        seen.add(at)
        first = Key(at, ItemType.INODE_REF, 0)
        above = next(iter(files.tree.items(first, first._replace(offset=U64_MAX))), None)
        if above is None or above[0].offset in seen:
            raise CorruptError(f"directory {directory} of subvolume {files.id} hangs nowhere")
        at = above[0].offset

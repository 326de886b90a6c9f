"""Names of inodes: made, linked and unlinked (fs/btrfs/inode.c); :mod:`moves` renames, :mod:`subvolumes` has its own.

The caller has seen that what it names is there and what kind it is; what would break the filesystem is refused.
"""

from __future__ import annotations

import stat

from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem import edit_names
from btrimg.filesystem.edit_names import entry_named, inode_key
from btrimg.filesystem.inode import quoted
from btrimg.filesystem.namei import Link
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import NAME_MAX, U64_MAX, FileType, ItemType
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.inodes import DirItem, InodeRef
from btrimg.write import inodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.ondisk.blocks import DiskKey
    from btrimg.ondisk.inodes import InodeItem
    from btrimg.write.files import Files

# Plain numbers for the keys of a bulk: members of an enumeration take longer to look up, to sort and to store.
_INODE_ITEM, _INODE_REF = int(ItemType.INODE_ITEM), int(ItemType.INODE_REF)
_DIR_ITEM, _DIR_INDEX = int(ItemType.DIR_ITEM), int(ItemType.DIR_INDEX)

LINK_MAX = 65535  #: fs/btrfs/ctree.h BTRFS_LINK_MAX


def check_name(name: bytes) -> None:
    """Raise RefusedError when no file can have this *name*."""
    if not 0 < len(name) <= NAME_MAX:
        raise RefusedError(f"a name of {len(name)} bytes cannot be: a name has 1 to {NAME_MAX}")
    if name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise RefusedError(f"no file can be called {quoted(name)}: a name is neither '.' nor '..', without '/' and NUL")


def find(files: Files, directory: int, name: bytes) -> DirItem:
    """Return the entry *name* of *directory*.

    Raises NotFoundError when there is none.
    """
    entry = entry_named(files.tree, directory, name)
    if entry is None:
        raise NotFoundError(f"directory {directory} of subvolume {files.id} has no {quoted(name)}")
    return entry


def find_inode(files: Files, directory: int, name: bytes) -> int:
    """Return the number of the inode called *name* in *directory*.

    Raises NotFoundError when there is none, RefusedError when it is a subvolume.
    """
    where = find(files, directory, name).location
    if where.type != ItemType.INODE_ITEM:
        raise RefusedError(
            f"{quoted(name)} in directory {directory} is a subvolume: it is not a file of subvolume {files.id}"
        )
    return where.objectid


def enter(files: Files, directory: int, name: bytes, ino: int, kind: FileType) -> None:
    """Give *ino* a *name* in *directory*; its link count is as the caller made it (``btrfs_add_link``).

    Raises RefusedError when the name is taken or cannot be, or directory or inode have no room for it.
    """
    place = free_place(files, directory, name)
    index = files.new_index(directory)
    edit_names.add_ref(files.tree, ino, Link(directory, index, name))
    add_entry(files, directory, index, name, inode_key(ino), kind, place)


def free_place(files: Files, directory: int, name: bytes) -> tuple[Key, bytes]:
    """Return where :func:`add_entry` can put a new *name*.

    Raises RefusedError when the name is taken or cannot be, or there is no room for it.
    """
    check_name(name)
    place = edit_names.hashed(files.tree, directory, name)
    if place[1] and entry_named(files.tree, directory, name):
        raise RefusedError(f"directory {directory} of subvolume {files.id} has a {quoted(name)} already")
    edit_names.refuse_crowd(files.tree, directory, name, place[1])
    return place


def add_entry(
    files: Files,
    directory: int,
    index: int,
    name: bytes,
    location: DiskKey | Key,
    kind: FileType,
    place: tuple[Key, bytes] | None = None,
) -> None:
    """Add an entry to *directory*, whose size and times follow; *place* is what :func:`free_place` gave, if asked."""
    entry = DirItem.STRUCT.pack(*location, files.generation, 0, len(name), kind) + name
    edit_names.insert_entry(files.tree, directory, index, name, entry, place)
    resize_directory(files, directory, 2 * len(name))


def resize_directory(files: Files, directory: int, by: int) -> None:
    """Let the size of *directory*, whose entries changed, grow by so many bytes: two for each byte of a name."""
    inodes.change(files, directory, growth=by, mtime=files.now, ctime=files.now)


def link(files: Files, directory: int, name: bytes, ino: int) -> None:
    """Give *ino* a further name, a hard link (``btrfs_link``).

    Raises RefusedError for a directory, for too many links, and as :func:`enter` does.
    """
    item = inodes.read(files, ino)
    if stat.S_ISDIR(item.mode):
        raise RefusedError(f"inode {ino} is a directory: it has one name only")
    if item.nlink >= LINK_MAX:
        raise RefusedError(f"inode {ino} has {item.nlink} names: it can have no more")
    enter(files, directory, name, ino, inodes.file_type(item.mode))
    inodes.change(files, ino, nlink=item.nlink + 1, ctime=files.now)


def unlink(files: Files, directory: int, name: bytes) -> None:
    """Take a *name* away, and with the last one the inode (``btrfs_unlink``).

    Raises NotFoundError when it is not there, RefusedError for a directory.
    """
    ino = find_inode(files, directory, name)
    item = inodes.read(files, ino)
    if stat.S_ISDIR(item.mode):
        raise RefusedError(f"{quoted(name)} in directory {directory} is a directory: remove it as one")
    _remove(files, directory, name, ino, item)


def remove_directory(files: Files, directory: int, name: bytes) -> None:
    """Remove the empty directory called *name* (``btrfs_rmdir``).

    Raises NotFoundError when it is not there, RefusedError when it is none or not empty.
    """
    ino = find_inode(files, directory, name)
    item = inodes.read(files, ino)
    if not stat.S_ISDIR(item.mode):
        raise RefusedError(f"{quoted(name)} in directory {directory} is not a directory")
    refuse_filled(files, ino)
    _remove(files, directory, name, ino, item)


def extend(
    files: Files, directory: int, entries: Iterable[tuple[bytes, int, FileType]], *, fresh: int = U64_MAX
) -> int:
    """Put *entries*, (name, ino, type), into a *directory* that may have others; return by how much its size grows.

    Who calls it knows that the names are free, and changes the inode item of the directory. Inodes from number *fresh*
    on have no name yet, and get one. Raises RefusedError when an inode has too many names, or too many names have one
    hash.
    """
    tree, grown = files.tree, 0
    items: list[tuple[Key, bytes]] = []
    hashed: dict[Key, bytes] = {}
    for name, ino, kind in entries:
        index = files.new_index(directory)
        entry = DirItem.STRUCT.pack(ino, _INODE_ITEM, 0, files.generation, 0, len(name), kind) + name
        key = Key(directory, _DIR_ITEM, name_hash(name))
        others = hashed[key] if key in hashed else tree.find(key) or b""
        edit_names.refuse_crowd(tree, directory, name, others)
        hashed[key] = others + entry
        items.append((Key(directory, _DIR_INDEX, index), entry))
        if ino >= fresh:
            items.append((Key(ino, _INODE_REF, directory), InodeRef.STRUCT.pack(index, len(name)) + name))
        else:
            edit_names.add_ref(tree, ino, Link(directory, index, name))
        grown += 2 * len(name)
    tree.put_all([*items, *hashed.items()])
    return grown


def refuse_filled(files: Files, directory: int) -> None:
    """Raise RefusedError when *directory* has an entry."""
    first, last = Key(directory, ItemType.DIR_ITEM, 0), Key(directory, ItemType.DIR_INDEX, U64_MAX)
    if next(iter(files.tree.items(first, last)), None):
        raise RefusedError(f"directory {directory} of subvolume {files.id} is not empty")


def _remove(files: Files, directory: int, name: bytes, ino: int, item: InodeItem) -> None:
    take_away(files, directory, name, ino)
    if stat.S_ISDIR(item.mode) or item.nlink <= 1:
        inodes.delete(files, ino)
    else:
        inodes.change(files, ino, nlink=item.nlink - 1, ctime=files.now)


def take_away(files: Files, directory: int, name: bytes, ino: int) -> None:
    """Take *name*, which leads to *ino*, out of *directory*; the inode item stays as it is."""
    edit_names.remove_hashed(files.tree, directory, name)
    index = edit_names.remove_ref(files.tree, directory, ino, name)
    files.tree.delete(Key(directory, ItemType.DIR_INDEX, index))
    resize_directory(files, directory, -2 * len(name))


def fill(files: Files, directory: int, entries: Iterable[tuple[bytes, int, FileType]]) -> int:
    """Put all *entries*, (name, ino, type) in the order they shall have, of a new *directory*; return its size.

    Nothing is looked up. The caller puts the inode item of the directory, with that size, and those of the inodes,
    with their link counts; the names are distinct and :func:`check_name` knows them. Raises RefusedError when too many
    names have one hash, or an inode too many names.
    """
    items: list[tuple[Key, bytes]] = []
    generation = files.generation
    pack_entry, pack_ref = DirItem.STRUCT.pack, InodeRef.STRUCT.pack
    hashed: dict[int, bytes] = {}
    refs: dict[int, bytes] = {}
    more: list[tuple[int, Link]] = []
    room = edit_names.room_of(files.tree)
    first = index = files.begin_directory(directory)
    size = 0
    for index, (name, ino, kind) in enumerate(entries, first):
        length = len(name)
        entry = pack_entry(ino, _INODE_ITEM, 0, generation, 0, length, kind) + name
        items.append((Key(directory, _DIR_INDEX, index), entry))
        code = name_hash(name)
        hashed[code] = hashed[code] + entry if code in hashed else entry
        ref = pack_ref(index, length) + name
        if ino not in refs:
            refs[ino] = ref
        elif len(refs[ino]) + len(ref) <= room:
            refs[ino] += ref
        else:
            more.append((ino, Link(directory, index, name)))
        size += 2 * length
        first = index + 1
    files.begin_directory(directory, first)
    for code, payload in hashed.items():
        if len(payload) > room:
            raise RefusedError(f"directory {directory} has too many names with the hash {code}: rename some")
        items.append((Key(directory, _DIR_ITEM, code), payload))
    items += [(Key(ino, _INODE_REF, directory), payload) for ino, payload in refs.items()]
    files.tree.put_all(items)
    for ino, name_of in more:
        edit_names.add_ref(files.tree, ino, name_of)
    return size

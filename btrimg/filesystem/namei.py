"""Paths: from a name to an inode, and back."""

from __future__ import annotations

import stat

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem.inode import Inode, quoted
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.inodes import DirItem, InodeExtref, InodeRef
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import RootRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image, Subvolume

MAX_SYMLINKS = 40  #: include/linux/namei.h MAXSYMLINKS


class Link(NamedTuple):
    """A name of an inode: an entry *name* of the directory *parent* of the same subvolume."""

    parent: int
    dir_index: int
    name: bytes


def lookup(image: Image, subvolume: Subvolume, path: bytes, *, follow: bool) -> Inode:
    """Return the inode at *path*; ``Image.open`` documents it."""
    stack = [Inode(image, subvolume, subvolume.root.root_dirid)]
    names = path.split(b"/")[::-1]
    symlinks = 0
    while names:
        name = names.pop()
        here = stack[-1]
        if not here.is_directory:
            raise NotFoundError(f"{here.quoted} is not a directory")
        if name in (b"", b"."):
            continue
        if name == b"..":
            if len(stack) > 1:
                stack.pop()
            continue
        child = child_of(here, name)
        if not child.is_directory and stat.S_ISLNK(child.item.mode) and (follow or names):
            symlinks += 1
            if symlinks > MAX_SYMLINKS:
                raise NotFoundError(f"{quoted(path)}: too many symbolic links")
            target = child.target()
            if target.startswith(b"/"):
                del stack[1:]
            names += target.split(b"/")[::-1]
        else:
            stack.append(child)
    return stack[-1]


def child_of(directory: Inode, name: bytes) -> Inode:
    """Return the entry *name* of *directory*, by its hash; names are compared, since hashes collide.

    Raises NotFoundError when there is none.
    """
    key = Key(directory.ino, ItemType.DIR_ITEM, name_hash(name))
    for _, payload in directory.subvolume.tree.items(key, key):
        for entry in records_of(DirItem, ItemType.DIR_ITEM, payload):
            if entry.name == name:
                return inode_of_entry(directory, entry)
    raise NotFoundError(f"there is no {quoted(directory.path + b'/' + name)}")


def inode_of_entry(directory: Inode, entry: DirItem) -> Inode:
    """Return the inode that an entry of *directory* names, the top directory where it names a subvolume.

    A subvolume seen through a snapshot of its parent is not there: an empty directory stands for it, as in the
    kernel's ``new_simple_dir``. Raises CorruptError when the entry names neither an inode nor a root.
    """
    where = entry.location
    if where.type == ItemType.INODE_ITEM:
        return Inode(directory.image, directory.subvolume, where.objectid, directory, entry.name, entry.type)
    if where.type != ItemType.ROOT_ITEM:
        raise CorruptError(f"{quoted(directory.path + b'/' + entry.name)} leads to a key of type {where.type}")
    if not _hangs_here(directory, where.objectid, entry.name):
        return Inode.placeholder(directory, entry.name)
    try:
        subvolume = directory.image.subvolume(where.objectid)
    except NotFoundError:
        return Inode.placeholder(directory, entry.name)
    return Inode(directory.image, subvolume, subvolume.root.root_dirid, directory, entry.name)


def _hangs_here(directory: Inode, subvolume_id: int, name: bytes) -> bool:
    """Return whether the subvolume's ROOT_REF names this very entry; through a snapshot it names the origin's."""
    key = Key(directory.subvolume.id, ItemType.ROOT_REF, subvolume_id)
    for _, payload in directory.image.root_tree.items(key, key):
        ref = records_of(RootRef, ItemType.ROOT_REF, payload)[0]
        return ref.dirid == directory.ino and ref.name == name
    return False


def entries(directory: Inode) -> Iterator[DirItem]:
    """Yield the entries of *directory* in order of creation, each name once: the first.

    What cannot be read is reported and skipped; then names that only the hash index still has follow.
    """
    faults: list[CorruptError] = []
    seen: set[bytes] = set()
    for entry in _entries(directory, ItemType.DIR_INDEX, faults):
        if entry.name in seen:
            faults.append(CorruptError(f"directory {directory.ino} has the name {entry.name!r} twice"))
        else:
            seen.add(entry.name)
            yield entry
    for error in faults:
        directory.image.report(error)
    if faults:
        yield from (entry for entry in _entries(directory, ItemType.DIR_ITEM, []) if entry.name not in seen)


def _entries(directory: Inode, key_type: ItemType, faults: list[CorruptError]) -> Iterator[DirItem]:
    first, last = Key(directory.ino, key_type, 0), Key(directory.ino, key_type, U64_MAX)
    for key, payload in directory.subvolume.tree.items(first, last, bad=faults.append):
        try:
            records = records_of(DirItem, key_type, payload)
        except CorruptError as error:
            faults.append(CorruptError(f"directory {directory.ino}, item {tuple(key)}: {error}"))
            continue
        for entry in records:
            if entry.name in (b"", b".", b"..") or b"/" in entry.name or b"\0" in entry.name:
                faults.append(CorruptError(f"directory {directory.ino} has the impossible name {entry.name!r}"))
            else:
                yield entry


def links(inode: Inode) -> Iterator[Link]:
    """Yield every name of *inode* within its subvolume, in key order; extended references after plain ones."""
    first, last = Key(inode.ino, ItemType.INODE_REF, 0), Key(inode.ino, ItemType.INODE_EXTREF, U64_MAX)
    for key, payload in inode.subvolume.tree.items(first, last):
        if key.type == ItemType.INODE_REF:
            for ref in records_of(InodeRef, key.type, payload):
                yield Link(key.offset, ref.index, ref.name)
        elif key.type == ItemType.INODE_EXTREF:
            for extref in records_of(InodeExtref, key.type, payload):
                yield Link(extref.parent_objectid, extref.index, extref.name)


def path_in_subvolume(image: Image, subvolume: Subvolume, ino: int) -> bytes | None:
    """Return the first path of *ino* from its subvolume's top directory (``b""``), None when it hangs nowhere."""
    names: list[bytes] = []
    seen = {ino}
    while ino != subvolume.root.root_dirid:
        link = next(links(Inode(image, subvolume, ino)), None)
        if link is None or link.parent in seen:
            return None
        names.append(link.name)
        ino = link.parent
        seen.add(ino)
    return b"".join(b"/" + name for name in reversed(names))


def path_of_subvolume(image: Image, subvolume_id: int) -> bytes | None:
    """Return the path of a subvolume from the top-level one (``b""``), None when it hangs nowhere."""
    path = b""
    seen: set[int] = set()
    while subvolume_id != TreeId.FS_TREE:
        parent = image.parent_of(subvolume_id)
        if parent is None or subvolume_id in seen:
            return None
        seen.add(subvolume_id)
        try:
            directory = path_in_subvolume(image, image.subvolume(parent.subvolume), parent.dirid)
        except NotFoundError:
            return None
        if directory is None:
            return None
        path = directory + b"/" + parent.name + path
        subvolume_id = parent.subvolume
    return path


def paths_of(image: Image, subvolume_id: int, ino: int) -> list[bytes]:
    """Return every path of an inode from the top-level subvolume, one for each hard link, in key order.

    Empty for an inode, directory or subvolume that hangs nowhere. Raises NotFoundError when there is no such subvolume.
    """
    subvolume = image.subvolume(subvolume_id)
    prefix = path_of_subvolume(image, subvolume_id)
    if prefix is None:
        return []
    if ino == subvolume.root.root_dirid:
        return [prefix or b"/"]
    names = list(links(Inode(image, subvolume, ino)))
    above = {parent: path_in_subvolume(image, subvolume, parent) for parent in {link.parent for link in names}}
    found = ((above[link.parent], link.name) for link in names)
    return [prefix + directory + b"/" + name for directory, name in found if directory is not None]

"""Names put into and taken out of a subvolume whose changes are kept in an overlay.

An entry of a directory is three things: a DIR_ITEM, found by the name's hash; a DIR_INDEX, which gives the order; and
the INODE_REF or INODE_EXTREF by which the inode knows the name. The directory's size counts each name twice.
"""

from __future__ import annotations

from btrimg.errors import CorruptError, RefusedError
from btrimg.filesystem.inode import quoted
from btrimg.filesystem.namei import Link
from btrimg.ondisk.blocks import Header, Item, Key
from btrimg.ondisk.constants import Incompat, ItemType
from btrimg.ondisk.csum import extref_hash, name_hash
from btrimg.ondisk.inodes import DirItem, InodeExtref, InodeItem, InodeRef
from btrimg.ondisk.items import records_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeVar

    from btrimg.ondisk.record import Record, Value
    from btrimg.trees.overlay import OverlayTree
    from btrimg.trees.tree import Tree

    R = TypeVar("R", bound=Record)

_INODE_ITEM = int(ItemType.INODE_ITEM)  # keys with a member of an enumeration take longer to sort and to store


def inode_key(ino: int) -> Key:
    """Return the key of an inode item."""
    return Key(ino, _INODE_ITEM, 0)


def has_item(tree: Tree, key: Key) -> bool:
    """Return whether *tree* has an item with that key."""
    return tree.find(key) is not None


def records_at(tree: Tree, record: type[R], key: Key) -> tuple[R, ...]:
    """Return the records of the item at *key*, none if there is no such item."""
    payload = tree.find(key)
    return () if payload is None else records_of(record, ItemType(key.type), payload)


def put_records(tree: OverlayTree, key: Key, records: Sequence[Record]) -> None:
    """Make *records* the item at *key*; without any, delete it."""
    if records:
        tree.put(key, b"".join(record.pack() for record in records))
    else:
        tree.delete(key)


def change_inode(tree: OverlayTree, ino: int, **fields: Value) -> None:
    """Overwrite some fields of an inode item.

    Raises NotFoundError when there is none.
    """
    tree.put(inode_key(ino), InodeItem.patch(tree.get(inode_key(ino)), **fields))


# Directory entries


def entry_named(tree: Tree, parent: int, name: bytes) -> DirItem | None:
    """Return the entry *name* of the directory *parent*, by its hash."""
    _, payload = hashed(tree, parent, name)
    return next((entry for entry in _entries(payload) if entry.name == name), None)


def entry_at(tree: Tree, link: Link) -> DirItem | None:
    """Return the entry at the index that *link* gives, if it has the name that *link* gives."""
    key = Key(link.parent, ItemType.DIR_INDEX, link.dir_index)
    return next((entry for entry in records_at(tree, DirItem, key) if entry.name == link.name), None)


def add_entry(tree: OverlayTree, parent: int, index: int, entry: DirItem) -> None:
    """Add *entry* to the directory *parent*, which has none of that name (fs/btrfs/inode.c ``btrfs_add_link``).

    Errors are those of :func:`insert_entry`.
    """
    insert_entry(tree, parent, index, entry.name, entry.pack())
    _grow(tree, parent, 2 * len(entry.name))


def hashed(tree: Tree, parent: int, name: bytes) -> tuple[Key, bytes]:
    """Return the key of the DIR_ITEM of *name*, and what is there already: entries whose names have the same hash."""
    key = Key(parent, ItemType.DIR_ITEM, name_hash(name))
    return key, tree.find(key) or b""


def _entries(payload: bytes) -> Iterator[DirItem]:
    """Yield the entries of a DIR_ITEM, as ``records_of`` gives them, but at a third of the cost."""
    offset = 0
    while offset < len(payload):
        entry = DirItem.unpack(payload, offset)
        yield entry
        offset += DirItem.SIZE + entry.name_len + entry.data_len


def insert_entry(
    tree: OverlayTree, parent: int, index: int, name: bytes, entry: bytes, place: tuple[Key, bytes] | None = None
) -> None:
    """Put *entry*, a packed DirItem, as both items of *name*; the size of the directory is the caller's.

    *place* is what :func:`hashed` gives, for who has asked already. Raises CorruptError when another entry has the
    index, RefusedError when so many names of one hash are there that a leaf cannot hold them (fs/btrfs/dir-item.c
    ``insert_with_overflow``).
    """
    index_key = Key(parent, ItemType.DIR_INDEX, index)
    key, others = place or hashed(tree, parent, name)
    if has_item(tree, index_key):
        raise CorruptError(f"directory {parent} has two entries with the index {index}")
    refuse_crowd(tree, parent, name, others)
    tree.put(key, others + entry)
    tree.put(index_key, entry)


def refuse_crowd(tree: OverlayTree, parent: int, name: bytes, others: bytes) -> None:
    """Raise RefusedError when *others*, entries with the hash of *name*, leave no room in a leaf for that."""
    if len(others) + DirItem.SIZE + len(name) > room_of(tree):
        raise RefusedError(f"directory {parent} holds no further name with the hash of {quoted(name)}: take another")


def unlink(tree: OverlayTree, parent: int, ino: int, name: bytes) -> None:
    """Take *name*, which leads to *ino*, out of the directory *parent* (fs/btrfs/inode.c ``__btrfs_unlink_inode``).

    Raises CorruptError when the directory or the inode does not know the name.
    """
    remove_hashed(tree, parent, name)
    tree.delete(Key(parent, ItemType.DIR_INDEX, remove_ref(tree, parent, ino, name)))
    _grow(tree, parent, -2 * len(name))


def remove_hashed(tree: OverlayTree, parent: int, name: bytes) -> None:
    """Take *name* out of its DIR_ITEM; the DIR_INDEX stays.

    Raises CorruptError when it is not there.
    """
    key, payload = hashed(tree, parent, name)
    entries = list(_entries(payload))
    kept = [entry for entry in entries if entry.name != name]
    if len(kept) == len(entries):
        raise CorruptError(f"directory {parent} has no entry {quoted(name)}, though its inode has that name")
    put_records(tree, key, kept)


def room_of(tree: Tree) -> int:
    """Return the bytes of the largest payload of an item, which Linux 6.18 lets references grow to (measured)."""
    return tree.blocks.volume.nodesize - Header.SIZE - Item.SIZE


def _grow(tree: OverlayTree, parent: int, by: int) -> None:
    item = InodeItem.unpack(tree.get(inode_key(parent)))
    change_inode(tree, parent, size=max(item.size + by, 0))


# References from an inode to its names


def ref_key(ino: int, parent: int) -> Key:
    """Return the key of the item that holds the names of *ino* in the directory *parent*."""
    return Key(ino, ItemType.INODE_REF, parent)


def extref_key(ino: int, parent: int, name: bytes) -> Key:
    """Return the key of the item that holds a name of *ino* for which INODE_REF has no room."""
    return Key(ino, ItemType.INODE_EXTREF, extref_hash(parent, name))


def links_at(tree: Tree, key: Key) -> list[Link]:
    """Return the names in the INODE_REF or INODE_EXTREF at *key*, none if there is no such item."""
    if key.type == ItemType.INODE_REF:
        return [Link(key.offset, ref.index, ref.name) for ref in records_at(tree, InodeRef, key)]
    return [Link(ref.parent_objectid, ref.index, ref.name) for ref in records_at(tree, InodeExtref, key)]


def has_name(tree: Tree, key: Key, parent: int, name: bytes) -> bool:
    """Return whether the INODE_REF or INODE_EXTREF at *key* has *name* in the directory *parent*."""
    return any((link.parent, link.name) == (parent, name) for link in links_at(tree, key))


def knows_name(tree: Tree, ino: int, parent: int, name: bytes) -> bool:
    """Return whether *ino* has a reference to its *name* in the directory *parent*."""
    keys = ref_key(ino, parent), extref_key(ino, parent, name)
    return any(has_name(tree, key, parent, name) for key in keys)


def add_ref(tree: OverlayTree, ino: int, link: Link) -> None:
    """Add a reference to a name that *ino* does not know yet (fs/btrfs/inode-item.c ``btrfs_insert_inode_ref``).

    Raises RefusedError when the item that must hold it is full.
    """
    key = ref_key(ino, link.parent)
    if _append(tree, key, InodeRef.STRUCT.pack(link.dir_index, len(link.name)) + link.name):
        return
    if not tree.blocks.volume.superblock.incompat_flags & Incompat.EXTENDED_IREF:
        raise RefusedError(
            f"inode {ino} can have no further name in directory {link.parent}: there is no EXTENDED_IREF"
        )
    key = extref_key(ino, link.parent, link.name)
    if not _append(tree, key, InodeExtref(link.parent, link.dir_index, len(link.name), link.name).pack()):
        raise RefusedError(f"inode {ino} can have no further name with the hash of {quoted(link.name)}: take another")


def _append(tree: OverlayTree, key: Key, record: bytes) -> bool:
    """Add *record* to the end of the item at *key*, which is made if it is not there; return whether it has room."""
    payload = (tree.find(key) or b"") + record
    if len(payload) > room_of(tree):
        return False
    tree.put(key, payload)
    return True


def remove_ref(tree: OverlayTree, parent: int, ino: int, name: bytes) -> int:
    """Remove the reference from *ino* to *name*; return the index it gave."""
    for key in (ref_key(ino, parent), extref_key(ino, parent, name)):
        for link in links_at(tree, key):
            if (link.parent, link.name) == (parent, name):
                _remove_record(tree, key, link)
                return link.dir_index
    raise CorruptError(f"inode {ino} has no reference to its name {quoted(name)} in directory {parent}")


def _remove_record(tree: OverlayTree, key: Key, link: Link) -> None:
    if key.type == ItemType.INODE_REF:
        put_records(tree, key, [ref for ref in records_at(tree, InodeRef, key) if ref.name != link.name])
    else:
        kept = [
            ref
            for ref in records_at(tree, InodeExtref, key)
            if (ref.parent_objectid, ref.name) != (link.parent, link.name)
        ]
        put_records(tree, key, kept)

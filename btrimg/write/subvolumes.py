"""Subvolumes made, snapshotted, renamed and deleted (fs/btrfs/ioctl.c, transaction.c, root-tree.c, inode.c)."""

from __future__ import annotations

import stat

from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem import edit_names
from btrimg.filesystem.edit_names import put_records, records_at
from btrimg.filesystem.inode import quoted
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.constants import U64_MAX, FileType, Incompat, InodeFlag, ItemType, RootFlag, TreeId
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.inodes import DirItem, InodeItem, InodeRef, Timespec
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import RootItem, RootRef, UuidSubvolume, uuid_key
from btrimg.trees.block import is_subvolume
from btrimg.write import inodes, names
from btrimg.write.files import Files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.write.inodes import Times
    from btrimg.write.transaction import Transaction

TOP_DIRECTORY = int(TreeId.FIRST_FREE)  #: ino of every subvolume's top directory
_NOBODY = bytes(16)
_NEVER = Timespec(0, 0)
_DEFAULT = b"default"
#: What the root item of a snapshot that can be written takes over neither from a received one nor an old kernel's.
_FRESH = {"received_uuid": _NOBODY, "stransid": 0, "rtransid": 0, "stime": _NEVER, "rtime": _NEVER}


class Place(NamedTuple):
    """Where a subvolume hangs: entry *name* with *dir_index*, of a directory of the subvolume *parent*."""

    parent: int
    directory: int
    dir_index: int
    name: bytes


def new_id(txn: Transaction) -> int:
    """Return the id for a new subvolume, one above the highest (fs/btrfs/disk-io.c ``btrfs_get_free_objectid``)."""
    found = txn.tree(TreeId.ROOT_TREE).floor(Key(TreeId.LAST_FREE, 255, U64_MAX))
    return max(found[0].objectid if found else 0, TreeId.FIRST_FREE - 1) + 1


def create(
    parent: Files,
    directory: int,
    name: bytes,
    *,
    mode: int = 0o755,
    uid: int = 0,
    gid: int = 0,
    flags: int = 0,
    times: Times | None = None,
    uuid: bytes | None = None,
) -> Files:
    """Make an empty subvolume called *name* in *directory*; return its files (``create_subvol``).

    The attributes are those of its top directory. Raises RefusedError when the name is taken or cannot be.
    """
    names.free_place(parent, directory, name)
    txn = parent.txn
    subvolume = new_id(txn)
    uuid = uuid or txn.uuids()
    txn.tree(TreeId.ROOT_TREE).put(Key(subvolume, ItemType.ROOT_ITEM, 0), _new_root_item(txn, uuid).pack())
    txn.create_tree(subvolume)
    files = Files(txn, subvolume)
    inodes.create(files, stat.S_IFDIR | mode, ino=TOP_DIRECTORY, uid=uid, gid=gid, flags=flags, times=times)
    files.tree.put(edit_names.ref_key(TOP_DIRECTORY, TOP_DIRECTORY), InodeRef(0, 2, b"..").pack())
    files.begin_directory(TOP_DIRECTORY)
    _hang(parent, directory, name, DiskKey(subvolume, ItemType.ROOT_ITEM, 0))
    _add_uuid(txn, uuid, ItemType.UUID_KEY_SUBVOL, subvolume)
    return files


def _new_root_item(txn: Transaction, uuid: bytes) -> RootItem:
    directory = InodeItem.unpack(bytes(InodeItem.SIZE)).replace(
        generation=1,
        size=3,
        nbytes=txn.volume.nodesize,
        nlink=1,
        mode=stat.S_IFDIR | 0o755,
        flags=InodeFlag.ROOT_ITEM_INIT,
    )
    return RootItem.unpack(bytes(RootItem.SIZE)).replace(
        inode=directory,
        generation=txn.generation,
        root_dirid=TOP_DIRECTORY,
        refs=1,
        generation_v2=txn.generation,
        uuid=uuid,
        ctransid=txn.generation,
        otransid=txn.generation,
        ctime=txn.now,
        otime=txn.now,
    )


def snapshot(
    source: Files, parent: Files, directory: int, name: bytes, *, read_only: bool = False, uuid: bytes | None = None
) -> Files:
    """Make a snapshot of a subvolume called *name* in *directory*; return its files (``create_pending_snapshot``).

    Subvolumes in it are not in the snapshot: empty directories stand for them. Raises RefusedError when the name is
    taken or cannot be.
    """
    names.free_place(parent, directory, name)
    txn = source.txn
    subvolume = new_id(txn)
    uuid = uuid or txn.uuids()
    txn.flush(source.id)  # so that its root item says when it was changed: the snapshot's will say the same
    origin = txn.root_item(source.id)
    if origin.generation_v2 != origin.generation:  # its uuids and times are an old kernel's leavings
        origin = origin.replace(uuid=_NOBODY, ctransid=0, ctime=_NEVER, **_FRESH)
    item = origin.replace(
        flags=origin.flags | RootFlag.SUBVOL_RDONLY if read_only else origin.flags & ~int(RootFlag.SUBVOL_RDONLY),
        uuid=uuid,
        parent_uuid=origin.uuid,
        otransid=txn.generation,
        otime=txn.now,
        **({} if read_only else _FRESH),
    )
    txn.snapshot_root(source.id, subvolume, item)
    _hang(parent, directory, name, DiskKey(subvolume, ItemType.ROOT_ITEM, U64_MAX))
    _add_uuid(txn, uuid, ItemType.UUID_KEY_SUBVOL, subvolume)
    if item.received_uuid != _NOBODY:
        _add_uuid(txn, item.received_uuid, ItemType.UUID_KEY_RECEIVED_SUBVOL, subvolume)
    return Files(txn, subvolume)


def delete(parent: Files, directory: int, name: bytes) -> None:
    """Delete the subvolume called *name* with all its files (``btrfs_delete_subvolume``).

    Of one that a snapshot only shows as an empty directory, the entry goes. Who has its Files must forget them.
    Raises NotFoundError when it is not there; RefusedError when it is no subvolume, the default one, or has
    subvolumes in it.
    """
    subvolume = find(parent, directory, name)
    place = place_of(parent.txn, subvolume)
    if place is None or place[:2] != (parent.id, directory) or place.name != name:
        _take_entry(parent, directory, name, _index_of(parent, directory, name))
        return
    _refuse_to_delete(parent.txn, subvolume, name)
    _unhang(parent, place, subvolume)
    txn = parent.txn
    item = txn.root_item(subvolume)
    if item.generation_v2 == item.generation:
        _remove_uuid(txn, item.uuid, ItemType.UUID_KEY_SUBVOL, subvolume)
        _remove_uuid(txn, item.received_uuid, ItemType.UUID_KEY_RECEIVED_SUBVOL, subvolume)
    txn.drop_root(subvolume)


def _refuse_to_delete(txn: Transaction, subvolume: int, name: bytes) -> None:
    """Raise RefusedError when a subvolume must stay (``may_destroy_subvol``)."""
    if default(txn) == subvolume:
        raise RefusedError(f"subvolume {subvolume} is mounted by default: make another the default one first")
    first = Key(subvolume, ItemType.ROOT_REF, 0)
    for key, _ in txn.tree(TreeId.ROOT_TREE).items(first, first._replace(offset=U64_MAX)):
        raise RefusedError(
            f"subvolume {subvolume}, {quoted(name)}, has subvolume {key.offset} in it: delete that first"
        )


def rename(parent: Files, directory: int, name: bytes, new_parent: Files, new_directory: int, new_name: bytes) -> None:
    """Move the subvolume called *name*, also into another subvolume (fs/btrfs/inode.c ``btrfs_rename``).

    Raises NotFoundError when it is not there; RefusedError when the new name is taken or cannot be, when it would
    move into itself, and when it is not there itself but an empty directory for it.
    """
    subvolume = find(parent, directory, name)
    place = place_of(parent.txn, subvolume)
    if place is None or place[:2] != (parent.id, directory) or place.name != name:
        raise RefusedError(f"{quoted(name)} stands for a subvolume that is elsewhere: it cannot be moved")
    if any(above == subvolume for above in _ancestors(parent.txn, new_parent.id)):
        raise RefusedError(f"subvolume {subvolume} cannot be moved into itself")
    names.free_place(new_parent, new_directory, new_name)
    _unhang(parent, place, subvolume)
    _hang(new_parent, new_directory, new_name, root_key(parent.txn, subvolume))


def _ancestors(txn: Transaction, subvolume: int) -> Iterator[int]:
    """Yield a subvolume and those that it hangs in, from the inside out."""
    seen: set[int] = set()
    at: int | None = subvolume
    while at is not None and at not in seen:
        yield at
        seen.add(at)
        place = place_of(txn, at)
        at = place.parent if place else None


def find(parent: Files, directory: int, name: bytes) -> int:
    """Return the id of the subvolume that the entry *name* leads to; in a snapshot it may hang elsewhere.

    Raises NotFoundError when there is none, RefusedError when it is no subvolume.
    """
    where = names.find(parent, directory, name).location
    if where.type != ItemType.ROOT_ITEM:
        raise RefusedError(f"{quoted(name)} in directory {directory} of subvolume {parent.id} is no subvolume")
    return where.objectid


def place_of(txn: Transaction, subvolume: int) -> Place | None:
    """Return where a subvolume hangs, None for the top-level one and for one that hangs nowhere."""
    first = Key(subvolume, ItemType.ROOT_BACKREF, 0)
    for key, payload in txn.tree(TreeId.ROOT_TREE).items(first, first._replace(offset=U64_MAX)):
        ref = records_of(RootRef, ItemType.ROOT_BACKREF, payload)[0]
        return Place(key.offset, ref.dirid, ref.sequence, ref.name)
    return None


def root_key(txn: Transaction, subvolume: int) -> DiskKey:
    """Return the key of the root item of a subvolume.

    Raises NotFoundError when there is none.
    """
    found = txn.tree(TreeId.ROOT_TREE).floor(Key(subvolume, ItemType.ROOT_ITEM, U64_MAX))
    if not is_subvolume(subvolume) or found is None or found[0][:2] != (subvolume, ItemType.ROOT_ITEM):
        raise NotFoundError(f"there is no subvolume {subvolume}")
    return DiskKey(*found[0])


def set_read_only(txn: Transaction, subvolume: int, *, read_only: bool) -> None:
    """Let the files of a subvolume be changed no more, or again, by who mounts it (``btrfs_ioctl_subvol_setflags``)."""
    flags = txn.root_item(subvolume).flags
    bit = int(RootFlag.SUBVOL_RDONLY)
    txn.change_root(subvolume, flags=flags | bit if read_only else flags & ~bit)


# The default subvolume: an entry of a directory of the root tree


def default(txn: Transaction) -> int:
    """Return the id of the subvolume that a plain mount shows."""
    entry = edit_names.entry_named(txn.tree(TreeId.ROOT_TREE), TreeId.ROOT_TREE_DIR, _DEFAULT)
    return entry.location.objectid if entry else int(TreeId.FS_TREE)


def set_default(txn: Transaction, subvolume: int) -> None:
    """Let a plain mount show this subvolume (``btrfs_ioctl_default_subvol``).

    Raises NotFoundError when there is none.
    """
    roots = txn.tree(TreeId.ROOT_TREE)
    location = root_key(txn, subvolume)
    key = Key(TreeId.ROOT_TREE_DIR, ItemType.DIR_ITEM, name_hash(_DEFAULT))
    entries = records_at(roots, DirItem, key)
    old = next((entry for entry in entries if entry.name == _DEFAULT), None)
    transid = old.transid if old else txn.generation
    new = DirItem(location, transid, 0, len(_DEFAULT), FileType.DIR, _DEFAULT, b"")
    put_records(roots, key, [*(entry for entry in entries if entry.name != _DEFAULT), new])
    txn.set_incompat(Incompat.DEFAULT_SUBVOL)


# Entries that lead to subvolumes, and the references between them


def _hang(parent: Files, directory: int, name: bytes, location: DiskKey) -> None:
    """Give a subvolume its entry in *directory*, and its references (``btrfs_add_root_ref``).

    *location* is the key of its root item, with the offset that the kernel writes there; nobody reads it.
    """
    subvolume = location.objectid
    index = parent.new_index(directory)
    ref = RootRef(directory, index, len(name), name).pack()
    roots = parent.txn.tree(TreeId.ROOT_TREE)
    roots.put(Key(parent.id, ItemType.ROOT_REF, subvolume), ref)
    roots.put(Key(subvolume, ItemType.ROOT_BACKREF, parent.id), ref)
    names.add_entry(parent, directory, index, name, location, FileType.DIR)


def _unhang(parent: Files, place: Place, subvolume: int) -> None:
    """Take back what :func:`_hang` gave a subvolume (``btrfs_unlink_subvol``)."""
    roots = parent.txn.tree(TreeId.ROOT_TREE)
    roots.delete(Key(parent.id, ItemType.ROOT_REF, subvolume))
    roots.delete(Key(subvolume, ItemType.ROOT_BACKREF, parent.id))
    _take_entry(parent, place.directory, place.name, place.dir_index)


def _take_entry(parent: Files, directory: int, name: bytes, index: int) -> None:
    edit_names.remove_hashed(parent.tree, directory, name)
    parent.tree.delete(Key(directory, ItemType.DIR_INDEX, index))
    names.resize_directory(parent, directory, -2 * len(name))


def _index_of(parent: Files, directory: int, name: bytes) -> int:
    """Return the index of the entry *name*, which has no reference that says it."""
    first = Key(directory, ItemType.DIR_INDEX, 0)
    for key, _ in parent.tree.items(first, first._replace(offset=U64_MAX)):
        if any(entry.name == name for entry in records_at(parent.tree, DirItem, key)):
            return key.offset
    raise NotFoundError(f"directory {directory} of subvolume {parent.id} has no index of {quoted(name)}")


# The uuid tree, where the image has one (fs/btrfs/uuid-tree.c)


def _add_uuid(txn: Transaction, uuid: bytes, kind: ItemType, subvolume: int) -> None:
    if txn.has_tree(TreeId.UUID_TREE):
        tree, key = txn.tree(TreeId.UUID_TREE), uuid_key(uuid, kind)
        put_records(tree, key, [*records_at(tree, UuidSubvolume, key), UuidSubvolume(subvolume)])


def _remove_uuid(txn: Transaction, uuid: bytes, kind: ItemType, subvolume: int) -> None:
    if txn.has_tree(TreeId.UUID_TREE) and uuid != _NOBODY:
        tree, key = txn.tree(TreeId.UUID_TREE), uuid_key(uuid, kind)
        put_records(tree, key, [each for each in records_at(tree, UuidSubvolume, key) if each.subvolid != subvolume])

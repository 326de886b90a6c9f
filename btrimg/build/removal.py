"""Names removed with all that is below them."""

from __future__ import annotations

from btrimg.build.paths import Spot
from btrimg.errors import RefusedError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileType, ItemType, TreeId
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import RootRef
from btrimg.write import names, subvolumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.build.paths import Paths
    from btrimg.ondisk.inodes import DirItem as Entry

    Named = tuple[Spot, bytes]  # a directory, and a name in it


def remove(paths: Paths, parent: Spot, name: bytes) -> None:
    """Remove a file, an empty directory, or a subvolume without others in it; errors are those of what is called."""
    entry = names.find(parent.files, parent.ino, name)
    if entry.location.type == ItemType.ROOT_ITEM:
        subvolumes.delete(parent.files, parent.ino, name)
        paths.forget(entry.location.objectid)
    elif entry.type == FileType.DIR:
        names.remove_directory(parent.files, parent.ino, name)
    else:
        names.unlink(parent.files, parent.ino, name)


def remove_tree(paths: Paths, parent: Spot, name: bytes) -> None:
    """Remove *name* with all that is below it, subvolumes too; errors are those of what is called.

    Raises RefusedError, with all still there, when the subvolume that is mounted by default is below it.
    """
    _refuse_default(paths, parent, name)
    due: list[tuple[Spot, bytes, bool]] = [(parent, name, False)]
    while due:
        directory, each, is_empty = due.pop()
        if is_empty:
            remove(paths, directory, each)
            continue
        due.append((directory, each, True))
        due += [(*below, False) for below in _below(paths, directory, each)]


def _refuse_default(paths: Paths, parent: Spot, name: bytes) -> None:
    default = subvolumes.default(parent.files.txn)
    entry = names.find(parent.files, parent.ino, name)
    if default == TreeId.FS_TREE or entry.type != FileType.DIR:
        return
    removed = Spot(parent.files, entry.location.objectid)
    if entry.location.type == ItemType.ROOT_ITEM:
        if not hangs_here(parent, name, entry):
            return
        removed = Spot(paths.files(entry.location.objectid), subvolumes.TOP_DIRECTORY)
    if removed in above(paths, Spot(paths.files(default), subvolumes.TOP_DIRECTORY)):
        raise RefusedError(f"subvolume {default}, which is mounted by default, is in it: make another the default one")


def above(paths: Paths, spot: Spot) -> Iterator[Spot]:
    """Yield the directory at *spot*, and those that it is in, across subvolumes."""
    seen: set[tuple[int, int]] = set()
    while (spot.files.id, spot.ino) not in seen:
        yield spot
        seen.add((spot.files.id, spot.ino))
        if spot.ino == subvolumes.TOP_DIRECTORY:
            place = subvolumes.place_of(spot.files.txn, spot.files.id)
            if place is None:
                return
            spot = Spot(paths.files(place.parent), place.directory)
        else:
            first = Key(spot.ino, ItemType.INODE_REF, 0)
            found = next(iter(spot.files.tree.items(first, first._replace(offset=U64_MAX))), None)
            if found is None:
                return
            spot = Spot(spot.files, found[0].offset)


def _below(paths: Paths, directory: Spot, name: bytes) -> Iterator[Named]:
    """Yield what must go before *name*: what is in a directory, of a subvolume only the subvolumes in it."""
    entry = names.find(directory.files, directory.ino, name)
    if entry.location.type == ItemType.ROOT_ITEM:
        yield from _subvolumes_in(paths, directory, name, entry)
    elif entry.type == FileType.DIR:
        inside = Spot(directory.files, entry.location.objectid)
        first = Key(inside.ino, ItemType.DIR_INDEX, 0)
        for key, payload in inside.files.tree.items(first, first._replace(offset=U64_MAX)):
            for found in records_of(DirItem, ItemType(key.type), payload):
                yield inside, found.name


def _subvolumes_in(paths: Paths, directory: Spot, name: bytes, entry: Entry) -> Iterator[Named]:
    if not hangs_here(directory, name, entry):
        return
    subvolume, txn = entry.location.objectid, directory.files.txn
    first = Key(subvolume, ItemType.ROOT_REF, 0)
    for _, payload in txn.tree(TreeId.ROOT_TREE).items(first, first._replace(offset=U64_MAX)):
        ref = records_of(RootRef, ItemType.ROOT_REF, payload)[0]
        yield Spot(paths.files(subvolume), ref.dirid), ref.name


def hangs_here(directory: Spot, name: bytes, entry: Entry) -> bool:
    """Return whether the subvolume of an entry is there: in a snapshot it can stand for one that is elsewhere."""
    place = subvolumes.place_of(directory.files.txn, entry.location.objectid)
    return place is not None and (*place[:2], place.name) == (directory.files.id, directory.ino, name)

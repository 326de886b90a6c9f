"""Names removed with all that is below them."""

from __future__ import annotations

from btrimg.build.paths import Spot
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
    """Remove *name* with all that is below it, subvolumes too; errors are those of what is called."""
    due: list[tuple[Spot, bytes, bool]] = [(parent, name, False)]
    while due:
        directory, each, is_empty = due.pop()
        if is_empty:
            remove(paths, directory, each)
            continue
        due.append((directory, each, True))
        due += [(*below, False) for below in _below(paths, directory, each)]


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
    subvolume = entry.location.objectid
    txn = directory.files.txn
    place = subvolumes.place_of(txn, subvolume)
    if place is None or place[:2] != (directory.files.id, directory.ino) or place.name != name:
        return  # in a snapshot an entry can stand for a subvolume that is elsewhere
    first = Key(subvolume, ItemType.ROOT_REF, 0)
    for _, payload in txn.tree(TreeId.ROOT_TREE).items(first, first._replace(offset=U64_MAX)):
        ref = records_of(RootRef, ItemType.ROOT_REF, payload)[0]
        yield Spot(paths.files(subvolume), ref.dirid), ref.name

"""Relations of root tree and UUID tree that only the checker has: where subvolumes hang, and how they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem import strings
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import RootRef, UuidSubvolume
from btrimg.tables.hashes import fingerprints
from btrimg.tables.relation import Relation, text, u8, u64
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.check.makers import Scanned
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record
    from btrimg.tables.relation import Column

    Columns = dict[str, NDArray[Any]]

ROOT_REF_SOURCES = {ItemType.ROOT_REF: "root_ref", ItemType.ROOT_BACKREF: "root_backref"}
UUID_KINDS = {ItemType.UUID_KEY_SUBVOL: "subvolume", ItemType.UUID_KEY_RECEIVED_SUBVOL: "received"}

ROOT_REFS = Relation(
    "root_refs",
    "Where a subvolume hangs, once for each item that says it: ROOT_REF of the parent and ROOT_BACKREF of the child.",
    (
        text("source", "type of the item", *ROOT_REF_SOURCES.values()),
        u64("parent", "id of the subvolume that it hangs in"),
        u64("subvolume", "id of the one that hangs there"),
        u64("dirid", "inode of the directory"),
        u64("sequence", "index of the name in the directory's order"),
        text("name", "bytes that are not UTF-8 as \\xNN"),
        u64("name_number", "what stands for the name in names.name"),
    ),
)
ROOT_ENTRIES = Relation(
    "root_entries",
    'A name in the directory that the root tree has of its own; "default" is what is mounted.',
    (
        text("name", "bytes that are not UTF-8 as \\xNN"),
        u64("id", "of the tree that it leads to"),
        u8("location_type", "key type of what it leads to"),
    ),
)
UUIDS = Relation(
    "uuids",
    "An entry of the UUID tree (UUID_KEY_SUBVOL, UUID_KEY_RECEIVED_SUBVOL); none where the kernel will make it anew.",
    (
        text("kind", "whose it is: the subvolume's or that of what it was received from", *UUID_KINDS.values()),
        text("uuid", "uuid"),
        u64("subvolume", "id of the subvolume"),
    ),
)
KNOWN_NAMES = Relation(
    "known_names",
    "Names that rules look for, and what stands for them in names.name.",
    (text("text", "name"), u64("number", "that stands for it")),
)
RELATIONS = (ROOT_REFS, ROOT_ENTRIES, UUIDS, KNOWN_NAMES)
_KNOWN = (b"..",)


def root_refs(scanned: Scanned) -> Columns:
    """Return the columns of ``root_refs``."""
    rows, names = [], []
    for key, ref in _records(scanned.image, TreeId.ROOT_TREE, dict.fromkeys(ROOT_REF_SOURCES, RootRef)):
        ends = (key.objectid, key.offset) if key.type == ItemType.ROOT_REF else (key.offset, key.objectid)
        rows.append((ROOT_REF_SOURCES[ItemType(key.type)], *ends, ref.dirid, ref.sequence, _shown(ref.name)))
        names.append(ref.name)
    columns = _columns(ROOT_REFS.columns[:-1], rows)
    return columns | {"name_number": fingerprints(strings.of_list(names).slices())}


def root_entries(scanned: Scanned) -> Columns:
    """Return the columns of ``root_entries``."""
    found = _records(scanned.image, TreeId.ROOT_TREE, {ItemType.DIR_ITEM: DirItem})
    directory = scanned.image.superblock.root_dir_objectid
    entries = (entry for key, entry in found if key.objectid == directory)
    return _columns(ROOT_ENTRIES.columns, ((_shown(e.name), e.location.objectid, e.location.type) for e in entries))


def uuids(scanned: Scanned) -> Columns:
    """Return the columns of ``uuids``; none where a kernel that did not know the tree was the last to write."""
    superblock = scanned.image.superblock
    if superblock.uuid_tree_generation != superblock.generation:
        return _columns(UUIDS.columns, ())
    found = _records(scanned.image, TreeId.UUID_TREE, dict.fromkeys(UUID_KINDS, UuidSubvolume))
    return _columns(
        UUIDS.columns, ((UUID_KINDS[ItemType(key.type)], _uuid(key), entry.subvolid) for key, entry in found)
    )


def known_names(_scanned: Scanned) -> Columns:
    """Return the columns of ``known_names``."""
    columns = _columns(KNOWN_NAMES.columns[:-1], ((_shown(name),) for name in _KNOWN))
    return columns | {"number": fingerprints(strings.of_list(_KNOWN).slices())}


def _records(image: Image, tree: TreeId, kinds: dict[ItemType, type[Record]]) -> Iterator[tuple[Key, Any]]:
    """Yield the records of all items of some *kinds* with their keys, those that make sense."""
    try:
        items = image.tree(tree).items(bad=_ignore)
    except (CorruptError, NotFoundError):
        return
    for key, payload in items:
        if key.type in kinds:
            try:
                records = records_of(kinds[ItemType(key.type)], key.type, payload)
            except CorruptError:
                continue
            yield from ((key, record) for record in records)


def _columns(columns: Sequence[Column], rows: Iterable[tuple[Any, ...]]) -> Columns:
    found = list(rows)
    return {
        column.name: np.array([row[place] for row in found], object if column.type == "text" else column.type)
        for place, column in enumerate(columns)
    }


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _uuid(key: Key) -> str:
    return uuid_text(b"".join(half.to_bytes(8, "little") for half in (key.objectid, key.offset)))


def _ignore(_error: CorruptError) -> None:
    pass


#: What makes the columns of each relation.
MAKERS: dict[str, Callable[[Scanned], Columns]] = {
    ROOT_REFS.name: root_refs,
    ROOT_ENTRIES.name: root_entries,
    UUIDS.name: uuids,
    KNOWN_NAMES.name: known_names,
}

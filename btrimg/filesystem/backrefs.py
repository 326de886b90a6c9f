"""From a logical address back to who uses it, by the extent tree: the way that the kernel goes in fs/btrfs/backref.c.

An extent item counts the references to its extent and names them, inside the item and in items of their own. A tree
block is referred to by the tree that owns it (TREE_BLOCK_REF) or by its parent (SHARED_BLOCK_REF), data by a place in
a file (EXTENT_DATA_REF) or by a leaf (SHARED_DATA_REF). None of them names all trees: a snapshot refers to the blocks
right below its root node, and through these to all that is below. So a leaf's trees are found by climbing from parent
to parent. What the references say is only where to look: each parent is asked for its pointer, each leaf for its file
extents.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from btrimg.errors import CorruptError, UnsupportedError
from btrimg.filesystem.extents import row_of_item
from btrimg.filesystem.image import root_pointer
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Key
from btrimg.ondisk.constants import MAX_COMPRESSED, MAX_LEVEL, U64_MAX, ItemType, TreeId
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
    SharedDataRef,
    TreeBlockInfo,
)
from btrimg.ondisk.items import parse, records_of
from btrimg.trees.block import Pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.trees.block import Block

    Ref = InlineRef | InlineDataRef | InlineSharedDataRef

_DISK_BYTENR = 21  # where it stands in a FileExtent
_LONGEST_EXTENT = 1 << 30  # the kernel makes none above 256 MiB
_REFS = (InlineRef, InlineDataRef, InlineSharedDataRef)
_EXTENTS = (ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM)


class Extent(NamedTuple):
    """An allocated range of logical addresses."""

    logical: int
    length: int  #: bytes
    level: int | None  #: of the tree block that it is; None for data
    generation: int | None = None  #: transid that allocated it; None where the extent tree is not asked
    refs: tuple[Ref, ...] = ()  #: keyed ones as if they stood in the extent item


class Use(NamedTuple):
    """A file extent that uses (part of) an extent."""

    tree: int  #: id of the tree of files: a subvolume, mostly
    ino: int
    row: FileExtentRow


class Backrefs:
    """The allocated ranges of an image and who uses them, by the extent tree.

    Raises NotFoundError when there is no extent tree, CorruptError when its root item makes no sense. Of what is found
    damaged on the way from an extent to its users, the image hears.
    """

    way = "extent tree"

    def __init__(self, image: Image) -> None:
        self._image = image
        self._tree = image.tree(TreeId.EXTENT_TREE)
        self._trees_of: dict[int, frozenset[int]] = {}  # by logical address of a tree block
        self._roots: dict[int, list[Pointer]] = {}  # by tree id

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield the extents that reach into logical addresses [start, end), in order.

        Raises CorruptError where the extent tree cannot be read.
        """
        found: Extent | None = None
        refs: list[Ref] = []
        for key, payload in self._tree.items(Key(self._extent_before(start), 0, 0), Key(end - 1, 255, U64_MAX)):
            if key.type in _EXTENTS:
                if found and found.logical + found.length > start:
                    yield found._replace(refs=tuple(refs))
                found, refs = self._extent(key, payload)
            elif found and key.objectid == found.logical:
                refs += _keyed_ref(key, payload)
        if found and found.logical + found.length > start:
            yield found._replace(refs=tuple(refs))

    def _extent_before(self, logical: int) -> int:
        """Return where the last extent that starts at or before *logical* starts, *logical* itself without one."""
        key = Key(logical, ItemType.METADATA_ITEM, U64_MAX)
        while (found := self._tree.floor(key)) is not None:
            at = found[0]
            if at.type in _EXTENTS:
                return at.objectid
            key = Key(at.objectid if at.type > ItemType.METADATA_ITEM else at.objectid - 1, *key[1:])
        return logical

    def _extent(self, key: Key, payload: bytes) -> tuple[Extent, list[Ref]]:
        value = parse(key.type, payload)
        where = f"extent item {tuple(key)}"
        if not value.records or not isinstance(value.records[0], ExtentItem):
            raise CorruptError(f"{where} of {len(payload)} bytes is too short")
        if value.tail:
            self._image.report(CorruptError(f"{where} ends with {len(value.tail)} bytes that are no reference"))
        refs: list[Ref] = [ref for ref in value.records if isinstance(ref, _REFS)]
        generation = value.records[0].generation
        if key.type == ItemType.METADATA_ITEM:
            return Extent(key.objectid, self._image.volume.nodesize, key.offset, generation), refs
        levels = [each.level for each in value.records if isinstance(each, TreeBlockInfo)]
        return Extent(key.objectid, key.offset, levels[0] if levels else None, generation), refs

    def uses(self, extent: Extent) -> list[Use]:
        """Return every file extent, in every tree of files, that uses the data extent *extent*."""
        found: set[Use] = set()
        for leaf in self._leaves(extent):
            rows = list(self._rows(leaf, extent))
            for tree in self.trees(leaf) if rows else ():
                found.update(Use(tree, ino, row) for ino, row in rows)
        return sorted(found, key=lambda use: (use.tree, use.ino, use.row.offset))

    def _leaves(self, extent: Extent) -> Iterator[Block]:
        """Yield every leaf to which the references of *extent* lead, once."""
        seen: set[int] = set()
        for parent in {ref.offset for ref in extent.refs if isinstance(ref, InlineSharedDataRef)}:
            leaf = self._read(Pointer(parent, 0))
            if leaf:
                seen.add(parent)
                yield leaf
        for tree, first, last in _places_in_files(extent):
            for root in self._roots_of(tree):
                for leaf in self._blocks(root, 0, first, last):
                    if leaf.header.bytenr not in seen:
                        seen.add(leaf.header.bytenr)
                        yield leaf

    def _rows(self, leaf: Block, extent: Extent) -> Iterator[tuple[int, FileExtentRow]]:
        """Yield (ino, file extent) of those in *leaf* that use *extent*; finds the few by their address on disk."""
        logical = extent.logical.to_bytes(8, "little")
        at = leaf.data.find(logical, Header.SIZE)
        slots = {}
        if at >= 0:
            slots = {slot[3]: number for number, slot in enumerate(leaf.slots) if slot[1] == ItemType.EXTENT_DATA}
        while at >= 0:
            slot = slots.get(at - _DISK_BYTENR - Header.SIZE)
            at = leaf.data.find(logical, at + 1)
            if slot is None:
                continue
            try:
                row = row_of_item(leaf.key(slot), leaf.payload(slot))
            except (CorruptError, UnsupportedError) as error:
                self._image.report(CorruptError(str(error)))
                continue
            if row.extent and row.extent.logical == extent.logical:
                yield leaf.key(slot).objectid, row

    def trees(self, block: Block) -> frozenset[int]:
        """Return the ids of all trees that the tree block *block* is part of, snapshots included."""
        logical = block.header.bytenr
        if logical not in self._trees_of:
            self._trees_of[logical] = frozenset(self._climb(block))
        return self._trees_of[logical]

    def _climb(self, block: Block) -> Iterator[int]:
        """Yield the trees of *block*; goes up one level at a time, so that it ends whatever the references say."""
        logical, level = block.header.bytenr, block.header.level
        for ref in self._refs_of_block(logical):
            if ref.type == ItemType.SHARED_BLOCK_REF:
                parent = self._read(Pointer(ref.offset, level + 1)) if level + 1 < MAX_LEVEL else None
                if parent and any(slot[3] == logical for slot in parent.slots):
                    yield from self.trees(parent)
            elif ref.type == ItemType.TREE_BLOCK_REF:
                for root in self._roots_of(ref.offset):
                    if root.logical == logical:
                        yield ref.offset
                    elif block.slots:
                        yield from self._trees_through(root, block)

    def _trees_through(self, root: Pointer, block: Block) -> Iterator[int]:
        """Yield the trees of the parent that *block* has in the tree of *root*."""
        key = block.key(0)
        for parent in self._blocks(root, block.header.level + 1, key, key):
            if any(slot[3] == block.header.bytenr for slot in parent.slots):
                yield from self.trees(parent)

    def _refs_of_block(self, logical: int) -> tuple[Ref, ...]:
        try:
            for extent in self.extents(logical, logical + 1):
                if extent.logical == logical and extent.level is not None:
                    return extent.refs
        except CorruptError as error:
            self._image.report(error)
        return ()

    def _roots_of(self, tree: int) -> list[Pointer]:
        """Return the roots of the trees called *tree*; of reloc trees there can be several."""
        if tree not in self._roots:
            self._roots[tree] = []
            try:
                if tree in (TreeId.ROOT_TREE, TreeId.CHUNK_TREE):
                    self._roots[tree] = [self._image.tree(tree).root]
                else:
                    self._roots[tree] = [root_pointer(tree, item) for _, item in self._image.root_items(tree)]
            except CorruptError as error:
                self._image.report(error)
        return self._roots[tree]

    def _blocks(self, root: Pointer, level: int, first: Key, last: Key) -> Iterator[Block]:
        """Yield the blocks of one level of a tree that can hold keys from *first* to *last*, both included."""
        pending = [root] if root.level >= level else []
        while pending:
            at = pending.pop()
            block = self._read(at)
            if block is None:
                continue
            if at.level == level:
                yield block
                continue
            start = max(bisect_left(block.slots, (*first[:2], first[2] + 1)) - 1, 0)
            pending += block.children(range(start, bisect_left(block.slots, (*last[:2], last[2] + 1))), at)

    def _read(self, promise: Pointer) -> Block | None:
        try:
            return self._image.blocks.read(promise)
        except CorruptError as error:
            self._image.report(error)
            return None


def _keyed_ref(key: Key, payload: bytes) -> Iterator[Ref]:
    """Yield the reference that an item of its own holds, as it would stand in the extent item."""
    if key.type in (ItemType.TREE_BLOCK_REF, ItemType.SHARED_BLOCK_REF):
        yield InlineRef(key.type, key.offset)
    elif key.type == ItemType.EXTENT_DATA_REF:
        yield InlineDataRef(key.type, *records_of(ExtentDataRef, key.type, payload)[0])
    elif key.type == ItemType.SHARED_DATA_REF:
        yield InlineSharedDataRef(key.type, key.offset, records_of(SharedDataRef, key.type, payload)[0].count)


def _places_in_files(extent: Extent) -> Iterator[tuple[int, Key, Key]]:
    """Yield (tree, first key, last key) of where the file extents can stand that references by place stand for.

    Such a reference names the place where the extent's first byte would be, which can lie before the start of the
    file. Places that overlap come as one, so that a hostile extent cannot have the same leaves read again and again.
    """
    span = max(min(extent.length, _LONGEST_EXTENT), MAX_COMPRESSED)
    files: dict[tuple[int, int], list[int]] = {}
    for ref in extent.refs:
        if isinstance(ref, InlineDataRef):
            offset = ref.offset - (1 << 64) if ref.offset >> 63 else ref.offset
            files.setdefault((ref.root, ref.objectid), []).append(offset)
    for (tree, ino), offsets in files.items():
        offsets.sort()
        start = offsets[0]
        for offset, following in pairwise([*offsets, U64_MAX]):
            if following > offset + span:
                if offset + span > 0:
                    first = Key(ino, ItemType.EXTENT_DATA, max(start, 0))
                    yield tree, first, first._replace(offset=offset + span - 1)
                start = following

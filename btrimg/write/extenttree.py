"""The extent tree brought up to date: delayed references become extent items and backrefs.

A backref stands inside its extent's item as long as that stays small (fs/btrfs/ctree.h BTRFS_MAX_EXTENT_ITEM_SIZE),
else it is an item of its own behind it. Inside, they are sorted by type, and within one type by falling address, tree
or hash (fs/btrfs/tree-checker.c ``check_extent_item``).
"""

from __future__ import annotations

from struct import Struct

from btrimg.errors import CorruptError, NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import KEY_MIN, DiskKey, Header, Item, Key
from btrimg.ondisk.constants import U64_MAX, ExtentFlag, ItemType
from btrimg.ondisk.csum import extent_data_ref_hash
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
    SharedDataRef,
    TreeBlockInfo,
)
from btrimg.ondisk.items import INLINE_REFS, parse
from btrimg.write.refs import Use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.ondisk.record import Record
    from btrimg.trees.overlay import OverlayTree
    from btrimg.write.refs import Delta

_ONE_DATA_USE = Struct("<QQQBQQQI")  # ExtentItem and InlineDataRef
_ONE_BLOCK_USE = Struct("<QQQBQ")  # ExtentItem and InlineRef
_EXTENT_DATA_REF = int(ItemType.EXTENT_DATA_REF)  # a number: it is compared for every use
_pack_ref = ExtentDataRef.STRUCT.pack
_MANY = 64  # uses of one extent: from there on all its backrefs are read in one go


class Freed(NamedTuple):
    """An extent that nobody uses any more."""

    logical: int
    length: int
    data: bool


class Layout(NamedTuple):
    """How this filesystem writes extent items."""

    nodesize: int
    generation: int
    skinny: bool

    @property
    def longest(self) -> int:
        """Return the largest size of an extent item with its backrefs inside."""
        return ((self.nodesize - Header.SIZE) >> 4) - Item.SIZE


def apply(tree: OverlayTree, deltas: dict[int, Delta], layout: Layout) -> Iterator[Freed]:
    """Put what *deltas* say into the extent *tree*, in the order of addresses; yield what nobody uses any more.

    Raises CorruptError where the tree contradicts the uses that were taken away or added.
    """
    for logical in sorted(deltas):
        delta = deltas[logical]
        if delta.new and len(delta.counts) == 1 and not delta.full and delta.total == 1:
            tree.put(item_key(logical, delta, layout), _single(delta, layout))
        elif delta.new or any(delta.counts.values()) or delta.full:
            extent = _Extent(tree, logical, delta, layout)
            if not extent.write():
                yield Freed(logical, delta.length, delta.level is None)


def item_key(logical: int, delta: Delta, layout: Layout) -> Key:
    """Return the key of an extent's item."""
    if delta.level is not None and layout.skinny:
        return Key(logical, ItemType.METADATA_ITEM, delta.level)
    return Key(logical, ItemType.EXTENT_ITEM, delta.length)


def _single(delta: Delta, layout: Layout) -> bytes:
    """Return the item of a new extent with one use, which nearly all are."""
    (use,) = delta.counts
    if delta.level is None:
        return _ONE_DATA_USE.pack(1, layout.generation, ExtentFlag.DATA, *use, 1)
    item = _ONE_BLOCK_USE.pack(1, layout.generation, ExtentFlag.TREE_BLOCK, *use[:2])
    return item if layout.skinny else item[: ExtentItem.SIZE] + _info(delta) + item[ExtentItem.SIZE :]


def _info(delta: Delta) -> bytes:
    return TreeBlockInfo(DiskKey(*(delta.first_key or KEY_MIN)), delta.level or 0).pack()


class _Extent:
    """One extent while its uses change."""

    def __init__(self, tree: OverlayTree, logical: int, delta: Delta, layout: Layout) -> None:
        self._tree, self._logical, self._delta, self._longest = tree, logical, delta, layout.longest
        self._key = item_key(logical, delta, layout)
        self._info = b""
        self._inline: dict[Use, int] = {}
        self._keyed: dict[Key, bytes] | None = None  # all of them, where many are asked for
        if delta.new:
            self._refs, self._generation = 0, layout.generation
            self._flags = int(ExtentFlag.DATA if delta.level is None else ExtentFlag.TREE_BLOCK)
            if delta.level is not None and not layout.skinny:
                self._info = _info(delta)
            self._keyed = {}
        else:
            self._read()
            if len(delta.counts) > _MANY:
                self._keyed = dict(tree.items(Key(logical, ItemType.METADATA_ITEM + 1, 0), Key(logical, 255, U64_MAX)))
        self._flags |= ExtentFlag.FULL_BACKREF if delta.full else 0
        self._size = ExtentItem.SIZE + len(self._info) + sum(INLINE_REFS[use.type].SIZE for use in self._inline)

    def _read(self) -> None:
        try:
            payload = self._tree.get(self._key)
        except NotFoundError:
            # a filesystem can have skinny items beside those of before it had the feature
            self._key = Key(self._logical, ItemType.EXTENT_ITEM, self._delta.length)
            try:
                payload = self._tree.get(self._key)
            except NotFoundError:
                raise self._wrong("the extent tree does not know it") from None
        records, tail, _ = parse(self._key.type, payload)
        head = records[0] if records else None
        if tail or not isinstance(head, ExtentItem):
            raise self._wrong("its extent item makes no sense")
        self._refs, self._generation, self._flags = head.refs, head.generation, head.flags
        for record in records[1:]:
            if isinstance(record, TreeBlockInfo):
                self._info = record.pack()
            else:
                use, count = _use_of(record)
                self._inline[use] = count

    def _wrong(self, why: str) -> CorruptError:
        return CorruptError(f"extent {self._logical} of {self._delta.length} bytes: {why}; see what btrimg check says")

    def write(self) -> bool:
        """Put the items of the extent; return False, and delete them, when nobody uses it any more."""
        for use, by in sorted(self._delta.counts.items()):
            if by:
                self._refs += by
                if by < 0 or not self._add_keyed(use, by):
                    self._change(use, by)
        if self._refs < 0:
            raise self._wrong("it is used less often than 0 times")
        if not self._refs:
            if not self._delta.new:
                self._tree.delete(self._key)
            return False
        inline = sorted(self._inline.items(), key=lambda item: (item[0].type, -_sequence(item[0])))
        head = ExtentItem(self._refs, self._generation, self._flags).pack()
        self._tree.put(self._key, b"".join((head, self._info, *(_inline_ref(use, count) for use, count in inline))))
        return True

    def _add_keyed(self, use: Use, count: int) -> bool:
        """Put a file's use that becomes an item of its own, and return True, where that takes no search.

        So it is with nearly all uses of an extent that very many files share: `_change` takes four times as long.
        """
        kind, root, ino, start = use
        if self._keyed is None or self._has_room or kind != _EXTENT_DATA_REF or use in self._inline:
            return False
        key = Key(self._logical, _EXTENT_DATA_REF, extent_data_ref_hash(root, ino, start))
        if key in self._keyed:
            return False
        payload = self._keyed[key] = _pack_ref(root, ino, start, count)
        self._tree.put(key, payload)
        return True

    @property
    def _has_room(self) -> bool:
        """Return whether one more use of a file goes into the extent item."""
        return self._size + InlineDataRef.SIZE <= self._longest

    def _change(self, use: Use, by: int) -> None:
        if use in self._inline:
            count = self._inline[use] + by
            if count:
                self._inline[use] = count
            else:
                del self._inline[use]
                self._size -= INLINE_REFS[use.type].SIZE
        else:
            key, stored = self._find(use)
            count = stored + by
            if not stored and self._size + INLINE_REFS[use.type].SIZE <= self._longest:
                self._inline[use] = count
                self._size += INLINE_REFS[use.type].SIZE
            elif count:
                self._put(key, _keyed_ref(use, count))
            else:
                self._put(key, None)
        if count < 0:
            raise self._wrong(f"a use by {use.user} is taken away that it does not have")

    def _find(self, use: Use) -> tuple[Key, int]:
        """Return the key of a use's own item, and the count there; 0 when there is none, and the key is free."""
        key = Key(self._logical, use.type, _sequence(use))
        while (payload := self._get(key)) is not None:
            if use.type != ItemType.EXTENT_DATA_REF:
                return key, SharedDataRef.unpack(payload).count if payload else 1
            ref = ExtentDataRef.unpack(payload)
            if (ref.root, ref.objectid, ref.offset) == use[1:]:
                return key, ref.count
            key = key._replace(offset=key.offset + 1)  # two hashes are equal: fs/btrfs/extent-tree.c does the same
        return key, 0

    def _get(self, key: Key) -> bytes | None:
        if self._keyed is not None:
            return self._keyed.get(key)
        try:
            return self._tree.get(key)
        except NotFoundError:
            return None

    def _put(self, key: Key, payload: bytes | None) -> None:
        if payload is None:
            self._tree.delete(key)
        else:
            self._tree.put(key, payload)
        if self._keyed is not None:
            self._keyed.pop(key, None)
            if payload is not None:
                self._keyed[key] = payload


def _use_of(record: Record) -> tuple[Use, int]:
    """Return the use that a backref inside an extent item stands for, and its count."""
    if isinstance(record, InlineDataRef):
        return Use(record.type, record.root, record.objectid, record.offset), record.count
    if isinstance(record, InlineSharedDataRef):
        return Use(record.type, record.offset), record.count
    if isinstance(record, InlineRef):
        return Use(record.type, record.offset), 1
    raise TypeError(f"{type(record).__name__} is no backref")


def _inline_ref(use: Use, count: int) -> bytes:
    if use.type == ItemType.EXTENT_DATA_REF:
        return InlineDataRef(*use, count).pack()
    if use.type == ItemType.SHARED_DATA_REF:
        return InlineSharedDataRef(use.type, use.user, count).pack()
    return InlineRef(use.type, use.user).pack()


def _keyed_ref(use: Use, count: int) -> bytes:
    if use.type == ItemType.EXTENT_DATA_REF:
        return _pack_ref(*use[1:], count)
    return SharedDataRef(count).pack() if use.type == ItemType.SHARED_DATA_REF else b""


def _sequence(use: Use) -> int:
    """Return what backrefs of one type are sorted by: the hash for a file's use of data, else the user."""
    if use.type == ItemType.EXTENT_DATA_REF:
        return extent_data_ref_hash(use.user, use.ino, use.start)
    return use.user

"""Items as the transaction under way has them: found, read and changed in its trees, to become copies by its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.corrupt.assign import Assignment, read_span
from btrimg.corrupt.descent import bounds
from btrimg.corrupt.engine import changed_payload
from btrimg.corrupt.finder import Finder
from btrimg.corrupt.places import in_payload
from btrimg.corrupt.values import Values
from btrimg.edit.pending import PendingImage
from btrimg.errors import BtrimgError, NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import DiskKey, Item, Key
from btrimg.ondisk.constants import FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import FileExtent
from btrimg.ondisk.spans import find_span
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.corrupt.words import Edit, Marks, Target
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.spans import Span, Step
    from btrimg.write.transaction import Transaction


class CopiedItem(NamedTuple):
    """An item of a tree."""

    tree: int
    key: Key
    payload: bytes | None  #: None where there is none


class CopiedItems:
    """The items of the trees of *txn*; values of edits see what is pending."""

    def __init__(self, image: Image, txn: Transaction) -> None:
        self._txn = txn
        self._finder = Finder(PendingImage(image, txn))
        self.values = Values(self.read)

    def matches(self, target: Target) -> Iterator[CopiedItem]:
        """Yield the items whose keys fit what *target* names, in order."""
        tree, pattern, index = self._pattern(target)
        found = (
            CopiedItem(tree, key, payload)
            for key, payload in self._txn.tree(tree).items(*bounds(pattern))
            if all(want is None or want == part for want, part in zip(pattern, key, strict=True))
        )
        if index is None:
            yield from found
            return
        several = list(found)
        if -len(several) <= index < len(several):
            yield several[index]

    def one(self, target: Target) -> CopiedItem:
        """Return the item that *target* names, or where it would stand; raise NotFoundError where that is not said."""
        found = next(self.matches(target), None)
        if found:
            return found
        tree, pattern, index = self._pattern(target)
        if None in pattern or index is not None:
            raise NotFoundError("there is no such item")
        return CopiedItem(tree, Key(*(part or 0 for part in pattern)), None)

    def _pattern(self, target: Target) -> tuple[int, tuple[int | None, int | None, int | None], int | None]:
        tree = self._finder.tree_of(target)
        if tree is None:
            raise NotFoundError(f"{target.head} is no tree of the transaction")
        return tree, *self._finder.key_parts(target)

    def read(self, target: Target, marks: Marks) -> int | bytes:
        """Return what *target* holds, as it is pending; what is no item of a tree, as it stands on the disk."""
        if target.kind != "item" or self._finder.tree_of(target) is None or marks.mirror is not None:
            return self._finder.read(target, marks)
        return self._value(self.one(target), target.steps)

    def value_of(self, item: CopiedItem, edit: Edit) -> int | bytes | None:
        """Return what stands where *edit* is for; None where that is nowhere, before it or behind it."""
        try:
            return self._value(item, edit.target.steps)
        except BtrimgError:
            return None

    @staticmethod
    def _value(item: CopiedItem, steps: Sequence[Step]) -> int | bytes:
        if item.payload is None:
            raise NotFoundError("there is no such item")
        if steps and steps[0].name == "slot":
            slot, span = _in_slot(item, steps)
            return read_span(slot, span)
        if [step.name for step in steps] == ["payload", "size"]:
            return len(item.payload)
        return read_span(item.payload, in_payload(item.key, item.payload, steps))

    def put(self, old: CopiedItem, new: CopiedItem) -> None:
        """Let *new* be in the place of *old*, which may have another key; without a payload there is none."""
        tree = self._txn.tree(old.tree)
        if old.payload is not None and old.key != new.key:
            tree.delete(old.key)
        if new.payload is not None:
            tree.put(new.key, new.payload)
        elif old.payload is not None:
            tree.delete(new.key)

    def is_countable(self, item: CopiedItem) -> bool:
        """Return whether a commit can count what the item uses: of file extents, an extent that there is."""
        if item.key.type != ItemType.EXTENT_DATA or not is_subvolume(item.tree):
            return True
        if item.payload is None or len(item.payload) < FileExtent.SIZE:
            return True
        extent = FileExtent.unpack(item.payload)
        if extent.type == FileExtentType.INLINE or not extent.disk_bytenr:
            return True
        key = Key(extent.disk_bytenr, ItemType.EXTENT_ITEM, extent.disk_num_bytes)
        return extent.disk_bytenr in self._txn.refs.data or self._txn.tree(TreeId.EXTENT_TREE).find(key) is not None

    def changed(self, item: CopiedItem, edit: Edit) -> CopiedItem:
        """Return *item* as one edit leaves it; raises NotFoundError, CorruptError, and ValueError with a sentence."""
        assignment, steps = Assignment(edit, self.values), edit.target.steps
        is_whole = not steps or (edit.target.names == ("payload",) and len(steps) == 1)
        if item.payload is None and (not is_whole or assignment.is_none):
            raise NotFoundError("there is no such item")
        if item.payload is None:
            return item._replace(payload=assignment.as_bytes(b"", None))
        if is_whole and assignment.is_none:
            return item._replace(payload=None)
        if edit.target.names[:1] == ("slot",):
            slot, span = _in_slot(item, steps)
            return item._replace(key=Key(*DiskKey.unpack(assignment.into(slot, span))))
        return item._replace(payload=changed_payload(item.key, item.payload, edit, assignment))


def _in_slot(item: CopiedItem, steps: Sequence[Step]) -> tuple[bytes, Span]:
    """Return the slot that the item would have, and where a field stands in it."""
    slot = Item(DiskKey(*item.key), 0, len(item.payload or b"")).pack()
    return slot, find_span(Item, slot, 0, steps[1:])

"""``item``: read, set, insert and delete items and their fields, and those of every other structure of the disk.

What is said of an item of a tree is done copy-on-write: it is put through the session's transaction, so that nothing of
the last state is overwritten before the new one is complete. What has no copy to go to is done in place, where it
stands (:func:`why_in_place`), by the engine that ``btrimg corrupt`` is.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from btrimg.corrupt.engine import Corruptor
from btrimg.corrupt.finder import Finder
from btrimg.corrupt.told import Change
from btrimg.corrupt.words import Marks, parse_edit
from btrimg.edit.itemcopies import CopiedItems
from btrimg.edit.itemreading import readings
from btrimg.edit.itemwords import Manner, parse_place, says_all
from btrimg.edit.newitems import new_payload
from btrimg.errors import BtrimgError, UnsupportedError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.keynames import key_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.corrupt.told import Reading
    from btrimg.corrupt.words import Edit
    from btrimg.edit.itemwords import Place
    from btrimg.edit.session import Session
    from btrimg.ondisk.blocks import Key

_AS_IS = Manner()
_WANTED = "as was asked for"
_THERE = "there is such an item already; item set changes it"
_FEW = 4  # keys that are named when too many fit
_OF_SLOTS = (("slot", "offset"), ("slot", "size"), ("shift",))

#: Trees of which a copy would not keep an edit, and why.
_OF_TREES = {
    TreeId.CHUNK_TREE: "the commit finds its own blocks by the chunks",
    TreeId.EXTENT_TREE: "the extent tree tells of the very blocks that a commit replaces",
    TreeId.BLOCK_GROUP_TREE: "a commit counts block groups itself",
    TreeId.FREE_SPACE_TREE: "a commit counts free space itself",
    TreeId.TREE_LOG: "logs are written by kernels only",
}
_ACCOUNTS = frozenset(_OF_TREES) | {TreeId.DEV_TREE}


class _UncopiedError(BtrimgError):
    """Report why an edit cannot go to a copy."""


class Done(NamedTuple):
    """What an edit of items came to."""

    changes: tuple[Change, ...]
    in_place: str | None  #: why it was done in place; None when the transaction has it, to be committed


class ItemEditor:
    """Reads and changes items of *session*'s image, and all else that has a name in docs/corrupt.md."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, words: Sequence[str], mirror: int | None = None) -> Iterator[Reading]:
        """Yield what stands in the place that *words* name; of items all whose keys fit.

        Words behind it are fields that are asked for. Raises NotFoundError when there is nothing.
        """
        place = parse_place(words)
        txn = self._session.pending
        with _saying(place):
            copies = CopiedItems(self._session.image, txn) if txn and mirror is None else None
            yield from readings(place, Finder(self._session.image), copies, Marks(mirror=mirror))

    def set(self, words: Sequence[str], manner: Manner = _AS_IS) -> Done:
        """Set fields of the place that *words* name, by the words FIELD=VALUE behind it.

        Raises BtrimgError when several items fit, or a field or value does not; then nothing is changed.
        """
        place = parse_place(words)
        edits = place.edits(manner)
        if not edits:
            raise BtrimgError("say what to set, as FIELD=VALUE; item get shows the fields")
        return self._apply(place, edits, manner)

    def delete(self, words: Sequence[str], manner: Manner = _AS_IS) -> Done:
        """Delete the item that *words* name; raises BtrimgError when several fit, NotFoundError when none does."""
        place = parse_place(words)
        if place.words or place.target.kind != "item" or place.target.steps:
            raise BtrimgError("name one item, TREE KEY, and nothing behind it")
        return self._apply(place, place._replace(words=("=none",)).edits(manner), manner)

    def insert(self, words: Sequence[str], manner: Manner = _AS_IS) -> Done:
        """Insert an item with the fields that the words behind TREE KEY say; all others are zero.

        Raises BtrimgError when there is one already.
        """
        place = parse_place(words)
        if place.target.kind != "item" or place.target.steps:
            raise BtrimgError("name an item, TREE KEY; nothing else can be inserted")
        return self._apply(place, place.edits(manner), manner, new=True)

    def _apply(self, place: Place, edits: Sequence[Edit], manner: Manner, *, new: bool = False) -> Done:
        """Apply *edits*, all of them or none; with *new* they are of an item that is not there yet."""
        with _saying(place):
            finder = Finder(self._session.image)
            why = _WANTED if manner.in_place else self._why_in_place(finder, place, edits, manner)
            if why is None:
                waits = self._session.pending is not None
                try:
                    return Done(self._put_copies(place, edits, new=new), None)
                except _UncopiedError as error:
                    why = str(error)
                    if not waits:
                        self._session.abort()
            if self._session.pending:
                raise BtrimgError(f"that is done in place ({why}), and not in a transaction: commit or abort it first")
            return Done(self._write_in_place(place, edits, manner, new=new), why)

    def _why_in_place(self, finder: Finder, place: Place, edits: Sequence[Edit], manner: Manner) -> str | None:
        tree = finder.tree_of(place.target) if place.target.kind == "item" else None
        if tree is None:
            return "it has no copy to go to"
        if not manner.fix:
            return "new blocks are sound"
        if manner.mirror is not None:
            return "all copies of new blocks are alike"
        for edit in edits:
            if edit.target.names in _OF_SLOTS:
                return "new leaves are packed anew"
            marks = edit.marks
            if marks.keep_csum or marks.keep_parity or marks.keep_parents or marks.sort:
                return "new blocks are sound"
            if marks.mirror is not None or marks.devid is not None:
                return "all copies of new blocks are alike"
        (objectid, key_type, _), _ = finder.key_parts(place.target)
        if key_type == ItemType.ROOT_ITEM and objectid in _ACCOUNTS:
            return "a commit writes itself where that tree lies"
        if tree == TreeId.DEV_TREE and key_type == ItemType.DEV_EXTENT:
            return "a commit allocates the devices itself"
        return next((why for each, why in _OF_TREES.items() if each == tree), None)

    # Copy-on-write

    def _put_copies(self, place: Place, edits: Sequence[Edit], *, new: bool) -> tuple[Change, ...]:
        try:
            copies = CopiedItems(self._session.image, self._session.transaction())
        except UnsupportedError as error:
            raise _UncopiedError(str(error)) from None
        _require_one([item.key for item in islice(copies.matches(place.target), _FEW)])
        item = changed = copies.one(place.target)
        if new and item.payload is not None:
            raise BtrimgError(_THERE)
        if new:
            changed = item._replace(payload=new_payload(item.key, edits, copies.values))
        else:
            for edit in edits:
                changed = copies.changed(changed, edit)
        if not (copies.is_countable(item) and copies.is_countable(changed)):
            raise _UncopiedError("a commit counts the uses of extents, and there is none like that")
        self._session.doubted = True
        copies.put(item, changed)
        if new:
            return (Change(place.text, None, changed.payload),)
        return tuple(
            Change(_name(place, edit), copies.value_of(item, edit), copies.value_of(changed, edit)) for edit in edits
        )

    # In place

    def _write_in_place(self, place: Place, edits: Sequence[Edit], manner: Manner, *, new: bool) -> tuple[Change, ...]:
        corruptor = Corruptor(self._session.image, twins=manner.fix)
        finder, target = corruptor.finder, place.target
        if target.kind == "item":
            _require_one([item.key for item in islice(finder.items(target), _FEW)])
        if new:
            found = finder.item(target)
            if found.present:
                raise BtrimgError(_THERE)
            payload = new_payload(found.key, edits, finder.values)
            edit = parse_edit(f"{place.text}=0x{payload.hex()}")
            corruptor.apply_edit(edit._replace(marks=manner.marks(edit.marks)))
            changes: tuple[Change, ...] = (Change(place.text, None, payload),)
        else:
            before = [_try_read(finder, edit) for edit in edits]
            for edit in edits:
                corruptor.apply_edit(edit)
            after = [_try_read(finder, edit) for edit in edits]
            changes = tuple(
                Change(_name(place, edit), *values) for edit, *values in zip(edits, before, after, strict=True)
            )
        self._session.write_pieces(list(corruptor.pieces()))
        return changes


@contextmanager
def _saying(place: Place) -> Iterator[None]:
    """Begin what errors say with the place that they are about."""
    try:
        yield
    except ValueError as error:
        raise BtrimgError(f"{place.text!a}: {error}") from None
    except BtrimgError as error:
        error.args = (f"{place.text!a}: {error}",)
        raise


def _try_read(finder: Finder, edit: Edit) -> int | bytes | None:
    """Return what stands where *edit* is for; None where that is nowhere, before it or behind it."""
    try:
        return finder.read(edit.target, edit.marks)
    except BtrimgError:
        return None


def _require_one(keys: Sequence[Key]) -> None:
    if len(keys) > 1:
        several = ", ".join(map(key_words, keys[: _FEW - 1]))
        raise BtrimgError(f"several items fit: {several}{' …' * (len(keys) == _FEW)}; name one of them, or KEY[0]")


def _name(place: Place, edit: Edit) -> str:
    """Return what was set, without the value."""
    return place.text if says_all(edit.text) else f"{place.text}/{re.split('[-+|&^]?=', edit.text)[0]}"

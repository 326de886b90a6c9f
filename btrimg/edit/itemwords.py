"""The words of ``item``: which place they name, and what is to be put there; the rest is the language of edits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from btrimg.corrupt.words import parse_edit, parse_target, split_outside
from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.corrupt.words import Edit, Marks, Target

_ITEM_OF_FILE = re.compile(r":[A-Z]\w*(\.|/|$)")
_OF_BLOCKS = re.compile(r"(header|slots|bytes)\b")
_VALUE = re.compile(r"[-+|&^]?=")
_WITHOUT_KEY = ("super",)


class Manner(NamedTuple):
    """How a change is made."""

    in_place: bool = False  #: in the blocks that are there, not in copies of them
    mirror: int | None = None  #: only this copy
    fix: bool = True  #: whether checksums, parity, first keys in nodes and copies elsewhere are made right

    def marks(self, said: Marks) -> Marks:
        """Return the marks of an edit that is made so; what its own marks say stays."""
        if self.mirror is not None and said.mirror is None:
            said = said._replace(mirror=self.mirror)
        if not self.fix:
            said = said._replace(keep_csum=True, keep_parity=True, keep_parents=True)
        return said


class Place(NamedTuple):
    """What TREE and KEY name, and the words behind them."""

    text: str  #: as a target of ``btrimg corrupt``
    target: Target
    words: tuple[str, ...]

    def edits(self, manner: Manner) -> list[Edit]:
        """Return the edits that the words FIELD=VALUE say; raise BtrimgError for one that says nothing."""
        found = []
        for word in self.words:
            try:
                joint = "" if says_all(word) else "." if self.path else "/"
                edit = parse_edit(self.text + joint + word)
            except ValueError as error:
                raise BtrimgError(str(error)) from None
            found.append(edit._replace(text=word, marks=manner.marks(edit.marks)))
        return found

    @property
    def path(self) -> str:
        """Return the field that TREE and KEY name already, as fs/257.INODE_ITEM/nlink does, or nothing."""
        return split_outside(self.text, "/")[-1] if self.target.steps else ""


def says_all(word: str) -> bool:
    """Return whether *word* is a value for all that a place has, without a field: =0xff, ^=1."""
    return _VALUE.match(word) is not None


def parse_place(words: Sequence[str]) -> Place:
    """Return what *words* name: TREE KEY, TREE@LEVEL [KEY], block@LOGICAL [KEY], /PATH TYPE[.OFFSET], super.

    One word can hold all of it, as for ``btrimg corrupt``: fs/257.INODE_ITEM.0. Raises BtrimgError.
    """
    if not words:
        raise BtrimgError("name an item: TREE KEY, as fs 257.INODE_ITEM.0, or super, fs@0, /PATH INODE_ITEM")
    text, *rest = words
    try:
        if text.startswith("/"):
            if not _ITEM_OF_FILE.search(text) and rest:
                text = f"{text}:{rest.pop(0)}"
        elif text not in _WITHOUT_KEY and len(split_outside(text, "/")) == 1 and rest and _is_key(text, rest[0]):
            text = f"{text}/{rest.pop(0)}"
        return Place(text, parse_target(text), tuple(rest))
    except ValueError as error:
        raise BtrimgError(str(error)) from None


def _is_key(tree: str, word: str) -> bool:
    if "@" in tree and _OF_BLOCKS.match(word):
        return False
    return len(split_outside(word, "=")) == 1

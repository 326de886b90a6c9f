"""``btrimg edit IMAGE item``: items, their fields, and those of every other structure of the disk."""

from __future__ import annotations

import os

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.edit_parameters import surroundings
from btrimg.cli.terminal import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from btrimg.cli.verbs import Context
    from btrimg.edit.items import Done


def _copy(text: str) -> int:
    """Return the number of a copy; raise ValueError."""
    if not text.isdecimal():
        raise ValueError(f"{text!a} is no number of a copy; 0 is the first")
    return int(text)


_MANNER = (
    Option("in_place", ("--in-place-block",), "Change the block that is there, not a copy of it."),
    Option("copy", ("--copy",), "Change this copy alone, in place; 0 is the first.", _copy, "N"),
    Option("no_fix", ("--no-fix",), "Make nothing right: checksums, parity, and what stands elsewhere too; in place."),
)


@command(
    Argument("words", "TREE KEY [FIELD]...", str, many=True),
    Option("copy", ("--copy",), "Read this copy; 0 is the first.  [default: the best]", _copy, "N"),
    name="get",
)
def get(context: Context, words: tuple[str, ...], copy: int | None) -> int:
    """Show items, or fields of one, by the names and values that "item set" takes.

    \b
      btrimg edit disk.img item get fs 257
      btrimg edit disk.img item get fs 257.INODE_ITEM.0 nlink mtime
      btrimg edit disk.img item get /etc/passwd EXTENT_DATA
      btrimg edit disk.img item get super
      btrimg edit disk.img item get chunk@root --json
      btrimg edit disk.img item get super generation --copy 1

    A KEY of which parts are left out at the end, or are *, shows every item that fits. JSON, one object for each:
    "target", of items "key", "size" and "block" (logical address), then "records" (each with where it is "at", its
    name as "record", and its fields) and "tail" (hexadecimal); or "fields" by name, if some were asked for.
    """
    from btrimg.edit.items import ItemEditor
    from btrimg.render import itemrows

    readings = ItemEditor(context.session).get(_placed(words), copy)
    for line in map(itemrows.reading_json, readings) if context.as_json else itemrows.reading_lines(readings):
        print(line)
    return 0


@command(Argument("words", "TREE KEY FIELD=VALUE...", str, many=True), *_MANNER, name="set")
def set_(context: Context, words: tuple[str, ...], **manner: Any) -> int:
    """Set fields of an item, or of any other structure of the disk; all of them, or none.

    \b
      btrimg edit disk.img item set fs 257.INODE_ITEM.0 nlink=2 'mode|=0o111'
      btrimg edit disk.img item set /etc/passwd INODE_ITEM uid=1000
      btrimg edit disk.img item set super label=root incompat_flags+=Incompat.NO_HOLES
      btrimg edit disk.img item set fs@0 257.INODE_ITEM.0 header.generation=7
      btrimg edit disk.img item set fs@root 'slots[0].blockptr=30408704' --copy 1

    The words are those of docs/corrupt.md. Items are changed copy-on-write, with --in-place-block where they stand;
    what has no copy to go to, such as headers, is changed in place always. Checksums are made right.
    """
    return _done(context, "set", words, manner)


@command(Argument("words", "TREE KEY [FIELD=VALUE]...", str, many=True), *_MANNER, name="insert")
def insert(context: Context, words: tuple[str, ...], **manner: Any) -> int:
    """Insert an item with these fields; all others are zero, or as its kind needs them.

    \b
      btrimg edit disk.img item insert fs ORPHAN.ORPHAN_ITEM.300
      btrimg edit disk.img item insert fs 300.INODE_ITEM.0 size=4096 nlink=1 mode=0o100644
      btrimg edit disk.img item insert fs 300.INODE_EXTREF.exthash:256:name parent_objectid=256 name=name
      btrimg edit disk.img item insert dev 0.PERSISTENT_ITEM.1 payload=0x00*40
    """
    return _done(context, "insert", words, manner)


@command(Argument("words", "TREE KEY", str, many=True), *_MANNER, name="delete")
def delete(context: Context, words: tuple[str, ...], **manner: Any) -> int:
    """Delete one item.

    \b
      btrimg edit disk.img item delete fs ORPHAN.ORPHAN_ITEM.300
      btrimg edit disk.img item delete root 256.ROOT_BACKREF.5 --in-place-block
    """
    return _done(context, "delete", words, manner)


def _done(context: Context, verb: str, words: tuple[str, ...], manner: dict[str, Any]) -> int:
    from btrimg.edit.items import ItemEditor
    from btrimg.edit.itemwords import Manner

    editor = ItemEditor(context.session)
    how = Manner(manner["in_place"], manner["copy"], fix=not manner["no_fix"])
    done = getattr(editor, verb)(_placed(words), how)
    _show(context, done)
    if done.in_place and how == Manner():
        say("", "yellow", f"done in place: {done.in_place}")
    return 0


def _placed(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return *words* with a path at their start, if it begins with a dot, made absolute: that of a file in a shell."""
    if not words[0].startswith("."):
        return words
    return (os.fsdecode(surroundings.absolute(os.fsencode(words[0]))), *words[1:])


def _show(context: Context, done: Done) -> None:
    from btrimg.render.answers import json_line
    from btrimg.render.itemrows import change_line, change_object

    for change in done.changes:
        print(json_line(change_object(change)) if context.as_json else change_line(change))

"""What the words of a shell mean: its own, those that read, and the verbs of ``btrimg edit``; and how they go on."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from btrimg.cli.command import Argument, Option, load_from
from btrimg.cli.main import COMMANDS
from btrimg.cli.parameters import DEFAULTS_OF_OPENING, Target, parse_target
from btrimg.cli.verbs import VERBS
from btrimg.edit.lines import quoted, split_words
from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from btrimg.cli.command import Command
    from btrimg.edit.items import ItemEditor
    from btrimg.edit.shell import Surroundings

OWN = {  #: words of the shell itself
    "cd": "Go to a directory of the image; without one, to the top.",
    "pwd": "Show the directory that paths are relative to.",
    "begin": "Let edits wait from now on, to be one transaction; what reads files and items sees them.",
    "commit": "Commit the edits that wait.",
    "abort": "Forget the edits that wait.",
    "help": "List the words, or explain one.",
    "quit": "Leave; what waits is forgotten. So does the end of the input.",
}
READING = {  #: words that read, by the commands that answer them
    "ls": ("ls",),
    "stat": ("stat",),
    "cat": ("cat",),
    "resolve": ("resolve",),
    "locate": ("locate",),
    "dump": ("inspect", "dump-tree"),
    "sql": ("sql",),
}
_ITEM_VERBS = ("get", "set", "insert", "delete")


def commands() -> Iterator[tuple[str, str]]:
    """Yield all that can be said, with one line of help for each."""
    yield from OWN.items()
    yield from ((word, COMMANDS[name][1]) for word, name in READING.items())
    yield from ((" ".join(words), short) for words, (_, short) in VERBS.items())


class Meaning(NamedTuple):
    """What a line says."""

    command: Command
    name: str  #: of the command
    words: list[str]  #: behind it
    edits: bool  #: whether it is a verb of ``btrimg edit``


def meaning_of(words: Sequence[str], target: Callable[[bytes | None], Target]) -> Meaning:
    """Return what *words* say, which are no word of the shell itself; *target* names a file of the image.

    Raises BtrimgError for words that are not known.
    """
    name, *rest = words
    if name in READING:
        return Meaning(_of_shell(load_from(COMMANDS, READING[name]), name, target), name, rest, edits=False)
    if name == "item" and rest and rest[0] not in _ITEM_VERBS and not rest[0].startswith("-"):
        words = ["item", "get", *rest]
    for count in (1, 2):
        if tuple(words[:count]) in VERBS:
            verb = load_from(VERBS, tuple(words[:count]))
            return Meaning(verb, " ".join(words[:count]), list(words[count:]), edits=True)
    below = [" ".join(known) for known in VERBS if known[0] == name]
    if below:
        raise BtrimgError(f"{name} takes a further word: {', '.join(below)}")
    raise BtrimgError(f"{name!a} is no word of the shell; help lists them")


def _of_shell(command: Command, name: str, target: Callable[[bytes | None], Target]) -> Command:
    """Return a command that reads the image of the shell: it takes a path, or nothing, where it took an image."""
    wholes = name in ("dump", "sql")
    parameters: list[Argument | Option] = []
    fixed = {key: value for key, value in DEFAULTS_OF_OPENING.items() if key in {p.name for p in command.parameters}}
    for parameter in command.parameters:
        if parameter.name in fixed:
            continue
        if isinstance(parameter, Argument) and parameter.convert is parse_target:
            if wholes or name == "locate":
                fixed[parameter.name] = (target(None),) if parameter.many else target(None)
                continue
            parameter = Argument(
                *(parameter.name, "PATH" if name != "ls" else "[PATH]", lambda text: target(os.fsencode(text))),
                optional=name == "ls",
            )
        parameters.append(parameter)

    def run(**given: object) -> int:
        if given.get("target", fixed) is None:
            given["target"] = target(b"")
        return command.run(**fixed, **given)

    return command._replace(run=run, parameters=tuple(parameters), name=name)


class Completion(NamedTuple):
    """How a line may go on."""

    start: int  #: of what is replaced, in the line
    texts: tuple[str, ...]


class Completer:
    """Tells how lines go on: words, options, paths of the image and of the host, trees and fields of items."""

    def __init__(self, around: Surroundings, items: ItemEditor) -> None:
        self._around, self._items = around, items

    def complete(self, line: str) -> Completion:
        """Return how *line*, which ends where the cursor is, may go on."""
        words = split_words(line)
        if not words or (line[-1:].isspace() and not words[-1].quote):
            start, typed, before = len(line), "", [word.text for word in words]
        else:
            start, typed, before = words[-1].start, words[-1].text, [word.text for word in words[:-1]]
        try:
            found = sorted(set(self._candidates(before, typed)))
        except BtrimgError:  # what cannot be read cannot be completed
            found = []
        return Completion(start, tuple(found))

    def _candidates(self, before: list[str], typed: str) -> Iterator[str]:
        if not before:
            names = (words.partition(" ")[0] for words, _ in commands())
            yield from (name + " " for name in names if name.startswith(typed))
            return
        name = before[0]
        seconds = [words.split(" ")[1] for words, _ in commands() if words.startswith(f"{name} ")]
        if len(before) == 1 and seconds:
            yield from (second + " " for second in seconds if second.startswith(typed))
        if name == "help":
            yield from (known for known, _ in commands() if known.startswith(typed))
        elif name == "cd":
            yield from self._paths(typed, directories=True)
        elif before == ["item"]:
            yield from self._of_item([], typed, sets=False)
        elif name in OWN or (len(before) == 1 and seconds):
            return
        else:
            yield from self._of_command(before, typed)

    def _of_command(self, before: list[str], typed: str) -> Iterator[str]:
        meaning = meaning_of(before, lambda _path: Target((), None))
        if typed.startswith("-"):
            flags = (flag for p in meaning.command.parameters if isinstance(p, Option) for flag in p.flags)
            yield from (flag + " " for flag in flags if flag.startswith(typed))
        elif before[0] == "item":
            yield from self._of_item(meaning.words, typed, sets=meaning.command.name == "set")
        elif before[0] not in ("dump", "sql", "locate"):
            arguments = [p for p in meaning.command.parameters if isinstance(p, Argument)]
            if arguments and arguments[0].is_path and not meaning.words:
                yield from _host_paths(typed)
            else:
                yield from self._paths(typed)

    def _paths(self, typed: str, *, directories: bool = False) -> Iterator[str]:
        """Yield the names that *typed* may become."""
        head, slash, tail = os.fsencode(typed).rpartition(b"/")
        top = self._around.inode(head + slash or b".")
        for entry, inode in top.entries() if top.is_directory else ():
            if entry.name.startswith(tail) and (inode.is_directory or not directories):
                path = os.fsdecode(head + slash + entry.name)
                yield quoted(path + "/", closed=False) if inode.is_directory else quoted(path) + " "

    def _of_item(self, words: list[str], typed: str, *, sets: bool) -> Iterator[str]:
        """Yield trees, keys of items, and fields."""
        from btrimg.edit.itemwords import parse_place
        from btrimg.ondisk.keynames import key_words
        from btrimg.render.itemrows import field_names

        if not words:
            yield from (tree + " " for tree in ("super", *_TREES) if tree.startswith(typed))
            if typed.startswith("/"):
                yield from self._paths(typed)
            return
        if len(words) == 1 and words[0] in _TREES:
            objectid = typed.partition(".")[0]
            found = self._items.get([words[0], objectid]) if objectid else iter(())
            keys = (key_words(reading.key) for reading in islice(found, _MOST_KEYS) if reading.key)
            yield from (key + " " for key in keys if key.startswith(typed))
            return
        said = len(parse_place(words).words)
        reading = next(self._items.get(words[: len(words) - said]))
        yield from (name + ("=" if sets else " ") for name in field_names(reading) if name.startswith(typed))


_MOST_KEYS = 1000  # that are looked at to complete one
_TREES = (
    *("root", "extent", "chunk", "dev", "fs", "csum", "quota", "uuid", "free_space", "block_group", "data_reloc"),
    *("log", "raid_stripe", "remap"),
)


def _host_paths(typed: str) -> Iterator[str]:
    head, slash, tail = typed.rpartition("/")
    try:
        names: Iterable[os.DirEntry[str]] = os.scandir(head + slash or ".")
    except OSError:
        return
    for name in names:
        if name.name.startswith(tail):
            path = head + slash + name.name
            yield quoted(path + "/", closed=False) if name.is_dir() else quoted(path) + " "

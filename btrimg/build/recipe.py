"""A recipe: TOML in, a filesystem to make and a stream of operations out; docs/recipes.md describes the language.

All of a recipe is looked at when it is read. Entries that are repeated stay as they are until they are wanted, so that
100,000 names take one entry's memory; their first and last are made at once, to find what is wrong with them.
"""

from __future__ import annotations

import os
import re
import tomllib
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from btrimg.build.counters import COUNTER, fill, varies
from btrimg.build.filesystem import read_filesystem
from btrimg.build.grammar import VERBS, make
from btrimg.build.keys import FaultError, read_key
from btrimg.build.lines import Lines
from btrimg.build.readers import read_count, read_string
from btrimg.errors import RecipeError
from btrimg.named import NamedTuple
from btrimg.write.collector import uncollected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from btrimg.build.lines import Path
    from btrimg.build.values import Filesystem, Operation

_SHOWN = 60  # characters of an entry in an error
_LIMIT = 64 << 20  # bytes; far more than anybody writes, and what tomllib takes 2 GiB for
_LARGE = 64 << 10  # characters from which it pays to find out whether they are regular
_MOST = 100_000_000  # times that an entry is repeated


class Origin(NamedTuple):
    """One operation as the recipe has it: what its errors name, and on what its random bytes depend."""

    name: str  #: of the recipe, or the option that the operation comes from
    find_line: Callable[[], int] | None
    label: str  #: ``3.1:n=7``, see docs/recipes.md
    verb: str  #: empty for an option
    subject: Any  #: of the verb, as TOML has it

    @property
    def line(self) -> int | None:
        """Return the line, None for an option."""
        return self.find_line() if self.find_line else None

    @property
    def text(self) -> str:
        """Return the verb with its subject, cut if that is long."""
        return _text_of(self.verb, self.subject) if self.verb else ""

    def error(self, sentence: str) -> RecipeError:
        """Return an error of this entry."""
        return RecipeError(self.name, self.line, f"{self.text}: {sentence}" if self.verb else sentence)


class _Step(NamedTuple):
    """An entry, or a group of entries, as it stands in the recipe."""

    path: Path
    label: str
    counter: str
    times: int | None  #: None if it is not repeated
    verb: str  #: empty for a group
    subject: Any
    fixed: Mapping[str, Any]  #: values of keys that do not depend on counters
    varying: Mapping[str, Any]  #: TOML of those that do
    steps: tuple[_Step, ...]
    made: list[Operation]  #: its operation, once that was made, if nothing but the subject varies


class Recipe(NamedTuple):
    """A recipe that was read, and in which nothing is wrong that can be known without an image."""

    name: str
    about: str
    directory: bytes  #: of the host, from which paths of the host go
    filesystem: Filesystem
    steps: tuple[_Step, ...]
    lines: Lines

    def operations(self) -> Iterator[tuple[Origin, Operation]]:
        """Yield what is to be done, in order; raise RecipeError for a repetition that comes to nothing."""
        return _operations(self, self.steps, {})


def load_recipe(path: str, *, is_edit: bool = False) -> Recipe:
    """Read the recipe in the file *path*; raise RecipeError with line and entry for what is wrong in it."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise RecipeError(path, None, f"cannot be read: {error.strerror}") from None
    return parse_recipe(data, path, os.path.dirname(os.fsencode(path)), is_edit=is_edit)


def parse_recipe(data: bytes, name: str, directory: bytes = b"", *, is_edit: bool = False) -> Recipe:
    """Return the recipe that *data* says; *name* is what errors call it.

    An edit of an existing image has no table ``[filesystem]``. Raises RecipeError with line and entry.
    """
    if len(data) > _LIMIT:
        raise RecipeError(name, None, f"is larger than {_LIMIT} bytes: repeat entries, and put contents into files")
    with uncollected():
        return _recipe(data, name, directory, is_edit=is_edit)


def _recipe(data: bytes, name: str, directory: bytes, *, is_edit: bool) -> Recipe:
    document, lines = _parse_toml(data, name)
    try:
        for key in document:
            if key not in ("about", "do", "filesystem") or (is_edit and key == "filesystem"):
                known = "about and do" if is_edit else "about, filesystem and do"
                raise FaultError((key,), f"{key!r} is no part of a recipe: it has {known}")
        about = read_key("about", document.get("about", ""), {"about": read_string}, "a recipe")
        filesystem = read_filesystem(document.get("filesystem", {}))
        if not filesystem.seed:
            filesystem = filesystem._replace(seed=sha256(data).hexdigest()[:32].encode())
        steps = _steps(document.get("do", []), ("do",), "", ())
        recipe = Recipe(name, about, directory, filesystem, steps, lines)
    except FaultError as fault:
        raise RecipeError(name, lines(fault.path), _entry_text(document, fault)) from None
    except RecursionError:
        raise RecipeError(name, 1, "groups are nested too deep") from None
    for end in (0, -1):
        for _ in _operations(recipe, steps, {}, only=end):
            pass
    return recipe


def _parse_toml(data: bytes, name: str) -> tuple[dict[str, Any], Lines]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(name, line, "is not UTF-8: write \\xNN for other bytes") from None
    try:
        return _document(text), Lines(text)
    except RecursionError:
        raise RecipeError(name, 1, "arrays and tables are nested too deep") from None
    except ValueError as error:
        # Besides its own errors, tomllib lets those of int() through, for numbers of thousands of digits.
        found = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        digits = re.search(r"\d{4000}", text.replace("_", ""))
        start = digits.start() if digits and not found else len(text)
        line = int(found[1]) if found else text.count("\n", 0, start) + 1
        what = str(error)[: found.start()] if found else str(error).removesuffix(" (at end of document)")
        raise RecipeError(name, line, f"is no TOML: {what}") from None


def _document(text: str) -> dict[str, Any]:
    if len(text) > _LARGE:
        from btrimg.build.regular import parse_regular

        document = parse_regular(text)
        if document is not None:
            return document
    return tomllib.loads(text)


def _entry_text(document: Any, fault: FaultError) -> str:
    """Return the sentence of *fault* behind the innermost entry that it is in."""
    text, value = "", document
    previous: str | int = ""
    for step in fault.path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            break
        if previous == "do" and isinstance(value, dict) and (verb := _verb_of(value)):
            text = _text_of(verb, value[verb])
        elif isinstance(step, str) and step != "do":
            break
        previous = step
    return f"{text}: {fault.sentence}" if text else fault.sentence


def _text_of(verb: str, subject: Any) -> str:
    shown = ascii(subject) if isinstance(subject, str) else str(subject)
    return f"{verb} {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '…'}"


# Entries


def _steps(entries: Any, path: Path, label: str, counters: tuple[str, ...]) -> tuple[_Step, ...]:
    if not isinstance(entries, list):
        raise FaultError(path, "do must be an array of tables: [[do]], or do = [{…}, {…}]")
    return tuple(_step(entry, (*path, index), f"{label}{index}", counters) for index, entry in enumerate(entries))


def _step(entry: Any, path: Path, label: str, outer: tuple[str, ...]) -> _Step:
    if not isinstance(entry, dict):
        raise FaultError(path, "an operation must be a table")
    counter, times = _repetition(entry.get("repeat"), (*path, "repeat"))
    if counter in outer:
        raise FaultError((*path, "repeat"), f"{counter} counts already: repeat = {{i = 10}} gives another name")
    counters = (*outer, counter) if counter else outer
    if "do" in entry:
        for key in entry:
            if key not in ("do", "repeat"):
                raise FaultError((*path, key), f"{key!r} is no key of a group: it has do and repeat")
        return _Step(
            *(path, label, counter, times, "", None, {}, {}),
            steps=_steps(entry["do"], (*path, "do"), f"{label}.", counters),
            made=[],
        )
    verb = _verb_of(entry)
    if not verb:
        raise FaultError(path, f"says no operation: write one of {', '.join(VERBS)}")
    keys = VERBS[verb].keys
    fixed, varying = {}, {}
    for key, value in entry.items():
        if key in (verb, "repeat"):
            continue
        if counters and key in keys and varies(value):
            varying[key] = value
            continue
        try:
            fixed[key] = read_key(key, value, keys, verb)
        except FaultError as fault:
            raise FaultError((*path, *fault.path), fault.sentence) from None
    return _Step(path, label, counter, times, verb, entry[verb], fixed, varying, (), [])


def _repetition(value: Any, path: Path) -> tuple[str, int | None]:
    """Return the name of the counter and how often it counts, from ``10`` or ``{i = 10}``."""
    if value is None:
        return "", None
    name = "n"
    if isinstance(value, dict):
        if len(value) != 1:
            raise FaultError(path, "repeat must be a number, or {NAME = NUMBER}")
        ((name, value),) = value.items()
        if not COUNTER.fullmatch(name):
            raise FaultError(path, f"{name!r} is no name of a counter: take small letters")
    try:
        times = read_count(value)
    except ValueError as error:
        raise FaultError(path, f"repeat {error}") from None
    if times > _MOST:
        raise FaultError(path, f"repeat must be at most {_MOST}")
    return name, times


def _verb_of(entry: Mapping[str, Any]) -> str:
    """Return the verb of an entry: the one that takes all others as keys, as ``extent`` does ``prealloc``."""
    verbs = [key for key in entry if key in VERBS]
    if len(verbs) == 1:
        return verbs[0]
    for verb in verbs:
        if all(other == verb or other in VERBS[verb].keys for other in verbs):
            return verb
    return verbs[0] if verbs else ""


def _operations(
    recipe: Recipe, steps: tuple[_Step, ...], counters: dict[str, int], *, only: int | None = None
) -> Iterator[tuple[Origin, Operation]]:
    """Yield what *steps* say; with *only* (0 the first, -1 the last) one of each repetition, and of nothing else."""
    for step in steps:
        if only is not None and step.times is None and step.verb and not counters:
            if only == 0:
                _make_once(recipe, step)
            continue
        numbers = range(step.times or 1)
        for number in numbers if only is None else (numbers[only],):
            inner = counters if step.times is None else {**counters, step.counter: number}
            if step.verb:
                yield _operation(recipe, step, inner)
            else:
                yield from _operations(recipe, step.steps, inner, only=only)


def _make_once(recipe: Recipe, step: _Step) -> None:
    """Make the operation of a step that is not repeated."""
    try:
        step.made.append(make(step.verb, VERBS[step.verb].subject(step.subject), step.fixed))
    except ValueError:
        _operation(recipe, step, {})  # which tells where that stands


def _operation(recipe: Recipe, step: _Step, counters: dict[str, int]) -> tuple[Origin, Operation]:
    line = partial(recipe.lines, step.path)
    if step.made and not counters:
        return Origin(recipe.name, line, step.label, step.verb, step.subject), step.made[0]
    counted = ",".join(f"{name}={number}" for name, number in counters.items())
    label = f"{step.label}:{counted}" if counted else step.label
    try:
        subject = fill(step.subject, counters) if counters else step.subject
        origin = Origin(recipe.name, line, label, step.verb, subject)
    except ValueError as error:
        raise Origin(recipe.name, line, label, step.verb, step.subject).error(str(error)) from None
    verb = VERBS[step.verb]
    try:
        if not step.varying:
            # All but the subject is the same each time; it is what an operation's first field holds.
            if not step.made:
                step.made.append(make(step.verb, verb.subject(subject), step.fixed))
            made = step.made[0]
            if not counters:
                return origin, made
            return origin, type(made)(verb.subject(subject), *made[1:]) if made else made
        given = dict(step.fixed)
        for key, value in step.varying.items():
            given[key] = read_key(key, _filled(key, value, counters), verb.keys, step.verb)
        return origin, make(step.verb, verb.subject(subject), given)
    except FaultError as fault:
        raise origin._replace(find_line=partial(recipe.lines, (*step.path, *fault.path))).error(
            fault.sentence
        ) from None
    except ValueError as error:
        raise origin.error(str(error)) from None


def _filled(key: str, value: Any, counters: dict[str, int]) -> Any:
    try:
        return fill(value, counters)
    except ValueError as error:
        raise FaultError((key,), f"{key}: {error}") from None

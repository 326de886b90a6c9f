"""What a command takes, said once.

Well-formed arguments are parsed here, since click takes 30 ms to import, as long as all of ``resolve``; whatever is not
plain (help, completion, errors, clustered flags) goes to click, which :mod:`click_group` builds of the same table.
"""

from __future__ import annotations

import sys

from btrimg.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Table = Mapping[tuple[str, ...], tuple[str, str]]  # words: (module and attribute, one line of help)


_HELP = ("-h", "--help")


class Argument(NamedTuple):
    """A positional argument; *convert* raises ValueError with a sentence."""

    name: str
    metavar: str
    convert: Callable[[str], Any]
    many: bool = False  #: one or more, given as a tuple
    is_path: bool = False  #: whether the shell completes names of files
    optional: bool = False  #: may be left out, given as None, or as an empty tuple


class Option(NamedTuple):
    """An option, or a flag if there is no *convert*."""

    name: str
    flags: tuple[str, ...]
    help: str
    convert: Callable[[str], Any] | None = None
    metavar: str = ""
    default: Any = None
    many: bool = False  #: may be repeated, given as a tuple
    is_path: bool = False  #: whether the shell completes names of files


class Command(NamedTuple):
    """A command: *run* takes the parameters by name and returns the exit code."""

    run: Callable[..., int]
    parameters: tuple[Argument | Option, ...]
    name: str
    verbs: Table | None = None  #: that may follow its arguments; *run* gets one as *verb*, and what it is *given*
    takes_dashes: bool = False  #: whether an argument may begin with a dash

    @property
    def help(self) -> str:
        """Return the text of ``--help``."""
        return self.run.__doc__ or ""

    @property
    def usage(self) -> str:
        """Return the name with the arguments, each with its metavar."""
        return " ".join((self.name, *(p.metavar for p in self.parameters if isinstance(p, Argument))))

    def parse(self, words: Sequence[str]) -> dict[str, Any] | None:
        """Return the parameters that *words* give; None when they are not plain, so that click must look at them."""
        if self.verbs is None:
            return self._parse(words)
        own, tail = self.split(words)
        values = self._parse(own)
        if values is None or not tail:
            return values and values | {"verb": None, "given": {}}
        for count in (1, 2):
            if tuple(tail[:count]) in self.verbs:
                verb = load_from(self.verbs, tuple(tail[:count]))
                given = self.with_own_options(verb)._parse(tail[count:])
                return None if given is None else self.joined(values, verb, given)
        return None

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return *words* up to the verb, options first, and from the verb on."""
        takes_value = {flag for p in self.parameters if isinstance(p, Option) and p.convert for flag in p.flags}
        missing = sum(isinstance(p, Argument) for p in self.parameters)
        options: list[str] = []
        arguments: list[str] = []
        rest = list(reversed(words))
        while rest and not (len(arguments) == missing and (rest[-1] == "-" or not rest[-1].startswith("-"))):
            word = rest.pop()
            (options if word.startswith("-") and word != "-" else arguments).append(word)
            if word in takes_value and rest:
                options.append(rest.pop())
        return options + arguments, rest[::-1]

    def with_own_options(self, verb: Command) -> Command:
        """Return *verb* so that it takes the long options of this command, too, unless it has such ones itself."""
        names = {p.name for p in verb.parameters}
        known = {flag for p in verb.parameters if isinstance(p, Option) for flag in p.flags}
        own = [
            p._replace(flags=flags)
            for p in self.parameters
            if isinstance(p, Option) and p.name not in names
            if (flags := tuple(flag for flag in p.flags if flag.startswith("--") and flag not in known))
        ]
        return verb._replace(parameters=(*verb.parameters, *own))

    def joined(self, values: dict[str, Any], verb: Command, given: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of this command: *values*, and what the *verb* was *given*, own options among them."""
        names, joined = {p.name for p in verb.parameters}, dict(values)
        for p in self.parameters:
            if isinstance(p, Option) and p.name in given and p.name not in names:
                late = given[p.name]
                joined[p.name] = (*values[p.name], *late) if p.many else values[p.name] if late == p.default else late
                if p.convert is None:
                    joined[p.name] = values[p.name] or late
        return joined | {"verb": verb, "given": {name: given[name] for name in given if name in names}}

    def _parse(self, words: Sequence[str]) -> dict[str, Any] | None:
        options = {flag: p for p in self.parameters if isinstance(p, Option) for flag in p.flags}
        values: dict[str, Any] = {o.name: () if o.many else o.default if o.convert else False for o in options.values()}
        positional: list[str] = []
        rest = list(reversed(words))
        try:
            while rest:
                word = rest.pop()
                is_word = not word.startswith("-") or word == "-"
                if is_word or (self.takes_dashes and word not in options and word not in _HELP):
                    positional.append(word)
                    continue
                option = options[word]
                value = option.convert(rest.pop()) if option.convert else True
                values[option.name] = (*values[option.name], value) if option.many else value
            return values | self._positional(positional)
        except (KeyError, IndexError, ValueError):
            return None

    def _positional(self, words: list[str]) -> dict[str, Any]:
        """Return the positional arguments; the last one takes all that remains if it takes many."""
        arguments = [p for p in self.parameters if isinstance(p, Argument)]
        values: dict[str, Any] = {}
        for argument in arguments:
            if argument.many and not words and not argument.optional:
                raise ValueError(f"{argument.metavar} is missing")
            if argument.many:
                values[argument.name] = tuple(map(argument.convert, words))
                words = []
            elif argument.optional and not words:
                values[argument.name] = None
            else:
                values[argument.name] = argument.convert(words.pop(0))
        if words:
            raise ValueError(f"unexpected {words[0]}")
        return values


def command(
    *parameters: Argument | Option,
    name: str | None = None,
    verbs: Table | None = None,
    takes_dashes: bool = False,
) -> Callable[[Callable[..., int]], Command]:
    """Return a decorator that makes a Command of a function; its docstring is the help."""

    def decorate(run: Callable[..., int]) -> Command:
        return Command(run, parameters, name or run.__name__, verbs, takes_dashes)

    return decorate


def load_from(table: Table, words: tuple[str, ...]) -> Command:
    """Import and return the command called by *words*."""
    module, _, attribute = table[words][0].partition(":")
    name = f"btrimg.cli.{module}"
    __import__(name)  # as importlib does, which takes 1 ms to import
    found: Command = getattr(sys.modules[name], attribute)
    return found

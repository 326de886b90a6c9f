"""What a command takes, said once.

Well-formed arguments are parsed here, since click takes 30 ms to import, as long as all of ``resolve``; whatever is not
plain (help, completion, errors, clustered flags) goes to click, which :mod:`click_group` builds of the same table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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

    @property
    def help(self) -> str:
        """Return the text of ``--help``."""
        return self.run.__doc__ or ""

    def parse(self, words: Sequence[str]) -> dict[str, Any] | None:
        """Return the parameters that *words* give; None when they are not plain, so that click must look at them."""
        options = {flag: p for p in self.parameters if isinstance(p, Option) for flag in p.flags}
        values: dict[str, Any] = {o.name: () if o.many else o.default if o.convert else False for o in options.values()}
        positional: list[str] = []
        rest = list(reversed(words))
        try:
            while rest:
                word = rest.pop()
                if not word.startswith("-") or word == "-":
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


def command(*parameters: Argument | Option, name: str | None = None) -> Callable[[Callable[..., int]], Command]:
    """Return a decorator that makes a Command of a function; its docstring is the help."""

    def decorate(run: Callable[..., int]) -> Command:
        return Command(run, parameters, name or run.__name__)

    return decorate

"""Counters of repeated entries: ``{n}``, ``{n*8K+4096}`` and ``{n:05}`` in texts, made numbers."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from btrimg.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Counters = Mapping[str, int]
    Sum = Callable[[Counters], int]

COUNTER = re.compile(r"[a-z_]\w*", re.ASCII)

_FIELD = re.compile(r"\{([\w+\-*/%() ]+)(?::(0?\d{0,3}[dx]?))?\}", re.ASCII)
_TOKEN = re.compile(r" *(0[xX][0-9a-fA-F]+|\d+(?:[KMGTPE]i?B?)?|[a-z_]\w*|[-+*/%()]) *", re.ASCII)
_DEEPEST = 50  # parentheses in parentheses
_MOST_TOKENS = 200
_MOST_BITS = 64


def fill(value: Any, counters: Counters) -> Any:
    """Return *value*, as it came from TOML, with the sums in its texts replaced by what they are.

    Raises ValueError with a sentence for a sum that is none, or names another counter.
    """
    if isinstance(value, str):
        return _fill_text(value, counters) if "{" in value else value
    if isinstance(value, list):
        return [fill(each, counters) for each in value]
    if isinstance(value, dict):
        return {fill(key, counters): fill(each, counters) for key, each in value.items()}
    return value


def varies(value: Any) -> bool:
    """Return whether :func:`fill` would change *value*."""
    if isinstance(value, str):
        return _FIELD.search(value) is not None
    if isinstance(value, list):
        return any(map(varies, value))
    return isinstance(value, dict) and any(varies(key) or varies(each) for key, each in value.items())


def _fill_text(text: str, counters: Counters) -> str:
    return "".join(
        part if isinstance(part, str) else format(_counted(part[0], counters), part[1]) for part in _parts(text)
    )


def _counted(total: Sum, counters: Counters) -> int:
    number = total(counters)
    if number.bit_length() > _MOST_BITS:
        raise ValueError(f"a sum comes to a number of {number.bit_length()} bits: at most {_MOST_BITS} are of use")
    return number


@lru_cache(maxsize=1024)
def _parts(text: str) -> list[str | tuple[Sum, str]]:
    """Return the text as it is between sums, and the sums with their formats."""
    parts: list[str | tuple[Sum, str]] = []
    end = 0
    for found in _FIELD.finditer(text):
        parts += [text[end : found.start()], (_Parser(found[1]).parse(), found[2] or "")]
        end = found.end()
    return [*parts, text[end:]]


class _Parser:
    """Makes a function of a sum; ``*``, ``/`` and ``%`` go before ``+`` and ``-``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._rest: list[str] = []
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise self._error("numbers, counters, + - * / % and parentheses make a sum")
            self._rest.append(token[1])
            at = token.end()
        if len(self._rest) > _MOST_TOKENS:
            raise ValueError(f"a sum of {len(self._rest)} numbers and signs is too long: take at most {_MOST_TOKENS}")
        self._rest.reverse()

    def parse(self) -> Sum:
        """Return the function of the whole text."""
        result = self._sum(0)
        if self._rest:
            raise self._error(f"{self._rest[-1]} is too much")
        return result

    def _error(self, why: str) -> ValueError:
        return ValueError(f"{{{self._text}}} is no sum: {why}; write \\x7b for a brace that begins none")

    def _next(self) -> str:
        return self._rest[-1] if self._rest else ""

    def _sum(self, depth: int) -> Sum:
        left = self._product(depth)
        while self._next() in ("+", "-"):
            left = self._joined(self._rest.pop(), left, self._product(depth))
        return left

    def _product(self, depth: int) -> Sum:
        left = self._atom(depth)
        while self._next() in ("*", "/", "%"):
            left = self._joined(self._rest.pop(), left, self._atom(depth))
        return left

    def _atom(self, depth: int) -> Sum:
        token = self._rest.pop() if self._rest else ""
        if token == "(" and depth < _DEEPEST:  # noqa: S105
            inner = self._sum(depth + 1)
            if not self._rest or self._rest.pop() != ")":
                raise self._error("a parenthesis is not closed")
            return inner
        if token[:1].isdigit():
            number = parse_size(token)
            return lambda _: number
        if not COUNTER.fullmatch(token):
            raise self._error("a number or counter is missing")
        return lambda counters: self._value(counters, token)

    def _value(self, counters: Counters, name: str) -> int:
        if name not in counters:
            known = f"there is {', '.join(counters)}" if counters else "nothing is repeated here"
            raise self._error(f"{name} is no counter ({known})")
        return counters[name]

    def _joined(self, operator: str, left: Sum, right: Sum) -> Sum:
        if operator == "+":
            return lambda counters: left(counters) + right(counters)
        if operator == "-":
            return lambda counters: left(counters) - right(counters)
        if operator == "*":
            return lambda counters: left(counters) * right(counters)

        def divide(counters: Counters) -> int:
            divisor = right(counters)
            if not divisor:
                raise self._error("it divides by 0")
            return left(counters) // divisor if operator == "/" else left(counters) % divisor

        return divide

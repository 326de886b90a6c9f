"""Where the values of a TOML document stand: tomllib gives values only, and an error should name a line."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]  #: keys and indices that lead from the document to a value

# No group is repeated possessively: Python 3.11 before 3.11.5 errs there (gh-106052). None of these backtracks far.
_BLANK = re.compile(r"[ \t\n]*+(?:#[^\n]*+[ \t\n]*+)*")
_KEY = re.compile(r"""[\w-]++|"[^"\\]*+(?:\\.[^"\\]*+)*"|'[^']*+'""")
_DOT = re.compile(r"[ \t]*+\.[ \t]*+")
_STRING = re.compile(
    r'"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*"{3,5}'  # up to two quotes may stand before the three that end it
    r"|'''[^']*+(?:'(?!'')[^']*+)*'{3,5}"
    r'|"[^"\\]*+(?:\\.[^"\\]*+)*"'
    r"|'[^']*+'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]++")


class Lines:
    """The lines of a document, *text* that tomllib has parsed, found out when somebody asks for one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: dict[Path, int] | None = None

    def __call__(self, path: Path) -> int:
        """Return the line of what *path* leads to, or of the nearest around it that stands in the document."""
        if self._lines is None:
            self._lines = lines_of(self._text)
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table, array and value of *text*, which tomllib has parsed.

    A table or key that is named several times has the line of its first; an array of tables that of its first entry.
    """
    return _Scanner(text.replace("\r\n", "\n")).run()


class _Scanner:
    """Goes over a document that is known to be TOML, so it need not ask what follows what."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._entries: dict[Path, int] = {}  # of an array of tables: how many there are so far
        self._lines: dict[Path, int] = {(): 1}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        self._skip_blank()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip_blank()
        return self._lines

    def _skip_blank(self) -> None:
        self._at = self._match(_BLANK, self._at)

    def _match(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self._text, at)
        if found is None:
            raise ValueError(f"no TOML at character {at}")
        return found.end()

    def _note(self, path: Path, at: int) -> None:
        if path not in self._lines:
            self._lines[path] = bisect_right(self._starts, at)

    def _header(self) -> Path:
        """Read ``[a.b]`` or ``[[a.b]]``; return the path of the table it begins."""
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        self._skip_blank()
        keys = self._keys()
        self._at = self._text.index("]", self._at) + (2 if is_array else 1)
        path: Path = ()
        for number, key in enumerate(keys, 1):
            path = (*path, key)
            self._note(path, start)
            if is_array and number == len(keys):
                self._entries[path] = self._entries.get(path, 0) + 1
            if path in self._entries:
                path = (*path, self._entries[path] - 1)
                self._note(path, start)
        return path

    def _keys(self) -> list[str]:
        keys = []
        while True:
            end = self._match(_KEY, self._at)
            part = self._text[self._at : end]
            keys.append(tomllib.loads(f"key = {part}")["key"] if part[0] in "\"'" else part)
            self._at = end
            dot = _DOT.match(self._text, self._at)
            if dot is None:
                return keys
            self._at = dot.end()

    def _pair(self, table: Path) -> None:
        """Read ``a.b = value`` in *table*."""
        start = self._at
        keys = self._keys()
        for count in range(1, len(keys) + 1):
            self._note((*table, *keys[:count]), start)
        self._at = self._text.index("=", self._at) + 1
        self._skip_blank()
        self._value((*table, *keys))

    def _value(self, path: Path) -> None:
        self._note(path, self._at)
        opening = self._text[self._at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._at = self._match(_STRING if opening in "\"'" else _SCALAR, self._at)

    def _array(self, path: Path) -> None:
        self._at += 1
        self._skip_blank()
        index = 0
        while self._text[self._at] != "]":
            self._value((*path, index))
            index += 1
            self._skip_separator()
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip_blank()
        while self._text[self._at] != "}":
            self._pair(path)
            self._skip_separator()
        self._at += 1

    def _skip_separator(self) -> None:
        self._skip_blank()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip_blank()

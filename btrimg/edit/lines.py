"""Lines of a shell taken apart into words, whole ones and ones that are being typed."""

from __future__ import annotations

from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-[]^~*")


class Word(NamedTuple):
    """A word of a line."""

    text: str
    start: int  #: of it in the line, with its quotes
    quote: str  #: the quote that is open at its end


def split_words(line: str) -> list[Word]:
    """Return the words of *line*: quotes and backslashes as in a POSIX shell, # begins a comment, no expansion."""
    words: list[Word] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
        elif line[at] == "#":
            break
        else:
            word, at = _word(line, at)
            words.append(word)
    return words


def _word(line: str, start: int) -> tuple[Word, int]:
    text: list[str] = []
    quote, at = "", start
    while at < len(line) and (quote or not line[at].isspace()):
        letter = line[at]
        at += 1
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        elif letter == "\\" and quote != "'" and at < len(line) and (not quote or line[at] in '"\\'):
            text.append(line[at])
            at += 1
        else:
            text.append(letter)
    return Word("".join(text), start, quote), at


def whole_words(line: str) -> list[str]:
    """Return the words of *line*; raise BtrimgError when a quote is not closed."""
    words = split_words(line)
    if words and words[-1].quote:
        raise BtrimgError(f"a {words[-1].quote} is not closed")
    return [word.text for word in words]


def quoted(text: str, *, closed: bool = True) -> str:
    """Return *text* as one word of a line; unless *closed*, so that more can be typed behind it."""
    if text and _PLAIN.issuperset(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'" * closed

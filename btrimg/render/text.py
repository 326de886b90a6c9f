"""Text for people: names that are safe to print, aligned tables, times."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from btrimg.ondisk.inodes import Timespec


def printable(name: bytes) -> str:
    """Return *name* with control characters, bytes that are not UTF-8 and backslashes escaped as in C."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape, text))


_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))


def table(header: Sequence[str], rows: Iterable[Sequence[object]], left: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield the lines of a table; columns are right-aligned, those in *left* (indexes) left-aligned.

    Holds all rows in memory: for the answers to one question, not for whole images.
    """
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def utc(time: Timespec) -> str:
    """Return a time in UTC with all nanoseconds (``2026-01-02 03:04:05.000000006Z``), whatever the year."""
    days, seconds = divmod(time.sec, 86400)
    year, month, day = _civil(days)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{year:04}-{month:02}-{day:02} {clock}.{time.nsec:09}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """Return the Gregorian date *days* after 1970-01-01; datetime ends at year 9999, inode times do not."""
    era, day_of_era = divmod(days + 719468, 146097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153  # months counted from March
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1

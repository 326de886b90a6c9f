"""Where in the bytes of a structure each of its fields stands, by the Record's declaration.

A path is ``name``, ``name[2]``, ``[1]``, ``name[4:8]``, joined by dots: ``stripes[1].offset``. A field is read and
written by its bytes, so that what a path does not name stays as it is, whatever it is.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.record import split_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.ondisk.record import Record

END = "+"  #: as an index: behind the last element

_STEP = re.compile(
    r"(?P<name>(?:^|(?<=\.))\w+)|\[(?P<index>-?\d+|\+)\]|\[(?P<first>-?\w*):(?P<last>-?\w*)\]|(?P<dot>(?<=[\w\]])\.(?=\w))"
)


class Step(NamedTuple):
    """One step of a path: into a field, to an element, or to some of the bytes."""

    name: str | None = None
    at: int | str | None = None  #: number of an element, or END
    piece: tuple[int | None, int | None] | None = None  #: bounds of bytes, as of a slice


class Counter(NamedTuple):
    """The integer that counts what a span holds."""

    start: int
    letter: str
    unit: int  #: bytes of one of what is counted


class Span(NamedTuple):
    """Bytes that hold a field, from *start* of the whole."""

    start: int
    size: int
    letter: str | None  #: of the struct module for an integer
    record: type[Record] | None  #: for a structure
    counter: Counter | None = None  #: for what may grow and shrink
    elastic: bool = False  #: whether its size may change

    @property
    def end(self) -> int:
        """Return where the next byte stands."""
        return self.start + self.size


def parse_path(text: str) -> tuple[Step, ...]:
    """Return the steps of a path; raise ValueError with a sentence when it is none."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ValueError(f"{text!r} is no path of a field; write one as name, name[0].name, name[4:8]")
        at = found.end()
        if found["name"]:
            steps.append(Step(name=found["name"]))
        elif found["index"]:
            steps.append(Step(at=END if found["index"] == END else int(found["index"])))
        elif found["dot"] is None:
            try:
                bounds = [int(found[side], 0) if found[side] else None for side in ("first", "last")]
            except ValueError:
                raise ValueError(f"{text!r} is no path of a field: bounds of bytes are numbers") from None
            steps.append(Step(piece=(bounds[0], bounds[1])))
    return tuple(steps)


def find_span(record: type[Record], data: bytes, start: int, steps: Sequence[Step]) -> Span:
    """Return where *steps* lead in the *record* that starts at *start* of *data*.

    Raises NotFoundError when they lead nowhere.
    """
    if not steps:
        return Span(start, size_at(record, data, start), None, record)
    name = steps[0].name
    if name is None or name not in record.names():
        raise NotFoundError(
            f"{record.__name__} has no field {name or 'by a number'}; it has {', '.join(record.names())}"
        )
    return _within(_field(record, data, start, name), data, steps[1:], f"{record.__name__}.{name}")


def size_at(record: type[Record], data: bytes, start: int) -> int:
    """Return how many of the bytes from *start* on the *record* takes; at most those there are."""
    if not record.TAIL:
        return min(record.SIZE, len(data) - start)
    return _field(record, data, start, record.names()[-1]).end - start


def _field(record: type[Record], data: bytes, start: int, wanted: str) -> _Field:
    at = start
    letters: dict[str, tuple[int, str]] = {}
    for name, code in record.FIELDS:
        count, element, inner = split_code(code)
        unit = inner.SIZE if inner else struct.calcsize("<" + element)
        size = unit * (count or 1)
        if name == wanted:
            return _Field(at, size, unit, element, inner, count, None)
        letters[name] = (at, element)
        at += size
    for name, code in record.TAIL:
        counted_by, _, element = code[1:].partition("*")
        _, _, inner = split_code(element)
        unit = inner.SIZE if inner else 1
        counter = Counter(*letters[counted_by], unit) if counted_by else None
        size = read_integer(data, counter.start, counter.letter) * unit if counter else len(data) - at
        size = max(min(size, len(data) - at), 0)
        if name == wanted:
            return _Field(at, size, unit, element, inner, -1, counter)
        at += size
    raise NotFoundError(f"{record.__name__} has no field {wanted}")


class _Field(NamedTuple):
    start: int
    size: int
    unit: int  # bytes of one element
    element: str
    inner: type[Record] | None
    times: int  # of a fixed array; 0: no array, -1: it varies
    counter: Counter | None

    @property
    def end(self) -> int:
        return self.start + self.size


def _within(field: _Field, data: bytes, steps: Sequence[Step], what: str) -> Span:
    is_array = field.times > 0 or (field.times < 0 and field.inner is not None)
    is_bytes = not field.inner and (field.times < 0 or field.element.endswith("s"))
    if not steps:
        plain = not is_array and not is_bytes
        letter = field.element if plain and not field.inner else None
        inner = field.inner if not is_array else None
        return Span(field.start, field.size, letter, inner, field.counter, field.times < 0)
    index, piece = steps[0].at, steps[0].piece
    if is_array and index is not None:
        return _element(field, data, index, steps[1:], what)
    if field.inner and not is_array:
        return find_span(field.inner, data, field.start, steps)
    if is_bytes and len(steps) == 1 and (index is not None or piece):
        return sliced(Span(field.start, field.size, None, None), steps[0], what)
    raise NotFoundError(
        f"{what} is {'an array' if is_array else 'bytes' if is_bytes else 'a number'}: no way on from there"
    )


def _element(field: _Field, data: bytes, index: int | str, rest: Sequence[Step], what: str) -> Span:
    count = field.size // field.unit
    if index == END and field.times < 0 and not rest:
        return Span(field.end, 0, None, None, field.counter, elastic=True)
    if not isinstance(index, int) or not -count <= index < count:
        raise NotFoundError(f"{what} has {count} elements, no [{index}]")
    start = field.start + index % count * field.unit
    if field.inner and rest:
        return find_span(field.inner, data, start, rest)
    if rest:
        raise NotFoundError(f"{what} holds numbers: no way on from there")
    if field.inner:
        return Span(start, field.unit, None, field.inner, field.counter, field.times < 0)
    return Span(start, field.unit, field.element, None)


def sliced(span: Span, step: Step, what: str) -> Span:
    """Return the part of a *span* of bytes that *step* names: a byte as an integer, or a slice.

    Raises NotFoundError when it lies outside.
    """
    if isinstance(step.at, int) and -span.size <= step.at < span.size:
        return Span(span.start + step.at % span.size, 1, "B", None)
    if step.piece:
        first, last, _ = slice(*step.piece).indices(span.size)
        asked = [bound for bound in step.piece if bound is not None]
        if first <= last and all(-span.size <= bound <= span.size for bound in asked):
            return Span(span.start + first, last - first, None, None)
    raise NotFoundError(f"{what} has {span.size} bytes, not those")


def read_integer(data: bytes, start: int, letter: str) -> int:
    """Return the integer at *start*; what lies past the end of *data* reads as zeros."""
    size = struct.calcsize("<" + letter)
    value: int = struct.unpack("<" + letter, data[start : start + size].ljust(size, b"\0"))[0]
    return value


def bits_of(letter: str) -> int:
    """Return how many bits an integer has."""
    return 8 * struct.calcsize("<" + letter)


def pack_integer(value: int, letter: str) -> bytes:
    """Return *value*, taken modulo its range, as bytes."""
    size = struct.calcsize("<" + letter)
    return (value % (1 << 8 * size)).to_bytes(size, "little")

"""One declaration per structure: an annotated class body, and what is derived from it.

A :class:`Record` states the layout of one on-disk structure. Derived from it, written once here:

* ``con()``: the construct format, the readable truth that parses, builds and documents;
* ``unpack`` / ``pack``: one ``struct.Struct``, 100 times faster than construct;
* ``dtype()``: a numpy dtype of the fixed part, for tables of many.

construct takes 31 ms to import, three times a bare interpreter, so the classes of this package do not evaluate
their annotations: ``generated.LAYOUTS`` keeps, for each of them, the field codes that the annotations mean
(``python -m btrimg.ondisk.generate`` writes it, a test fails when it is stale). The layout of a class that is not
there, or that another package declares, is derived at once.

Field codes: a ``struct`` letter (``Q``, ``16s``), the name of a nested Record, ``N*CODE`` for a fixed array; then,
only at the end of a structure, ``<FIELD`` for bytes counted by an earlier field, ``<FIELD*RECORD`` for that many
records, and ``<`` for all that is left.
"""

from __future__ import annotations

import struct
from functools import cache, partial

from btrimg.errors import CorruptError
from btrimg.named import field_at
from btrimg.ondisk.generated import LAYOUTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar, Self, TypeAlias, dataclass_transform

    import numpy as np

    Con: TypeAlias = Any  # a construct format; construct is not typed
    Value: TypeAlias = Any  # of a field: int, bytes, a Record, or a tuple of them
    Buffer = bytes | bytearray | memoryview
    Layout = tuple[tuple[str, str], ...]
    # How values of STRUCT become fields: those in the slice as they are, or what the function makes of them.
    Part = tuple[slice, Callable[[tuple[Any, ...]], tuple[Any, ...]] | None]
    # A field of varying length: its name, the index of the field that counts it, the Record it repeats.
    Tail = tuple[str, int | None, "type[Record] | None"]

    @dataclass_transform(frozen_default=True)
    class _Tuple:
        """What a Record promises of being a tuple: ``index`` and ``count`` are fields on disk."""

        def __iter__(self) -> Iterator[Any]: ...
        def __getitem__(self, index: int) -> Any: ...
        def __len__(self) -> int: ...

else:
    _Tuple = tuple

_new: Any = tuple.__new__
_CLASSES: dict[str, type[Record]] = {}


class Record(_Tuple):
    """A frozen value of one on-disk structure; integers are raw, so that unknown bits survive a round trip.

    Subclasses annotate their fields in disk order and nothing else. Records compare, hash and sort as tuples of
    their fields. Class attributes are upper case because fields on disk are called ``size`` and ``flags``.
    """

    __slots__ = ()

    SIZE: ClassVar[int]  #: bytes of the fixed part
    FIELDS: ClassVar[Layout]  #: (name, code) of the fixed part
    TAIL: ClassVar[Layout]  #: (name, code) of what varies in length
    STRUCT: ClassVar[struct.Struct]  #: of the fixed part, nested records flattened
    _NAMES: ClassVar[tuple[str, ...]]
    _PARTS: ClassVar[tuple[Part, ...]]  # empty where the values of STRUCT are the fields
    _TAIL: ClassVar[tuple[Tail, ...]]

    def __init_subclass__(cls) -> None:
        if cls.__name__ in _CLASSES:
            raise TypeError(f"there is another Record called {cls.__name__}")
        ours = cls.__module__.startswith("btrimg.ondisk.")
        fields = (LAYOUTS.get(cls.__name__) if ours else None) or derive_layout(cls)
        _CLASSES[cls.__name__] = cls
        cls.FIELDS = tuple(field for field in fields if not field[1].startswith("<"))
        cls.TAIL = fields[len(cls.FIELDS) :]
        cls.STRUCT = struct.Struct("<" + "".join(_format_of(code) for _, code in cls.FIELDS))
        cls.SIZE = cls.STRUCT.size
        cls._NAMES = tuple(name for name, _ in fields)
        cls._PARTS = _parts_of(cls.FIELDS)
        cls._TAIL = tuple(_tail_of(cls._NAMES, name, code) for name, code in cls.TAIL)
        for index, name in enumerate(cls._NAMES):
            setattr(cls, name, field_at(index, None))

    def __new__(cls, *values: Value, **named: Value) -> Self:
        """Make a record from its fields in order, or by name."""
        if named:
            values += tuple(named.pop(name) for name in cls._NAMES[len(values) :] if name in named)
        if named or len(values) != len(cls._NAMES):
            raise TypeError(f"{cls.__name__} takes {', '.join(cls._NAMES)}")
        record: Self = _new(cls, values)
        return record

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all fields in disk order."""
        return cls._NAMES

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        """Return the record that starts at *offset* of *data*.

        Raises CorruptError when *data* ends inside it.
        """
        end = offset + cls.SIZE
        if end > len(data):
            left = max(len(data) - offset, 0)
            raise CorruptError(f"{cls.__name__} takes {cls.SIZE} bytes, {left} are left at offset {offset}")
        flat = cls.STRUCT.unpack_from(data, offset)
        record: Self = cls._nest(flat) if cls._PARTS else _new(cls, flat)
        if cls._TAIL:
            record = _new(cls, (*record, *cls._unpack_tail(record, data, end)))
        return record

    @classmethod
    def _nest(cls, flat: tuple[Any, ...]) -> Any:
        """Return the fixed part: a whole record where no tail follows."""
        if not cls._PARTS:
            return _new(cls, flat)
        values: list[Any] = []
        for where, make in cls._PARTS:
            if make:
                values.append(make(flat[where]))
            else:
                values += flat[where]
        return _new(cls, values)

    @classmethod
    def _unpack_tail(cls, head: Record, data: Buffer, offset: int) -> Iterator[Value]:
        for name, counter, record in cls._TAIL:
            left = max(len(data) - offset, 0)
            count = left if counter is None else head[counter]
            size = count * record.SIZE if record else count
            if size > left:
                raise CorruptError(f"{cls.__name__}.{name} takes {size} bytes, {left} are left")
            if record:
                yield tuple(record.unpack(data, at) for at in range(offset, offset + size, record.SIZE))
            else:
                yield bytes(data[offset : offset + size])
            offset += size

    def pack(self) -> bytes:
        """Return the bytes on disk; ``unpack`` of them is equal to this record, and the other way round.

        Raises ValueError when a field is not as long as the field that counts it says.
        """
        if not self._PARTS and not self._TAIL:
            return self.STRUCT.pack(*self)
        values = tuple(self)
        fixed = len(self.FIELDS)
        parts = [self.STRUCT.pack(*_flatten(values[:fixed], []))]
        for (name, counter, record), value in zip(self._TAIL, values[fixed:], strict=True):
            if counter is not None and len(value) != values[counter]:
                says = f"{self._NAMES[counter]} says {values[counter]}"
                raise ValueError(f"{type(self).__name__}.{name} is {len(value)} long, {says}")
            parts += [element.pack() for element in value] if record else [value]
        return b"".join(parts)

    def packed_size(self) -> int:
        """Return the number of bytes that ``pack`` gives."""
        return self.SIZE + sum(
            len(value) * (record.SIZE if record else 1)
            for (_, _, record), value in zip(self._TAIL, tuple(self)[len(self.FIELDS) :], strict=True)
        )

    def replace(self, **changes: Value) -> Self:
        """Return a copy with some fields changed."""
        return type(self)(**{**self.asdict(), **changes})

    @classmethod
    def patch(cls, payload: Buffer, **changes: Value) -> bytes:
        """Return *payload*, at whose start this record stands, with some fields of its fixed part overwritten.

        That is ``unpack``, ``replace`` and ``pack`` at a tenth of the cost, and keeps whatever follows. Raises
        CorruptError when *payload* ends inside the fixed part.
        """
        if len(payload) < cls.SIZE:
            raise CorruptError(f"{cls.__name__} takes {cls.SIZE} bytes, there are {len(payload)}")
        places = cls.places()
        flat = list(cls.STRUCT.unpack_from(payload))
        for name, value in changes.items():
            flat[places[name]] = _flatten(value, []) if isinstance(value, tuple) else (value,)
        return cls.STRUCT.pack(*flat) + bytes(payload[cls.SIZE :])

    @classmethod
    def places(cls) -> dict[str, slice]:
        """Return where the values of every field of the fixed part stand among those of STRUCT."""
        return _places_of(cls.__name__)

    def asdict(self) -> dict[str, Value]:
        """Return the fields by name; nested records stay records."""
        return dict(zip(self._NAMES, self, strict=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.asdict().items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self)

    @classmethod
    def con(cls) -> Con:
        """Return the construct format that parses to and builds from this class."""
        return _construct_of(cls.__name__)

    @classmethod
    def dtype(cls) -> np.dtype[np.void]:
        """Return the packed little-endian numpy dtype of the fixed part; bytes are void: NULs stay."""
        return _dtype_of(cls.__name__)


def split_code(code: str) -> tuple[int, str, type[Record] | None]:
    """Return how many elements a fixed field has (0: not an array), and the code and Record of one."""
    count, star, element = code.rpartition("*")
    return (int(count) if star else 0), element, _CLASSES.get(element)


def _format_of(code: str) -> str:
    if len(code) == 1:
        return code
    count, element, record = split_code(code)
    return (record.STRUCT.format[1:] if record else element) * (count or 1)


def _parts_of(fields: Layout) -> tuple[Part, ...]:
    if not any("*" in code or code in _CLASSES for _, code in fields):
        return ()
    parts: list[Part] = []
    start = 0
    for _, code in fields:
        count, _, record = split_code(code)
        end = start + _width_of(code)
        width = (end - start) // (count or 1)
        make = partial(_nest_all, record, width) if record and count else record._nest if record else tuple
        if record or count:
            parts.append((slice(start, end), make))
        elif parts and parts[-1][1] is None:
            parts[-1] = (slice(parts[-1][0].start, end), None)
        else:
            parts.append((slice(start, end), None))
        start = end
    return tuple(parts)


@cache
def _places_of(name: str) -> dict[str, slice]:
    places, start = {}, 0
    for field, code in _CLASSES[name].FIELDS:
        end = start + _width_of(code)
        places[field] = slice(start, end)
        start = end
    return places


def _width_of(code: str) -> int:
    """Return how many values of a STRUCT a field takes."""
    count, _, record = split_code(code)
    return (len(record.STRUCT.unpack(bytes(record.SIZE))) if record else 1) * (count or 1)


def _nest_all(record: type[Record], width: int, flat: tuple[Any, ...]) -> tuple[Record, ...]:
    return tuple(record._nest(flat[at : at + width]) for at in range(0, len(flat), width))


def _flatten(values: tuple[Any, ...], into: list[Any]) -> list[Any]:
    for value in values:
        if isinstance(value, tuple):
            _flatten(value, into)
        else:
            into.append(value)
    return into


def _tail_of(names: tuple[str, ...], name: str, code: str) -> Tail:
    counter, _, element = code[1:].partition("*")
    return name, (names.index(counter) if counter else None), _CLASSES.get(element)


def derive_layout(cls: type[Record]) -> Layout:
    """Return (name, code) of every field by evaluating the annotations of *cls*; imports construct."""
    from btrimg.ondisk import fields

    return tuple((name, fields.code_of(con)) for name, con in fields.formats(cls).items())


@cache
def _construct_of(name: str) -> Con:
    from btrimg.ondisk import fields

    return fields.construct_of(_CLASSES[name])


@cache
def _dtype_of(name: str) -> np.dtype[np.void]:
    import numpy as np

    columns: list[tuple[str, Any] | tuple[str, Any, int]] = []
    for field, code in _CLASSES[name].FIELDS:
        count, element, record = split_code(code)
        if record:
            kind: Any = record.dtype()
        elif element.endswith("s"):
            kind = f"V{element[:-1]}"
        else:
            kind = f"<{'u' if element.isupper() else 'i'}{struct.calcsize('<' + element)}"
        columns.append((field, kind, count) if count else (field, kind))
    return np.dtype(columns)

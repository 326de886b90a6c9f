"""What the annotations of a Record may say, in construct; only :mod:`record` imports this, and only when asked.

An annotation is ``Annotated[python type, construct format]``, or the class of a nested Record.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Annotated, Any, get_origin

from construct import (
    Adapter,
    Array,
    Bytes,
    FormatField,
    GreedyBytes,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Struct,
)

if TYPE_CHECKING:
    from btrimg.ondisk.record import Con, Record, Value

U8 = Annotated[int, Int8ul]
U16 = Annotated[int, Int16ul]
U32 = Annotated[int, Int32ul]
U64 = Annotated[int, Int64ul]
S32 = Annotated[int, Int32sl]
S64 = Annotated[int, Int64sl]
Uuid = Annotated[bytes, Bytes(16)]
Csum = Annotated[bytes, Bytes(32)]
Rest = Annotated[bytes, GreedyBytes]  #: all that is left of the item

_LETTERS = {Int8ul: "B", Int16ul: "H", Int32ul: "I", Int32sl: "i", Int64ul: "Q", Int64sl: "q"}


def counted(field: str, element: type[Record] | None = None) -> Con:
    """Return the format of bytes, or of *element* records, whose number an earlier *field* holds."""
    con = Array(lambda ctx: ctx[field], element.con()) if element else Bytes(lambda ctx: ctx[field])
    con.code = f"<{field}*{element.__name__}" if element else f"<{field}"
    return con


def times(count: int, element: Any) -> Con:  # an annotation
    """Return the format of a fixed array of *count* records, or of values of an annotated type."""
    return Array(count, _format(element))


def _format(annotation: Any) -> Con:
    return annotation.__metadata__[0] if get_origin(annotation) is Annotated else annotation.con()


def formats(cls: type[Record]) -> dict[str, Con]:
    """Return the construct format of every field of *cls*, in disk order."""
    names = {**globals(), **vars(sys.modules[cls.__module__])}
    # Without the class's own names: a field called bytes is not the type bytes.
    annotations = inspect.get_annotations(cls, globals=names, locals={}, eval_str=True)
    return {name: _format(annotation) for name, annotation in annotations.items()}


def code_of(con: Con) -> str:
    """Return the field code (see :mod:`record`) of a construct format."""
    match con:
        case _RecordAdapter():
            return con.record.__name__
        case FormatField():
            return _LETTERS[con]
        case Array() | Bytes() if hasattr(con, "code"):
            return str(con.code)
        case Array():
            return f"{con.count}*{code_of(con.subcon)}"
        case Bytes():
            return f"{con.length}s"
        case _ if con is GreedyBytes:
            return "<"
        case _:
            raise TypeError(f"no field code for {con!r}")


class _RecordAdapter(Adapter):  # type: ignore[misc]  # construct is not typed
    """Turn the containers of a construct Struct into records and back."""

    def __init__(self, record: type[Record], subcon: Con) -> None:
        super().__init__(subcon)
        self.record = record

    def _decode(self, obj: Any, _context: object, _path: object) -> Record:
        values = (obj[name] for name in self.record.names())
        return self.record(*(tuple(v) if isinstance(v, list) else v for v in values))

    def _encode(self, obj: Record, _context: object, _path: object) -> dict[str, Value]:
        return obj.asdict()


def construct_of(cls: type[Record]) -> Con:
    """Return the construct format of *cls*."""
    return _RecordAdapter(cls, Struct(*(name / con for name, con in formats(cls).items())))

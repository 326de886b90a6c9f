"""Columns of numpy handed to DuckDB in batches and without copying: the Arrow C stream interface, by ctypes.

DuckDB takes any object with ``__arrow_c_stream__`` and asks for one batch after the other, so that a relation need
never be whole in memory; pyarrow is not needed. The structures and the protocol are those of
https://arrow.apache.org/docs/format/CStreamInterface.html: a batch stays ours until DuckDB calls its ``release``.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, py_object, pythonapi
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.strings import Strings
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.tables.relation import Column

    Values = NDArray[Any] | Strings  #: of a column; text in UTF-8, of a column with words the indexes of these
    Batch = Sequence[Values]  # one for each column, all of one length

_FORMATS = {
    "u8": b"L",
    "u4": b"I",
    "u2": b"S",
    "u1": b"C",
    "i8": b"l",
    "?": b"b",  # bits
    "text": b"U",  # 64-bit offsets, UTF-8
    "bytes": b"Z",  # 64-bit offsets
}


class _Schema(Structure):
    """``struct ArrowSchema``."""


class _Array(Structure):
    """``struct ArrowArray``."""


class _Stream(Structure):
    """``struct ArrowArrayStream``."""


_ReleaseSchema = CFUNCTYPE(None, POINTER(_Schema))
_ReleaseArray = CFUNCTYPE(None, POINTER(_Array))
_ReleaseStream = CFUNCTYPE(None, POINTER(_Stream))
_GetSchema = CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Schema))
_GetNext = CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Array))
_GetLastError = CFUNCTYPE(c_void_p, POINTER(_Stream))

_Schema._fields_ = [
    ("format", c_char_p),
    ("name", c_char_p),
    ("metadata", c_char_p),
    ("flags", c_int64),
    ("n_children", c_int64),
    ("children", POINTER(POINTER(_Schema))),
    ("dictionary", POINTER(_Schema)),
    ("release", _ReleaseSchema),
    ("private_data", c_void_p),
]
_Array._fields_ = [
    ("length", c_int64),
    ("null_count", c_int64),
    ("offset", c_int64),
    ("n_buffers", c_int64),
    ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)),
    ("children", POINTER(POINTER(_Array))),
    ("dictionary", POINTER(_Array)),
    ("release", _ReleaseArray),
    ("private_data", c_void_p),
]
_Stream._fields_ = [
    ("get_schema", _GetSchema),
    ("get_next", _GetNext),
    ("get_last_error", _GetLastError),
    ("release", _ReleaseStream),
    ("private_data", c_void_p),
]

_NAME = b"arrow_array_stream"  # of a capsule with a stream
_Destroy = CFUNCTYPE(None, c_void_p)
_new_capsule, _pointer_in = pythonapi.PyCapsule_New, pythonapi.PyCapsule_GetPointer
_new_capsule.restype, _new_capsule.argtypes = py_object, (c_void_p, c_char_p, _Destroy)
_pointer_in.restype, _pointer_in.argtypes = c_void_p, (c_void_p, c_char_p)


class _Given(NamedTuple):
    """What DuckDB holds of ours until it releases it."""

    kept: Any  #: that must stay in memory
    below: Sequence[Any] = ()  #: structures that are released with it: children and dictionary


_given: dict[int, _Given] = {}  # by private_data
_numbers = count(1)


def _give(kept: Any, below: Sequence[Any] = ()) -> int:
    number = next(_numbers)
    _given[number] = _Given(kept, below)
    return number


def _taken_back(structure: Any) -> None:
    given = _given.pop(structure.private_data)
    for each in given.below:
        if each.release:  # else DuckDB moved it elsewhere, to release it there
            each.release(byref(each))


def _release(structure: Any) -> None:
    _taken_back(structure.contents)
    structure.contents.release = type(structure.contents.release)()  # NULL says that it is done


_capsules: dict[int, _Stream] = {}  # what is in them, by address


def _destroy_capsule(capsule: int) -> None:
    stream = _capsules.pop(_pointer_in(capsule, _NAME))
    if stream.release:  # else it was moved to where it is read
        stream.release(byref(stream))


class ArrowRows:
    """Rows that DuckDB can scan as often as it likes: *batches* makes them anew each time.

    What *batches* raises ends the query and is kept in *failure*.
    """

    def __init__(self, columns: Sequence[Column], batches: Callable[[], Iterable[Batch]]) -> None:
        self._columns, self._batches = columns, batches
        self.failure: BaseException | None = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a capsule with a stream of all rows, as the PyCapsule interface has it."""
        scan = _Scan(self, self._columns, iter(self._batches()))
        stream = _Stream(*_STREAM_CALLS, _give(scan))
        _capsules[ctypes.addressof(stream)] = stream
        return _new_capsule(ctypes.addressof(stream), _NAME, _DESTROY_CAPSULE)


class _Scan:
    """One scan of ArrowRows."""

    def __init__(self, rows: ArrowRows, columns: Sequence[Column], batches: Iterator[Batch]) -> None:
        self.rows, self.columns, self.batches = rows, columns, batches
        self.error = ctypes.create_string_buffer(b"")


def _scan(stream: Any) -> _Scan:
    scan: _Scan = _given[stream.contents.private_data].kept
    return scan


def _get_schema(stream: Any, out: Any) -> int:
    children = [_schema_of(column) for column in _scan(stream).columns]
    _fill_schema(out.contents, b"+s", b"", children)
    return 0


def _get_next(stream: Any, out: Any) -> int:
    scan = _scan(stream)
    try:
        batch = next(scan.batches, None)
        if batch is None:
            out.contents.release = _ReleaseArray()
        else:
            _fill_batch(out.contents, scan.columns, batch)
    except BaseException as error:  # an exception cannot pass through C: DuckDB gets its text, our caller the rest
        scan.rows.failure = error
        scan.error = ctypes.create_string_buffer(str(error).encode("utf-8", "backslashreplace"))
        return errno.EIO
    return 0


def _get_last_error(stream: Any) -> int:
    return ctypes.addressof(_scan(stream).error)


def _fill_schema(schema: Any, code: bytes, name: bytes, children: Sequence[Any] = (), words: Any = None) -> Any:
    below = [*children, *([words] if words else ())]
    pointers = (POINTER(_Schema) * len(children))(*map(ctypes.pointer, children))
    schema.format, schema.name, schema.metadata, schema.flags = code, name, None, 0
    schema.n_children, schema.children = len(children), pointers
    schema.dictionary = ctypes.pointer(words) if words else None
    schema.private_data, schema.release = _give((code, name, pointers), below), _RELEASE_SCHEMA
    return schema


def _schema_of(column: Column) -> Any:
    if not column.words:
        return _fill_schema(_Schema(), _FORMATS[column.type], column.name.encode())
    return _fill_schema(
        _Schema(), _FORMATS["u1"], column.name.encode(), words=_fill_schema(_Schema(), _FORMATS["text"], b"")
    )


def _fill_batch(array: Any, columns: Sequence[Column], batch: Batch) -> None:
    children = [_array_of(column, values) for column, values in zip(columns, batch, strict=True)]
    _fill_array(array, children[0].length, [], children)


def _array_of(column: Column, values: Values) -> Any:
    if isinstance(values, Strings):
        return _fill_array(_Array(), values.rows, [values.offsets, values.data])
    if column.words:
        words = _array_of(column._replace(words=()), strings.of_list([word.encode() for word in column.words]))
        return _fill_array(_Array(), len(values), [values.astype(np.uint8, copy=False)], words=words)
    plain = np.ascontiguousarray(values, column.type)
    return _fill_array(_Array(), len(values), [np.packbits(plain, bitorder="little") if column.type == "?" else plain])


def _fill_array(
    array: Any, rows: int, data: Sequence[NDArray[Any]], children: Sequence[Any] = (), words: Any = None
) -> Any:
    """Fill in an ArrowArray without NULLs: its first buffer, which would tell them, is not there."""
    below = [*children, *([words] if words else ())]
    pointers = (POINTER(_Array) * len(children))(*map(ctypes.pointer, children))
    buffers = (c_void_p * (1 + len(data)))(None, *(each.ctypes.data for each in data))
    array.length, array.null_count, array.offset = rows, 0, 0
    array.n_children, array.children = len(children), pointers
    array.n_buffers, array.buffers = len(buffers), buffers
    array.dictionary = ctypes.pointer(words) if words else None
    array.private_data, array.release = _give((data, pointers, buffers), below), _RELEASE_ARRAY
    return array


# What C calls; to be kept as long as it may.
_RELEASE_SCHEMA, _RELEASE_ARRAY = _ReleaseSchema(_release), _ReleaseArray(_release)
_STREAM_CALLS = _GetSchema(_get_schema), _GetNext(_get_next), _GetLastError(_get_last_error), _ReleaseStream(_release)
_DESTROY_CAPSULE = _Destroy(_destroy_capsule)

"""Single values of a recipe: from what TOML gives to bytes, numbers, times; each raises ValueError with a sentence."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone

from btrimg.build.values import Compression, Place
from btrimg.ondisk.constants import Compression as Algorithm
from btrimg.ondisk.constants import InodeFlag
from btrimg.ondisk.inodes import Timespec
from btrimg.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(\\)|)")
_DECIMAL = re.compile(r"(-?)(\d{1,19})(?:\.(\d{1,9}))?", re.ASCII)
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)
_PAIR = re.compile(r"(\d{1,10}):(\d{1,10})", re.ASCII)
_OWNER = re.compile(r"(\d{1,10})(?::(\d{1,10}))?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

_BILLION = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_NAME_MAX = 255  # bytes; BTRFS_NAME_LEN
_PATH = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[^/\0]{1,255})+")  # of names that can be
_MAX_SIZE = 1 << 63  # loff_t
_NO_ID = (1 << 32) - 1  # -1 means "leave it" to chown(2)
_LEVELS = {Algorithm.ZLIB: range(1, 10), Algorithm.ZSTD: range(-15, 16)}  # as ondisk.compression.compress

FLAGS = {
    "append": InodeFlag.APPEND,
    "immutable": InodeFlag.IMMUTABLE,
    "nodump": InodeFlag.NODUMP,
    "noatime": InodeFlag.NOATIME,
    "sync": InodeFlag.SYNC,
    "dirsync": InodeFlag.DIRSYNC,
    "nocompress": InodeFlag.NOCOMPRESS,
    "compress": InodeFlag.COMPRESS,
    "nodatacow": InodeFlag.NODATACOW | InodeFlag.NODATASUM,
    "nodatasum": InodeFlag.NODATASUM,
}


def _kind(value: object) -> str:
    """Return what TOML calls a value."""
    names = {bool: "a boolean", int: "an integer", float: "a float", str: "text", list: "an array", dict: "a table"}
    return names.get(type(value), "a date or time")


def read_string(value: Any) -> str:
    """Return a text as it stands."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_kind(value)}")
    return value


def read_bytes(value: Any) -> bytes:
    r"""Return the UTF-8 of a text, in which ``\xNN`` is a byte and ``\\`` a backslash."""
    text = read_string(value)
    if "\\" not in text:
        return text.encode()
    parts: list[bytes] = []
    end = 0
    for found in _ESCAPE.finditer(text):
        if not (found[1] or found[2]):
            wrong = text[found.start() : found.start() + 2]
            raise ValueError(f"{wrong} means nothing; write \\xNN for a byte and \\\\ for a backslash")
        parts += [text[end : found.start()].encode(), bytes.fromhex(found[1]) if found[1] else b"\\"]
        end = found.end()
    return b"".join((*parts, text[end:].encode()))


def read_hex(value: Any) -> bytes:
    """Return bytes written as hexadecimal digits, with blanks between them or not."""
    text = read_string(value)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("is not an even number of hexadecimal digits") from None


def read_boolean(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_kind(value)}")
    return value


def read_true(value: Any) -> bool:
    """Return true; the operation means nothing else."""
    if value is not True:
        raise ValueError("must be true")
    return True


def read_integer(value: Any) -> int:
    """Return an integer, which a counter gives as text."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,40}", value, re.ASCII):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be an integer, not {_kind(value)}")
    return value


def read_count(value: Any) -> int:
    """Return an integer above 0."""
    count = read_integer(value)
    if count < 1:
        raise ValueError(f"must be at least 1, not {count}")
    return count


def read_size(value: Any) -> int:
    """Return a number of bytes: an integer, or text with a unit."""
    size = parse_size(value) if isinstance(value, str) else read_integer(value)
    if not 0 <= size < _MAX_SIZE:
        raise ValueError(f"must be from 0 to 2^63 - 1, not {size}")
    return size


def read_length(value: Any) -> int:
    """Return a number of bytes above 0."""
    length = read_size(value)
    if not length:
        raise ValueError("must be above 0")
    return length


def read_name(name: bytes) -> bytes:
    """Return a single name of a directory's entry."""
    if name in (b"", b".", b".."):
        raise ValueError(f"{name.decode()!r} is no name in a path")
    if len(name) > _NAME_MAX:
        raise ValueError(f"a name of {len(name)} bytes is too long: take at most {_NAME_MAX}")
    if b"\0" in name:
        raise ValueError("a name cannot hold the byte 0")
    return name


def read_path(value: Any) -> bytes:
    """Return an absolute path from the top-level subvolume."""
    path = read_bytes(value)
    if not path.startswith(b"/"):
        raise ValueError("must begin with /: paths start at the top-level subvolume")
    if path != b"/" and not _PATH.fullmatch(path):  # else one of them is wrong
        for name in path[1:].split(b"/"):
            read_name(name)
    return path


def read_new_path(value: Any) -> bytes:
    """Return the path of something that is to be made, so not ``/``."""
    path = read_path(value)
    if path == b"/":
        raise ValueError("is there from the beginning; `set` changes its attributes")
    return path


def read_source(value: Any) -> bytes:
    """Return a path, or nothing for ``.``, the file itself."""
    return b"" if value == "." else read_path(value)


def read_host(value: Any) -> bytes:
    """Return a path on the host."""
    path = read_bytes(value)
    if not path or b"\0" in path:
        raise ValueError("must name a file of the host")
    return path


def read_target(value: Any) -> bytes:
    """Return what a symbolic link says."""
    target = read_bytes(value)
    if not target or b"\0" in target:
        raise ValueError("a symlink says something, and not the byte 0")
    return target


def read_time(value: Any) -> Timespec:
    """Return a time: seconds, text with up to nine decimals, or a date with an offset."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs an offset: 2024-02-29T12:00:00Z")
        if value.microsecond:
            raise ValueError('write a time with a fraction as text: "2024-02-29T12:00:00.123456789Z"')
        return _timespec(_seconds(value), 0)
    if isinstance(value, date | time):
        raise ValueError("a time has a date, a time of day and an offset: 2024-02-29T12:00:00Z")
    if isinstance(value, str):
        return _time_of_text(value)
    return _timespec(read_integer(value), 0)


def _time_of_text(text: str) -> Timespec:
    if found := _DECIMAL.fullmatch(text):
        nanoseconds = int(found[2]) * _BILLION + int((found[3] or "0").ljust(9, "0"))
        return _timespec(*divmod(-nanoseconds if found[1] else nanoseconds, _BILLION))
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time: write 1700000000.000000001 or 2024-02-29T12:00:00.123456789Z")
    offset = timedelta(hours=int(found[5] or 0), minutes=int(found[6] or 0))
    if offset >= _DAY:
        raise ValueError(f"{text!r} is no time: an offset is below 24 hours")
    try:
        zone = timezone(-offset if found[4] == "-" else offset)
        moment = datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=zone)
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: {error}") from None
    return _timespec(_seconds(moment), int((found[3] or "0").ljust(9, "0")))


def _seconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return since.days * 86400 + since.seconds


def _timespec(seconds: int, nanoseconds: int) -> Timespec:
    if not -_MAX_SIZE <= seconds < _MAX_SIZE:
        raise ValueError(f"{seconds} seconds are out of range")
    return Timespec(seconds, nanoseconds)


def read_uuid(value: Any) -> bytes:
    """Return the 16 bytes of a uuid."""
    text = read_string(value)
    if not _UUID.fullmatch(text):
        raise ValueError(f"{text!r} is no uuid: write 01234567-89ab-cdef-0123-456789abcdef")
    return bytes.fromhex(text.replace("-", ""))


def read_compression(value: Any) -> Compression:
    """Return an algorithm with its level: ``zstd``, ``zlib:9``, ``none``."""
    name, colon, level = read_string(value).partition(":")
    algorithms = {algorithm.name.lower(): algorithm for algorithm in Algorithm}
    if name not in algorithms:
        raise ValueError(f"{name!r} compresses nothing: take {', '.join(algorithms)}")
    algorithm = algorithms[name]
    if not colon:
        return Compression(algorithm)
    levels = _LEVELS.get(algorithm, range(0))
    if not levels:
        raise ValueError(f"{name} has no levels")
    if not re.fullmatch(r"-?\d{1,3}", level, re.ASCII) or int(level) not in levels:
        raise ValueError(f"{level!r} is no level of {name}: take {levels[0]} to {levels[-1]}")
    return Compression(algorithm, int(level))


def read_mode(value: Any) -> int:
    """Return permission bits: an integer, or octal digits as text."""
    if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,6}", value):
        value = int(value, 8)
    mode = read_integer(value)
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"must be from 0 to 0o7777, not {mode:#o}")
    return mode


def read_owner(value: Any) -> tuple[int, int]:
    """Return uid and gid: ``"1000:100"``, or one number for both."""
    if isinstance(value, str):
        found = _OWNER.fullmatch(value)
        if found is None:
            raise ValueError(f'{value!r} is no owner: write "UID:GID", in numbers')
        uid, gid = int(found[1]), int(found[2] or found[1])
    else:
        uid = gid = read_integer(value)
    if not (0 <= uid < _NO_ID and 0 <= gid < _NO_ID):
        raise ValueError(f"{uid}:{gid} is out of range: ids go from 0 to {_NO_ID - 1}")
    return uid, gid


def read_device_number(value: Any) -> tuple[int, int]:
    """Return major and minor of a device: ``"8:1"``; 12 and 20 bits, as in the kernel's dev_t."""
    found = _PAIR.fullmatch(read_string(value))
    if found is None or int(found[1]) >> 12 or int(found[2]) >> 20:
        raise ValueError(f'{value!r} is no device: write "MAJOR:MINOR", up to 4095:1048575')
    return int(found[1]), int(found[2])


def read_flags(value: Any) -> int:
    """Return the InodeFlag bits of a list of names."""
    flags = 0
    for name in read_strings(value):
        if name not in FLAGS:
            raise ValueError(f"{name!r} is no flag: there are {', '.join(FLAGS)}")
        flags |= FLAGS[name]
    return flags


def read_strings(value: Any) -> tuple[str, ...]:
    """Return a list of texts."""
    if not isinstance(value, list):
        raise ValueError(f"must be an array of texts, not {_kind(value)}")
    return tuple(map(read_string, value))


def read_patterns(value: Any) -> tuple[bytes, ...]:
    """Return patterns of names and paths."""
    return tuple(map(read_bytes, read_strings(value)))


def read_xattr_name(value: Any) -> bytes:
    """Return the name of an xattr."""
    name = read_bytes(value)
    if not 0 < len(name) <= _NAME_MAX or b"\0" in name:
        raise ValueError(f"the name of an xattr has 1 to {_NAME_MAX} bytes, none of them 0")
    return name


def read_xattr_names(value: Any) -> tuple[bytes, ...]:
    """Return a list of names of xattrs."""
    return tuple(map(read_xattr_name, read_strings(value)))


def read_seed(value: Any) -> bytes:
    """Return what uuids and random bytes come from: a number or text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    return read_bytes(value)


def read_place(value: Any) -> Place:
    """Return where data is to lie: a logical address, or ``{devid = 1, physical = "64M"}``."""
    if not isinstance(value, dict):
        return Place(read_size(value))
    if value.keys() != {"devid", "physical"}:
        raise ValueError('must be a logical address or {devid = 1, physical = "64M"}')
    return Place(read_size(value["physical"]), read_count(value["devid"]))

"""The verbs of recipes: which keys each takes, and what operation they make."""

from __future__ import annotations

import difflib
import stat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from btrimg.build import readers as read
from btrimg.build import values as made
from btrimg.build.values import Attributes, Content, Part, Storage
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from btrimg.build.values import Operation

    Reader = Callable[[Any], Any]
    Given = Mapping[str, Any]  # what was read, by key


class FaultError(ValueError):
    """Report a value that cannot be, and the keys and indices that lead to it."""

    def __init__(self, path: tuple[str | int, ...], sentence: str) -> None:
        super().__init__(sentence)
        self.path, self.sentence = path, sentence


class Verb(NamedTuple):
    """An operation."""

    subject: Reader  #: of the verb's own value
    keys: Mapping[str, Reader]
    make: Callable[[Any, Given], Operation]  #: of the subject and the values of the keys
    needed: tuple[str, ...] = ()


def read_table(value: Any, keys: Mapping[str, Reader], what: str) -> dict[str, Any]:
    """Return the values of a table of which *keys* are known; raise FaultError for others."""
    if not isinstance(value, dict):
        raise FaultError((), f"{what} must be a table")
    return {key: read_key(key, each, keys, what) for key, each in value.items()}


def read_key(key: str, value: Any, keys: Mapping[str, Reader], what: str) -> Any:
    """Return what *value* means as that key; raise FaultError."""
    if key not in keys:
        near = difflib.get_close_matches(key, keys, 1)
        known = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(keys)) or 'none'}"
        raise FaultError((key,), f"{key!r} is no key of {what}: {known}")
    try:
        return keys[key](value)
    except FaultError as error:
        raise FaultError((key, *error.path), f"{key}: {error.sentence}") from None
    except ValueError as error:
        raise FaultError((key,), f"{key}: {error}") from None


# Content

_SOURCES = {
    "text": read.read_bytes,
    "hex": read.read_hex,
    "host": read.read_host,
    "random": read.read_size,
    "pattern": read.read_bytes,
    "stamp": read.read_bytes,
    "zeros": read.read_size,
}
_LONGEST_PATTERN = 1024  # bytes; a stamp leaves room in its block
CONTENT: dict[str, Reader] = {
    **_SOURCES,
    "size": read.read_size,
    "skip": read.read_size,
    "content-seed": read.read_seed,
}


def content_of(given: Given, label: bytes = b"") -> Content | None:
    """Return the content that some keys say, None when none does; raise ValueError where they contradict each other.

    *label* tells random content apart from others of the same entry.
    """
    kinds = [key for key in _SOURCES if key in given]
    if len(kinds) > 1:
        raise ValueError(f"{kinds[0]} and {kinds[1]} exclude each other: content comes from one of them")
    kind = kinds[0] if kinds else ""
    for key, owner in (("skip", "host"), ("content-seed", "random")):
        if key in given and kind != owner:
            raise ValueError(f"{key} goes with {owner} only")
    if kind in ("text", "hex"):
        return Content("bytes", given[kind], len(given[kind]))
    if kind == "host":
        return Content("host", given["host"], given.get("size"), given.get("skip", 0))
    if kind == "random":
        own = "content-seed" in given
        return Content("random", given.get("content-seed", label), given["random"], own_seed=own)
    if kind == "zeros":
        return Content("zeros", b"", given["zeros"])
    if not kind:
        return None
    if "size" not in given:
        raise ValueError(f"{kind} needs a size")
    if not 0 < len(given[kind]) <= _LONGEST_PATTERN:
        raise ValueError(f"{kind} must have 1 to {_LONGEST_PATTERN} bytes")
    return Content("pattern" if kind == "pattern" else "stamp", given[kind], given["size"])


def _sized(content: Content | None, given: Given) -> int | None:
    """Return the size of a file that is said besides its content."""
    has_own = content is None or content.kind in ("bytes", "random", "zeros")
    return given.get("size") if has_own else None


# Attributes

ATTRIBUTES: dict[str, Reader] = {
    "mode": read.read_mode,
    "owner": read.read_owner,
    "xattrs": lambda value: _xattrs(value),
    **dict.fromkeys(("atime", "mtime", "ctime", "otime", "times"), read.read_time),
    "flags": read.read_flags,
}


def _xattrs(value: Any) -> tuple[tuple[bytes, Content], ...]:
    if not isinstance(value, dict):
        raise FaultError((), "must be a table: names and values")
    result: dict[bytes, Content] = {}
    for key, each in value.items():
        try:
            name = read.read_xattr_name(key)
            given = read_table(each, CONTENT, "an xattr") if isinstance(each, dict) else {"text": read.read_bytes(each)}
            content = content_of(given, b"#" + name)
            if content is None:
                raise ValueError("says no content")
            if _sized(content, given) is not None:
                raise ValueError("size goes with pattern, stamp and host only")
        except FaultError as error:
            raise FaultError((key, *error.path), f"{key}: {error.sentence}") from None
        except ValueError as error:
            raise FaultError((key,), f"{key}: {error}") from None
        if name in result:
            raise FaultError((key,), f"{key}: two xattrs have this name")
        result[name] = content
    return tuple(sorted(result.items()))


def attributes_of(given: Given) -> Attributes:
    """Return the attributes that some keys say."""
    uid, gid = given.get("owner", (None, None))
    times = {name: given.get(name, given.get("times")) for name in ("atime", "mtime", "ctime", "otime")}
    return Attributes(given.get("mode"), uid, gid, **times, xattrs=given.get("xattrs", ()), flags=given.get("flags"))


# Storage and parts

_COMPRESSION: dict[str, Reader] = {"compress": read.read_compression}
_KINDS: dict[str, Reader] = {"nodatacow": read.read_boolean, "nodatasum": read.read_boolean}
_LAYOUT: dict[str, Reader] = {"pieces": read.read_count, "at": read.read_place}
STORAGE: dict[str, Reader] = {**_COMPRESSION, **_KINDS, **_LAYOUT, "inline": read.read_boolean}
_OF_WRITES: dict[str, Reader] = {**_COMPRESSION, **_LAYOUT}


def storage_of(given: Given, usual: Storage = Storage()) -> Storage:  # noqa: B008 (it is frozen)
    """Return how content is kept by some keys; what they do not say is as *usual*."""
    nodatacow = given.get("nodatacow", usual.nodatacow)
    storage = Storage(
        given.get("compress", usual.compress),
        given.get("inline", usual.inline),
        nodatacow,
        given.get("nodatasum", usual.nodatasum) or nodatacow,
        given.get("pieces"),
        given.get("at"),
    )
    if "nodatasum" in given and not given["nodatasum"] and nodatacow:
        raise ValueError("nodatacow has no checksums: leave out nodatasum = false")
    if storage.nodatasum and "compress" in given and given["compress"].kind:
        raise ValueError("what has no checksums is never compressed: leave out compress, or nodatacow and nodatasum")
    if storage.inline and (storage.pieces or storage.at):
        raise ValueError("inline content has no place of its own: leave out pieces and at, or inline")
    return storage


PART: dict[str, Reader] = {
    **CONTENT,
    **_OF_WRITES,
    "inline": read.read_boolean,
    "offset": read.read_size,
    "prealloc": read.read_length,
    "hole": read.read_length,
    "from": read.read_source,
    "extent": read.read_bytes,
    "from-offset": read.read_size,
    "length": read.read_length,
}
_PART_KINDS = ("prealloc", "hole", "from", "extent")


def _parts(value: Any) -> tuple[Given, ...]:
    """Return what the parts say: they are made when the keys of the file are known."""
    if not isinstance(value, list):
        raise FaultError((), "must be an array of tables")
    parts = []
    for index, each in enumerate(value):
        try:
            given = read_table(each, PART, "a part")
            _part(given, index, Storage())
        except FaultError as error:
            raise FaultError((index, *error.path), error.sentence) from None
        except ValueError as error:
            raise FaultError((index,), str(error)) from None
        parts.append(given)
    return tuple(parts)


def _part(given: Given, index: int, usual: Storage) -> Part:
    content = content_of(given, b"#%d" % index)
    if content and "size" in given and _sized(content, given) is not None:
        raise ValueError("size goes with pattern, stamp and host only: a hole is a part of its own")
    kinds = [key for key in _PART_KINDS if key in given]
    kind = kinds[0] if kinds else ""
    if len(kinds) + bool(content) != 1:
        raise ValueError("a part is content, prealloc, hole, from or extent: one of them")
    allowed = {"offset", kind}
    if content:
        allowed |= {*CONTENT, *_OF_WRITES, "inline"}
    elif kind == "prealloc":
        allowed |= {*_LAYOUT}
    elif kind in ("from", "extent"):
        allowed |= {"from-offset", "length"}
    for key in given:
        if key not in allowed:
            raise ValueError(f"{key} does not go with {kind or 'content'}")
    offset = given.get("offset")
    if content:
        return Part("data", offset, content.size, content, storage_of(given, usual))
    if kind == "prealloc":
        return Part("prealloc", offset, given["prealloc"], storage=storage_of(given, usual))
    if kind == "hole":
        return Part("hole", offset, given["hole"])
    name: Literal["shared", "extent"] = "shared" if kind == "from" else "extent"
    source_offset = given.get("from-offset", 0)
    return Part(name, offset, given.get("length"), source=given[kind], source_offset=source_offset)


# The verbs


def _make_file(path: bytes, given: Given) -> Operation:
    storage = storage_of(given)
    content = content_of(given)
    if "parts" in given:
        if content:
            raise ValueError("parts are the content: leave out one of the two")
        if storage.pieces or storage.at:
            raise ValueError("with parts, pieces and at are said of each")
        whole = storage._replace(pieces=None, at=None)
        parts = tuple(_part(part, index, whole) for index, part in enumerate(given["parts"]))
        size = given.get("size")
    else:
        parts = (Part("data", 0, content.size, content, storage),) if content else ()
        size = _sized(content, given)
        if content and content.size and size is not None and size < content.size:
            raise ValueError(f"size {size} is less than the content's {content.size}")
        if not content and (storage.pieces or storage.at or storage.inline):
            raise ValueError("there is no content for pieces, at and inline")
    return made.MakeFile(path, parts, size, storage._replace(pieces=None, at=None), _of_file(given, storage))


def _of_file(given: Given, storage: Storage) -> Attributes:
    """Return a file's attributes; nodatacow and nodatasum are flags, whichever way they are said."""
    attributes = attributes_of(given)
    flags = attributes.flags or 0
    flags |= (InodeFlag.NODATACOW if storage.nodatacow else 0) | (InodeFlag.NODATASUM if storage.nodatasum else 0)
    return attributes._replace(flags=flags) if flags else attributes


def _make_write(path: bytes, given: Given) -> Operation:
    content = content_of(given)
    if content is None:
        raise ValueError(f"says no content: write one of {', '.join(_SOURCES)}")
    if _sized(content, given) is not None:
        raise ValueError("size goes with pattern, stamp and host only; `truncate` makes a file longer")
    return made.Write(path, given.get("offset", 0), content, storage_of(given))


def _define_extent(name: bytes, given: Given) -> Operation:
    content = content_of(given)
    if (content is None) == ("prealloc" not in given):
        raise ValueError("takes content, or prealloc")
    if content and _sized(content, given) is not None:
        raise ValueError("size goes with pattern, stamp and host only")
    if not content and "compress" in given:
        raise ValueError("what is only reserved is not compressed")
    return made.DefineExtent(name, content, given.get("prealloc"), storage_of(given))


def _change(path: bytes, given: Given) -> Operation:
    if not given:
        raise ValueError("changes nothing: say what")
    return made.Change(path, attributes_of(given), given.get("remove-xattrs", ()), given.get("readonly"))


def _node(kind: int) -> Verb:
    def make(path: bytes, given: Given) -> Operation:
        return made.MakeNode(path, kind, given.get("device", (0, 0)), attributes_of(given))

    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return Verb(read.read_new_path, {"device": read.read_device_number, **ATTRIBUTES}, make, ("device",))
    return Verb(read.read_new_path, ATTRIBUTES, make)


_RANGE: dict[str, Reader] = {"offset": read.read_size, "length": read.read_length}
_WHOLE: dict[str, Reader] = {**_COMPRESSION, **_KINDS, "owner": read.read_owner}

VERBS: dict[str, Verb] = {
    "mkdir": Verb(read.read_new_path, ATTRIBUTES, lambda path, given: made.MakeDirectory(path, attributes_of(given))),
    "file": Verb(read.read_new_path, {**CONTENT, **STORAGE, **ATTRIBUTES, "parts": _parts}, _make_file),
    "symlink": Verb(
        read.read_new_path,
        {"to": read.read_target, **ATTRIBUTES},
        lambda path, given: made.MakeSymlink(path, given["to"], attributes_of(given)),
        ("to",),
    ),
    "link": Verb(
        read.read_new_path, {"to": read.read_new_path}, lambda path, given: made.MakeLink(path, given["to"]), ("to",)
    ),
    "fifo": _node(stat.S_IFIFO),
    "socket": _node(stat.S_IFSOCK),
    "chardev": _node(stat.S_IFCHR),
    "blockdev": _node(stat.S_IFBLK),
    "subvolume": Verb(
        read.read_new_path,
        {"uuid": read.read_uuid, **ATTRIBUTES},
        lambda path, given: made.MakeSubvolume(path, given.get("uuid"), attributes_of(given)),
    ),
    "snapshot": Verb(
        read.read_new_path,
        {"of": read.read_path, "readonly": read.read_boolean, "uuid": read.read_uuid},
        lambda path, given: made.MakeSnapshot(path, given["of"], given.get("readonly", False), given.get("uuid")),
        ("of",),
    ),
    "write": Verb(read.read_new_path, {"offset": read.read_size, **CONTENT, **_OF_WRITES}, _make_write),
    "hole": Verb(
        read.read_new_path,
        _RANGE,
        lambda path, given: made.Punch(path, given["offset"], given["length"]),
        ("offset", "length"),
    ),
    "prealloc": Verb(
        read.read_new_path,
        {**_RANGE, **_LAYOUT, "keep-size": read.read_boolean},
        lambda path, given: made.Preallocate(
            path, given["offset"], given["length"], given.get("keep-size", False), storage_of(given)
        ),
        ("offset", "length"),
    ),
    "truncate": Verb(
        read.read_new_path,
        {"size": read.read_size},
        lambda path, given: made.Truncate(path, given["size"]),
        ("size",),
    ),
    "reflink": Verb(
        read.read_new_path,
        {**_RANGE, "from": read.read_source, "from-offset": read.read_size},
        lambda path, given: made.Reflink(
            path, given["from"], given.get("from-offset", 0), given.get("length"), given.get("offset", 0)
        ),
        ("from",),
    ),
    "set": Verb(
        read.read_path,
        {**ATTRIBUTES, "remove-xattrs": read.read_xattr_names, "readonly": read.read_boolean},
        _change,
    ),
    "rename": Verb(
        read.read_new_path, {"to": read.read_new_path}, lambda path, given: made.Rename(path, given["to"]), ("to",)
    ),
    "delete": Verb(
        read.read_new_path,
        {"recursive": read.read_boolean},
        lambda path, given: made.Delete(path, given.get("recursive", False)),
    ),
    "default": Verb(read.read_path, {}, lambda path, _: made.SetDefault(path)),
    "extent": Verb(
        read.read_bytes,
        {
            **CONTENT,
            **_COMPRESSION,
            "nodatasum": read.read_boolean,
            "at": read.read_place,
            "prealloc": read.read_length,
        },
        _define_extent,
    ),
    "from-dir": Verb(
        read.read_host,
        {"to": read.read_path, "exclude": read.read_patterns, "one-filesystem": read.read_boolean, **_WHOLE},
        lambda host, given: made.FromDirectory(
            host,
            given.get("to", b"/"),
            storage_of(given),
            given.get("exclude", ()),
            given.get("one-filesystem", False),
            given.get("owner"),
        ),
    ),
    "from-tar": Verb(
        read.read_host,
        {"to": read.read_path, "whiteouts": read.read_boolean, **_WHOLE},
        lambda host, given: made.FromTar(
            host, given.get("to", b"/"), given.get("whiteouts", True), storage_of(given), given.get("owner")
        ),
    ),
    "clock": Verb(read.read_time, {}, lambda time, _: made.SetClock(time)),
    "commit": Verb(read.read_true, {}, lambda _, __: made.Commit()),
}


def make(verb: str, subject: Any, given: Given) -> Operation:
    """Return the operation; raise ValueError when keys are missing or contradict each other."""
    missing = [key for key in VERBS[verb].needed if key not in given]
    if missing:
        raise ValueError(f"{verb} needs {' and '.join(missing)}")
    return VERBS[verb].make(subject, given)

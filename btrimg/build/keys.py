"""The keys of a recipe's tables: how each is read, and what several of them say together."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal

from btrimg.build import readers as read
from btrimg.build.values import Attributes, Content, Part, Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reader = Callable[[Any], Any]
    Given = Mapping[str, Any]  # what was read, by key


class FaultError(ValueError):
    """Report a value that cannot be, and the keys and indices that lead to it."""

    def __init__(self, path: tuple[str | int, ...], sentence: str) -> None:
        super().__init__(sentence)
        self.path, self.sentence = path, sentence


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

SOURCES = {
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
    **SOURCES,
    "size": read.read_size,
    "skip": read.read_size,
    "content-seed": read.read_seed,
}


def content_of(given: Given, label: bytes = b"") -> Content | None:
    """Return the content that some keys say, None when none does; raise ValueError where they contradict each other.

    *label* tells random content apart from others of the same entry.
    """
    kinds = [key for key in SOURCES if key in given]
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


def own_size(content: Content | None, given: Given) -> int | None:
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
            if own_size(content, given) is not None:
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

COMPRESSION: dict[str, Reader] = {"compress": read.read_compression}
KINDS: dict[str, Reader] = {"nodatacow": read.read_boolean, "nodatasum": read.read_boolean}
LAYOUT: dict[str, Reader] = {"pieces": read.read_count, "at": read.read_place}
STORAGE: dict[str, Reader] = {**COMPRESSION, **KINDS, **LAYOUT, "inline": read.read_boolean}
OF_WRITES: dict[str, Reader] = {**COMPRESSION, **LAYOUT}


_USUAL = Storage()


def storage_of(given: Given, usual: Storage = _USUAL) -> Storage:
    """Return how content is kept by some keys; what they do not say is as *usual*."""
    if usual is _USUAL and given.keys().isdisjoint(STORAGE):
        return usual
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
    **OF_WRITES,
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


def read_parts(value: Any) -> tuple[Given, ...]:
    """Return what the parts say: they are made when the keys of the file are known."""
    if not isinstance(value, list):
        raise FaultError((), "must be an array of tables")
    parts = []
    for index, each in enumerate(value):
        try:
            given = read_table(each, PART, "a part")
            part_of(given, index, Storage())
        except FaultError as error:
            raise FaultError((index, *error.path), error.sentence) from None
        except ValueError as error:
            raise FaultError((index,), str(error)) from None
        parts.append(given)
    return tuple(parts)


def part_of(given: Given, index: int, usual: Storage) -> Part:
    """Return the part of a file, the one with that *index*, that some keys say; raise ValueError.

    What they do not say of how it is kept is as *usual*.
    """
    content = content_of(given, b"#%d" % index)
    if content and "size" in given and own_size(content, given) is not None:
        raise ValueError("size goes with pattern, stamp and host only: a hole is a part of its own")
    kinds = [key for key in _PART_KINDS if key in given]
    kind = kinds[0] if kinds else ""
    if len(kinds) + bool(content) != 1:
        raise ValueError("a part is content, prealloc, hole, from or extent: one of them")
    allowed = {"offset", kind}
    if content:
        allowed |= {*CONTENT, *OF_WRITES, "inline"}
    elif kind == "prealloc":
        allowed |= {*LAYOUT}
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

"""The verbs of recipes: which keys each takes, and what operation they make."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from btrimg.build import readers as read
from btrimg.build import values as made
from btrimg.build.keys import (
    ATTRIBUTES,
    COMPRESSION,
    CONTENT,
    KINDS,
    LAYOUT,
    OF_WRITES,
    SOURCES,
    STORAGE,
    attributes_of,
    content_of,
    own_size,
    part_of,
    read_parts,
    storage_of,
)
from btrimg.build.values import Attributes, Part, Storage
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from btrimg.build.keys import Given, Reader
    from btrimg.build.values import Operation


class Verb(NamedTuple):
    """An operation."""

    subject: Reader  #: of the verb's own value
    keys: Mapping[str, Reader]
    make: Callable[[Any, Given], Operation]  #: of the subject and the values of the keys
    needed: tuple[str, ...] = ()


def _make_file(path: bytes, given: Given) -> Operation:
    storage = storage_of(given)
    content = content_of(given)
    if "parts" in given:
        if content:
            raise ValueError("parts are the content: leave out one of the two")
        if storage.pieces or storage.at:
            raise ValueError("with parts, pieces and at are said of each")
        whole = storage._replace(pieces=None, at=None)
        parts = tuple(part_of(part, index, whole) for index, part in enumerate(given["parts"]))
        size = given.get("size")
    else:
        parts = (Part("data", 0, content.size, content, storage),) if content else ()
        size = own_size(content, given)
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
        raise ValueError(f"says no content: write one of {', '.join(SOURCES)}")
    if own_size(content, given) is not None:
        raise ValueError("size goes with pattern, stamp and host only; `truncate` makes a file longer")
    return made.Write(path, given.get("offset", 0), content, storage_of(given))


def _define_extent(name: bytes, given: Given) -> Operation:
    content = content_of(given)
    if (content is None) == ("prealloc" not in given):
        raise ValueError("takes content, or prealloc")
    if content and own_size(content, given) is not None:
        raise ValueError("size goes with pattern, stamp and host only")
    if not content and "compress" in given:
        raise ValueError("what is only reserved is not compressed")
    return made.DefineExtent(name, content, given.get("prealloc"), storage_of(given))


def _change(path: bytes, given: Given) -> Operation:
    if not given:
        raise ValueError("changes nothing: say what")
    add, remove = given.get("add-flags", 0), given.get("remove-flags", 0)
    if add & remove or ("flags" in given and (add or remove)):
        raise ValueError("flags, add-flags and remove-flags contradict each other")
    return made.Change(path, attributes_of(given), given.get("remove-xattrs", ()), given.get("readonly"), add, remove)


def _node(kind: int) -> Verb:
    def make(path: bytes, given: Given) -> Operation:
        return made.MakeNode(path, kind, given.get("device", (0, 0)), attributes_of(given))

    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return Verb(read.read_new_path, {"device": read.read_device_number, **ATTRIBUTES}, make, ("device",))
    return Verb(read.read_new_path, ATTRIBUTES, make)


_RANGE: dict[str, Reader] = {"offset": read.read_size, "length": read.read_length}
_WHOLE: dict[str, Reader] = {**COMPRESSION, **KINDS, "owner": read.read_owner}

VERBS: dict[str, Verb] = {
    "mkdir": Verb(read.read_new_path, ATTRIBUTES, lambda path, given: made.MakeDirectory(path, attributes_of(given))),
    "file": Verb(read.read_new_path, {**CONTENT, **STORAGE, **ATTRIBUTES, "parts": read_parts}, _make_file),
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
    "write": Verb(read.read_new_path, {"offset": read.read_size, **CONTENT, **OF_WRITES}, _make_write),
    "hole": Verb(
        read.read_new_path,
        _RANGE,
        lambda path, given: made.Punch(path, given["offset"], given["length"]),
        ("offset", "length"),
    ),
    "prealloc": Verb(
        read.read_new_path,
        {**_RANGE, **LAYOUT, "keep-size": read.read_boolean},
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
        {
            **ATTRIBUTES,
            **dict.fromkeys(("add-flags", "remove-flags"), read.read_flags),
            "remove-xattrs": read.read_xattr_names,
            "readonly": read.read_boolean,
        },
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
            **COMPRESSION,
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
    "put": Verb(
        read.read_new_path,
        {"from": read.read_host, **_WHOLE},
        lambda path, given: made.Put(path, given["from"], storage_of(given), given.get("owner")),
        ("from",),
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

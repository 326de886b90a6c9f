"""The recipe of an image that is there: what would build one with the same files and the same sharing."""

from __future__ import annotations

import stat
from collections import Counter
from typing import TYPE_CHECKING, Any

from btrimg.build import tomltext as toml
from btrimg.build.described import Contents, Described, describe
from btrimg.build.extentwords import ExtentWords
from btrimg.build.readers import FLAGS
from btrimg.filesystem.image import device_items
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import BlockGroup, Incompat, InodeFlag, TreeId
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.superblocks import uuid_text
from btrimg.write.features import FEATURES
from btrimg.write.options import CSUMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.filesystem.image import Image, Subvolume
    from btrimg.ondisk.superblock import Superblock

_VERBS = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "chardev", stat.S_IFBLK: "blockdev"}
_NO_UUID = bytes(16)
_USUAL_MODES = {stat.S_IFDIR: 0o755, stat.S_IFLNK: 0o777}


class _Planned(NamedTuple):
    """A subvolume, and from what it is made."""

    subvolume: Subvolume
    path: bytes  #: from the top
    contents: Contents
    origin: int | None  #: id of the subvolume that it is a snapshot of


class Recipe(NamedTuple):
    """A recipe as text, and how many entries it has."""

    text: str
    entries: int


def recipe_of(image: Image, directory: str | None, label: str, progress: Callable[[int], None]) -> Recipe:
    """Return the recipe of *image*; contents that are long become files in *directory*, called *label* in the recipe.

    Without a directory all contents stand in the recipe. *progress* hears how many entries are done. What recipes
    cannot say is left out: inode numbers, where extents lie, quota groups, which subvolume was received from where,
    reserved space behind the end of files. A snapshot is written as such, with what has changed in it or in its origin
    since; where the origin is gone, as a subvolume. Raises the errors of reading.
    """
    planned = _ordered(_plan(image))
    steps = list(_steps(planned))
    words = ExtentWords(image, (each for step in steps for each in step.made), directory, label)
    entries: list[str] = []
    for step in steps:
        entries += step.entries(words)
        progress(len(entries))
    default = image.default_subvolume()
    if default != TreeId.FS_TREE and default in planned:
        entries.append(toml.entry({"default": planned[default].path}))
    tables = "\n".join(f"{key} = {toml.value(each)}" for key, each in _filesystem(image) if each is not None)
    text = f"[filesystem]\n{tables}\n"
    return Recipe(f"do = {toml.lines(entries)}\n\n{text}" if entries else text, len(entries))


def _filesystem(image: Image) -> Iterator[tuple[str, Any]]:
    """Yield the keys of the table [filesystem]."""
    superblock: Superblock = image.superblock
    items = [item for _, item in device_items(image.tree(TreeId.CHUNK_TREE))]
    devices = [{"size": toml.size(item.total_bytes), "uuid": uuid_text(item.uuid)} for item in items]
    yield "devices", toml.Verbatim(toml.lines(map(toml.value, devices)))
    bytes_of: Counter[tuple[int, str]] = Counter()
    for chunk in image.volume.chunk_map:
        for kind in (BlockGroup.DATA, BlockGroup.METADATA):
            if chunk.type & kind:
                bytes_of[kind, chunk.profile.name] += chunk.length
    for kind, key in ((BlockGroup.DATA, "data"), (BlockGroup.METADATA, "metadata")):
        most = sorted((-count, name) for (of, name), count in bytes_of.items() if of == kind)
        yield key, most[0][1] if most else None
    yield "mixed", True if superblock.incompat_flags & Incompat.MIXED_GROUPS else None
    yield "features", list(_features(superblock)) or None
    yield "csum", next(name for name, number in CSUMS.items() if number == superblock.csum_type)
    yield "nodesize", toml.size(superblock.nodesize)
    yield "sectorsize", toml.size(superblock.sectorsize)
    yield "label", superblock.label.rstrip(b"\0") or None
    yield "uuid", uuid_text(superblock.fsid)


def _features(superblock: Superblock) -> Iterator[str]:
    for feature in FEATURES:
        incompat = superblock.incompat_flags & feature.incompat == feature.incompat
        present = incompat and superblock.compat_ro_flags & feature.compat_ro == feature.compat_ro
        if feature.default and not present:
            yield f"^{feature.name}"


# Subvolumes


def _plan(image: Image) -> dict[int, _Planned]:
    """Return the subvolumes that hang somewhere, by id."""
    planned: dict[int, _Planned] = {}
    by_uuid: dict[bytes, int] = {}
    for subvolume in image.subvolumes():
        path = image.path_of_subvolume(subvolume.id)
        if path is None or not subvolume.root.refs:
            continue
        if subvolume.has_tail:
            by_uuid[subvolume.root.uuid] = subvolume.id
        planned[subvolume.id] = _Planned(subvolume, path, describe(image, subvolume), None)
    for subvolume_id, each in planned.items():
        root = each.subvolume.root
        origin = by_uuid.get(root.parent_uuid) if each.subvolume.has_tail and root.parent_uuid != _NO_UUID else None
        if origin != subvolume_id:
            planned[subvolume_id] = each._replace(origin=origin)
    return planned


def _ordered(planned: dict[int, _Planned]) -> dict[int, _Planned]:
    """Return the subvolumes in an order in which each finds the directory and the origin that it needs."""
    done: dict[int, _Planned] = {}
    left = dict(planned)
    while left:
        waits = _waits(left)
        number = next((number for number in left if not waits[number] & left.keys()), None)
        if number is None:  # wishes that contradict each other: somebody does without the origin
            number = next((number for number in left if left[number].origin is not None), None)
            if number is not None:
                left[number] = left[number]._replace(origin=None)
                continue
            number = next(iter(left))
        done[number] = left.pop(number)
    return done


def _waits(planned: dict[int, _Planned]) -> dict[int, set[int]]:
    """Return for each subvolume those that have to be made before it: the one it hangs in, and its origin.

    A snapshot comes before what hangs in its origin, so that it has none of that, or behind it, where the snapshot has
    the empty directory that a nested subvolume leaves.
    """
    waits: dict[int, set[int]] = {number: set() for number in planned}
    for number, each in planned.items():
        for nested in waits.keys() & each.contents.nested.values():
            waits[nested].add(number)
        origin = planned.get(each.origin) if each.origin is not None else None
        if origin is None:
            continue
        waits[number].add(origin.subvolume.id)
        for path, nested in origin.contents.nested.items():
            if path in each.contents.placeholders:
                waits[number].add(nested)
            elif nested in waits and nested != number:
                waits[nested].add(number)
    return waits


# Entries


class _Step(NamedTuple):
    """A subvolume made, and what is in it."""

    planned: _Planned
    origin: _Planned | None
    removed: list[bytes]
    changed: dict[bytes, Described]  #: directories that are in the origin too
    new: dict[bytes, Described]
    stubs: frozenset[bytes]  #: directories that stand where subvolumes hung that are gone

    @property
    def made(self) -> Iterable[Described]:
        """Return the inodes that the recipe makes here."""
        return self.new.values()

    def entries(self, words: ExtentWords) -> Iterator[str]:
        """Yield the entries."""
        yield from self._begin()
        for path in self.removed:
            yield toml.entry({"delete": self._at(path), "recursive": True})
        first: dict[tuple[bytes, ...], bytes] = {}
        for path, each in self.new.items():
            if each.names in first:
                yield toml.entry({"link": self._at(path), "to": self._at(first[each.names])})
            else:
                yield from self._made(path, each, words)
            if len(each.names) > 1 and not each.is_directory:
                first.setdefault(each.names, path)
        for names, path in first.items():  # a further name changes the inode
            yield toml.entry({"set": self._at(path), "ctime": toml.time(self.new[names[0]].times[2])})
        for path in sorted(self.stubs):
            yield toml.entry({"mkdir": self._at(path)})
        for path, each in self.changed.items():
            yield toml.entry({"set": self._at(path), **_attributes(each)})
        if self.planned.subvolume.read_only and (self.origin is None or self._differs):
            yield toml.entry({"set": self._at(b""), "readonly": True})

    @property
    def _differs(self) -> bool:
        return bool(self.removed or self.changed or self.new or self.stubs)

    def _at(self, path: bytes) -> bytes:
        return self.planned.path + path or b"/"

    def _begin(self) -> Iterator[str]:
        subvolume, top = self.planned.subvolume, self.planned.contents.top
        if subvolume.id == TreeId.FS_TREE:
            yield toml.entry({"set": b"/", **_attributes(top)})
            return
        uuid = uuid_text(subvolume.root.uuid) if subvolume.has_tail and subvolume.root.uuid != _NO_UUID else None
        if subvolume.has_tail and subvolume.root.otime != Timespec(0, 0):
            yield toml.entry({"clock": toml.time(subvolume.root.otime)})
        if self.origin:
            final = subvolume.read_only and not self._differs
            words = {"of": self.origin.path or b"/", "readonly": True if final else None, "uuid": uuid}
            yield toml.entry({"snapshot": self.planned.path, **words})
        else:
            yield toml.entry({"subvolume": self.planned.path, "uuid": uuid, **_attributes(top)})

    def _made(self, path: bytes, each: Described, words: ExtentWords) -> Iterator[str]:
        at, kind = self._at(path), stat.S_IFMT(each.mode)
        if each.is_directory:
            yield toml.entry({"mkdir": at, **_attributes(each)})
        elif kind == stat.S_IFLNK:
            yield toml.entry({"symlink": at, "to": each.target, **_attributes(each)})
        elif kind in _VERBS:
            device = f"{each.rdev >> 20}:{each.rdev & 0xFFFFF}" if kind in (stat.S_IFCHR, stat.S_IFBLK) else None
            yield toml.entry({_VERBS[kind]: at, "device": device, **_attributes(each)})
        else:
            defined, parts = words.parts_of(each)
            yield from defined
            said = {"parts": [toml.Verbatim(toml.entry(part)) for part in parts]} if parts else {}
            rows = [row for row in each.rows if row.offset < each.size]
            ends_in_part = len(parts) == len(rows) > 0 and rows[-1].end >= each.size
            size = None if ends_in_part else toml.size(each.size)
            yield toml.entry({"file": at, **said, "size": size, **_attributes(each)})
            yield from self._behind_the_end(at, each)

    @staticmethod
    def _behind_the_end(at: bytes, each: Described) -> Iterator[str]:
        """Yield what is reserved from the end of the file on, to whole sectors as the rows are."""
        reserved = [row for row in each.rows if row.kind == "prealloc" and row.offset >= each.size]
        for row in reserved:
            words = {"offset": toml.size(row.offset), "length": toml.size(row.length), "keep-size": True}
            yield toml.entry({"prealloc": at, **words})
        if reserved:
            yield toml.entry({"set": at, "mtime": toml.time(each.times[1]), "ctime": toml.time(each.times[2])})


def _steps(planned: dict[int, _Planned]) -> Iterator[_Step]:
    for each in planned.values():
        origin = planned[each.origin] if each.origin is not None else None
        if origin is None:
            yield _Step(each, None, [], {}, dict(each.contents.inodes), each.contents.placeholders)
        else:
            yield _difference(each, origin)


def _difference(each: _Planned, origin: _Planned) -> _Step:
    """Return how to make a snapshot what it is, from what its origin is now."""
    old, new = origin.contents.inodes, each.contents.inodes
    changed: dict[bytes, Described] = {}
    made: dict[bytes, Described] = {}
    removed: list[bytes] = []
    for path, inode in old.items():
        now = new.get(path)
        if now is None or (now != inode and not (now.is_directory and inode.is_directory)):
            removed.append(path)
    removed += sorted(origin.contents.placeholders - each.contents.placeholders)
    gone = set(removed)
    for path, inode in new.items():
        was = old.get(path)
        if was is None or path in gone or _is_below(path, gone):
            made[path] = inode
        elif was != inode:
            changed[path] = inode
    touched = {path.rpartition(b"/")[0] for path in (*removed, *made)}
    for path in sorted(touched - {b""}):
        if path in new and path not in made:
            changed[path] = new[path]
    if each.contents.top != origin.contents.top or b"" in touched:
        changed[b""] = each.contents.top
    removed = [path for path in removed if not _is_below(path, gone)]
    stubs = each.contents.placeholders - origin.contents.nested.keys() - origin.contents.placeholders
    return _Step(each, origin, removed, changed, made, stubs)


def _is_below(path: bytes, paths: set[bytes]) -> bool:
    """Return whether a directory on the way to *path* is one of *paths*."""
    while path := path.rpartition(b"/")[0]:
        if path in paths:
            return True
    return False


def _attributes(each: Described) -> dict[str, Any]:
    """Return the attributes of an inode."""
    kind, mode = stat.S_IFMT(each.mode), stat.S_IMODE(each.mode)
    atime, mtime, ctime, otime = (toml.time(stamp) for stamp in each.times)
    same = atime == mtime == ctime == otime
    return {
        "mode": toml.mode(mode) if mode != _USUAL_MODES.get(kind, 0o644) else None,
        "owner": f"{each.uid}:{each.gid}" if each.uid or each.gid else None,
        "flags": list(_flags(each.flags)) or None,
        "xattrs": {name: _xattr(content) for name, content in each.xattrs} or None,
        **({"times": atime} if same else {"atime": atime, "mtime": mtime, "ctime": ctime, "otime": otime}),
    }


def _xattr(content: bytes) -> Any:
    try:
        if content.decode().isprintable():
            return content
    except UnicodeDecodeError:
        pass
    return {"hex": content.hex()}


def _flags(flags: int) -> Iterator[str]:
    for name, bits in FLAGS.items():
        if flags & bits == bits and not (name == "nodatasum" and flags & InodeFlag.NODATACOW):
            yield name

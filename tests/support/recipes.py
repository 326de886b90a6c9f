"""Random recipes, and what they come to: a plain model that knows nothing of extents."""

from __future__ import annotations

import copy
from hashlib import shake_128
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

from .images import DEVICES

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]

SECTOR = 4096
_WORDS = b"the quick brown fox jumps over the lazy dog "
_COMPRESS = ("none", "zlib", "zlib:9", "lzo", "zstd", "zstd:7")


class File(NamedTuple):
    """A regular file: its content and whether its data has checksums."""

    content: bytes
    checksummed: bool
    xattrs: dict[bytes, bytes]
    mode: int


class Model:
    """Subvolumes by path; each has files and directories by path from its top."""

    def __init__(self) -> None:
        self.subvolumes: dict[str, dict[str, File | None]] = {"": {}}  # None is a directory
        self.read_only: set[str] = set()

    def places(self, *, writable: bool = True) -> list[tuple[str, str]]:
        """Return (subvolume, directory) of all directories."""
        found = []
        for subvolume, inodes in self.subvolumes.items():
            if writable and subvolume in self.read_only:
                continue
            found += [(subvolume, ""), *((subvolume, path) for path, inode in inodes.items() if inode is None)]
        return found

    def files(self, *, writable: bool = True) -> list[tuple[str, str]]:
        """Return (subvolume, path) of all files."""
        return [
            (subvolume, path)
            for subvolume, inodes in self.subvolumes.items()
            for path, inode in inodes.items()
            if inode is not None and not (writable and subvolume in self.read_only)
        ]

    def file(self, place: tuple[str, str]) -> File:
        inode = self.subvolumes[place[0]][place[1]]
        assert inode is not None
        return inode

    def all_files(self) -> dict[str, File]:
        """Return every file by its path from the top."""
        return {subvolume + path: self.file((subvolume, path)) for subvolume, path in self.files(writable=False)}


def random_bytes(seed: int, size: int) -> bytes:
    """Return what docs/recipes.md says of ``random`` with a ``content-seed``."""
    steps = range(-(-size // (1 << 20)))
    return b"".join(shake_128(b"btrimg random %d %d" % (seed, step)).digest(1 << 20) for step in steps)[:size]


@st.composite
def recipes(draw: Draw) -> tuple[str, int, Model]:
    """Draw a recipe, how many devices it needs, and what should be there when it is built."""
    profile = draw(st.sampled_from(sorted(DEVICES)))
    devices = DEVICES[profile]
    features = draw(
        st.lists(st.sampled_from(("^no-holes", "^block-group-tree", "^skinny-metadata", "^extref")), unique=True)
    )
    if "^no-holes" in features and "^block-group-tree" not in features:
        features.append("^block-group-tree")
    table = {
        # On 512 MiB, a full balance of blocks of 64 KiB in three copies finds no room, after mkfs.btrfs neither.
        "size": '"2G"',
        "devices": str(devices),
        "data": f'"{profile}"',
        "metadata": f'"{"raid1c3" if devices > 3 else "dup" if devices == 1 else "raid1"}"',
        "csum": f'"{draw(st.sampled_from(("crc32c", "xxhash", "sha256", "blake2")))}"',
        "nodesize": f'"{draw(st.sampled_from(("4K", "16K", "64K")))}"',
        "features": "[" + ", ".join(f"'{feature}'" for feature in features) + "]",
        "compress": f'"{draw(st.sampled_from(_COMPRESS))}"',
        "seed": "7",
    }
    model = Model()
    entries = [_entry(draw, model, number) for number in range(draw(st.integers(5, 40)))]
    head = "".join(f"{key} = {value}\n" for key, value in table.items())
    body = "".join(f"    {entry},\n" for entry in entries if entry)
    return f"do = [\n{body}]\n\n[filesystem]\n{head}", devices, model


def _entry(draw: Draw, model: Model, number: int) -> str:
    """Draw one operation, do it in the model, and return its words; nothing where it cannot be done."""
    verbs = ("file", "file", "mkdir", "write", "write", "hole", "truncate", "reflink", "reflink", "delete")
    verb = draw(st.sampled_from((*verbs, "subvolume", "snapshot", "snapshot", "prealloc", "commit")))
    if verb == "commit":
        return "{commit = true}"
    if verb in ("file", "mkdir", "subvolume", "snapshot"):
        return _new(draw, model, verb, number)
    files = model.files()
    if not files:
        return ""
    place = draw(st.sampled_from(files))
    subvolume, path = place
    file = model.file(place)
    keys, content = _changed(draw, model, verb, number, file)
    if content is None:
        del model.subvolumes[subvolume][path]
    else:
        model.subvolumes[subvolume][path] = file._replace(content=content)
    return f"{{{verb} = '{subvolume}{path}'{keys}}}" if keys or verb == "delete" else ""


def _new(draw: Draw, model: Model, verb: str, number: int) -> str:
    subvolume, directory = draw(st.sampled_from(model.places()))
    name = f"{directory}/{verb}-{number}"
    where = f"{subvolume}{name}"
    if verb == "mkdir":
        model.subvolumes[subvolume][name] = None
        return f"{{mkdir = '{where}'}}"
    if verb == "subvolume":
        model.subvolumes[where] = {}
        return f"{{subvolume = '{where}'}}"
    if verb == "snapshot":
        origin = draw(st.sampled_from(sorted(model.subvolumes)))
        readonly = draw(st.booleans())
        model.subvolumes[where] = copy.copy(model.subvolumes[origin])
        if readonly:
            model.read_only.add(where)
        return f"{{snapshot = '{where}', of = '{origin or '/'}', readonly = {str(readonly).lower()}}}"
    words, content = _content(draw, number)
    nodatasum = draw(st.booleans())
    mode = draw(st.sampled_from((0o644, 0o4755, 0o600)))
    value = draw(st.binary(max_size=200))
    storage = draw(st.sampled_from(("", ", inline = false", ", pieces = 3"))) if len(content) > 3 * SECTOR else ""
    model.subvolumes[subvolume][name] = File(content, not nodatasum, {b"user.x": value}, mode)
    flags = ", nodatasum = true" if nodatasum else f", compress = '{draw(st.sampled_from(_COMPRESS))}'"
    return (
        f"{{file = '{where}', {words}, mode = 0o{mode:o}{flags}{storage}"
        f", xattrs = {{'user.x' = {{hex = '{value.hex()}'}}}}}}"
    )


def _content(draw: Draw, number: int) -> tuple[str, bytes]:
    size = draw(st.sampled_from((0, 1, 100, 2000, 2048, 4095, 4096, 5000, 70_000, 131_072, 400_001)))
    kind = draw(st.sampled_from(("random", "pattern", "zeros")))
    if kind == "random":
        return f"random = {size}, content-seed = {number}", random_bytes(number, size)
    if kind == "zeros":
        return f"zeros = {size}", bytes(size)
    text = _WORDS.decode()
    return f"pattern = '{text}', size = {size}", (_WORDS * (size // len(_WORDS) + 1))[:size]


def _changed(draw: Draw, model: Model, verb: str, number: int, file: File) -> tuple[str, bytes | None]:
    """Return the keys of an operation on a file, and its new content."""
    old = file.content
    offset = draw(st.integers(0, len(old) + 9000))
    if verb == "write":
        words, new = _content(draw, number)
        return f", offset = {offset}, {words}", _over(old, offset, new) if new else old
    if verb == "hole":
        length = draw(st.integers(1, 100_000))
        end = min(offset + length, len(old))
        return f", offset = {offset}, length = {length}", _over(
            old, offset, bytes(end - offset)
        ) if end > offset else old
    if verb == "truncate":
        return f", size = {offset}", old[:offset].ljust(offset, b"\0")
    if verb == "prealloc":
        length = draw(st.integers(1, 300_000))
        return f", offset = {offset}, length = {length}", old.ljust(offset + length, b"\0")
    if verb == "delete":
        return "", None
    return _reflinked(draw, model, file)


def _reflinked(draw: Draw, model: Model, file: File) -> tuple[str, bytes | None]:
    others = [
        place
        for place in model.files(writable=False)
        if model.file(place) is not file
        and model.file(place).checksummed == file.checksummed
        and model.file(place).content
    ]
    if not others:
        return "", file.content
    place = draw(st.sampled_from(others))
    source = model.file(place).content
    start = draw(st.integers(0, (len(source) - 1) // SECTOR)) * SECTOR
    length = min(draw(st.integers(1, 40)) * SECTOR, len(source) - start)
    at = draw(st.integers(0, 40)) * SECTOR
    if length % SECTOR and at + length < len(file.content):
        return "", file.content  # the kernel refuses to share the end of a file in the middle of another
    new = _over(file.content, at, source[start : start + length])
    return f", from = '{''.join(place)}', from-offset = {start}, length = {length}, offset = {at}", new


def _over(old: bytes, offset: int, new: bytes) -> bytes:
    return old[:offset].ljust(offset, b"\0") + new + old[offset + len(new) :]

"""What stands at many bytes of devices, as JSON of :mod:`located` for each: put together column by column.

Whatever many lines have in common is made into text once; a line is a handful of such texts and numbers.
"""

from __future__ import annotations

from itertools import chain, product, repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.columns import KINDS as FILE_KINDS
from btrimg.filesystem.extents import COMPRESSION_NAMES
from btrimg.filesystem.strings import Strings
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.render.answers import json_line
from btrimg.render.usage import json_names
from btrimg.tables.locatemany import KINDS, OTHER, PARITY, Users
from btrimg.tables.locatestate import STATES
from btrimg.volume.devicepieces import NOWHERE
from btrimg.volume.places import MAX_COPIES
from btrimg.volume.profiles import data_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.locate import TreeBlock
    from btrimg.tables.locatemany import Answers, ManyLocator

    Ints = NDArray[np.int64]
    Part = tuple[Strings, NDArray[Any]]  # strings, and the one of each row

SLICE = 1 << 12  #: addresses whose lines are put together at a time: what stays in the processor's cache is fast


class Shown(NamedTuple):
    """What answers are shown with; names of *many* are as ``json_names`` makes them."""

    many: ManyLocator
    image: Image
    paths: Callable[[int, int], list[bytes]]  #: of inodes of trees that are no whole subvolumes
    other: Callable[[int], bytes]  #: the line of an address that only ``Locator`` can tell, by its number


def json_chunks(shown: Shown, answers: Answers) -> Iterator[bytes]:
    """Yield the answers as JSONL, with the fields of ``located.piece_object``."""
    lost, which = np.unique(answers.extent[answers.bookend], return_inverse=True)
    holders = shown.many.holders(lost)
    users = _texts_of_users(shown, answers.users, holders)
    texts = users.rows(len(answers.users.whose), len(answers.users.whose) + len(holders.whose))
    kept = _grouped(texts, holders.whose, (0, len(lost) + 1)).to_list()
    kept_by = np.full(len(answers.kind), len(lost))
    kept_by[answers.bookend] = which
    copies, extents = _copies(shown, answers), _extents(shown.many)
    heads, mids = _heads(answers), _mids(shown, answers)
    between, tails = repeat(b'], "kept_by": ['), (b'], "found_by": null}\n', b'], "found_by": "scan"}\n')
    for start in range(0, len(answers.kind), SLICE):
        some = slice(start, min(start + SLICE, len(answers.kind)))
        bounds = answers.first + some.start, answers.first + some.stop
        first, last = np.searchsorted(answers.users.whose, bounds).tolist()
        begin, end = np.searchsorted(answers.copies.whose, bounds).tolist()
        scanned = ((answers.chunk[some] != NOWHERE) & (answers.kind[some] != PARITY)).astype(np.intp)
        front = strings.glue(
            (heads[0], heads[1][some]),
            _known(answers.physical[some]),
            b', "logical": ',
            _known(np.where(answers.kind[some] == PARITY, NOWHERE, answers.logical[some])),
            (mids[0], mids[1][some]),
            _all(_grouped(copies.rows(begin, end), answers.copies.whose[begin:end], bounds)),
            (extents, answers.extent[some] + 1),
            _of(('false, "files": [', 'true, "files": ['), answers.bookend[some]),
        )
        files = _grouped(users.rows(first, last), answers.users.whose[first:last], bounds)
        back = [tails[way] for way in scanned.tolist()]
        keepers = [kept[number] for number in kept_by[some].tolist()]
        lines = zip(front.to_list(), files.to_list(), between, keepers, back, strict=False)
        yield b"".join(chain.from_iterable(_with_others(shown, answers, some, lines)))


def _heads(answers: Answers) -> Part:
    """Return the beginning of every line."""
    devids, device = np.unique(answers.devid, return_inverse=True)
    shown = ["null" if devid == NOWHERE else str(devid) for devid in devids.tolist()]
    texts = [
        f'{{"kind": "{kind}", "length": 1, "devid": {devid}, "physical": ' for kind, devid in product(KINDS, shown)
    ]
    return _of(texts, answers.kind * np.int64(len(shown)) + device)


def _mids(shown: Shown, answers: Answers) -> Part:
    """Return of every line what stands between logical address and copies: alike for a chunk, or a row of parity."""
    chunks = [
        json_line({"logical": c.logical, "length": c.length, "profile": c.profile.name}) for c in shown.many.chunks
    ]
    texts = [f', "parity_of": null, "chunk": {chunk}, "copies": [' for chunk in ("null", *chunks)]
    number, parity = answers.chunk + 1, np.flatnonzero(answers.kind == PARITY)
    rows = zip(answers.logical[parity].tolist(), answers.chunk[parity].tolist(), strict=True)
    number[parity] = len(texts) + np.arange(len(parity))
    for logical, at in rows:
        chunk = shown.many.chunks[at]
        row = json_line({"logical": logical, "length": data_columns(len(chunk.stripes), chunk.profile) * STRIPE_LEN})
        texts.append(f', "parity_of": {row}, "chunk": {chunks[at]}, "copies": [')
    return _of(texts, number)


def _extents(many: ManyLocator) -> Strings:
    """Return what stands between copies and bookend: for bytes outside of extents, then for each extent."""
    extents = many.extents
    blocks = strings.of_list([b"null", *map(_block, many.blocks)])
    shown = strings.glue(
        b'], "extent": {"logical": ',
        _decimals(extents.logical),
        b', "length": ',
        _decimals(extents.length),
        b', "generation": ',
        _decimals(extents.generation),
        b'}, "tree_block": ',
        (blocks, many.block_of_extent + 1),
        b', "bookend": ',
    )
    return strings.concatenate([strings.of_list([b'], "extent": null, "tree_block": null, "bookend": ']), shown])


def _block(block: TreeBlock) -> bytes:
    """Return ``located.block_object`` as JSON: lists of numbers look alike there."""
    first, last = (list(key) if key else "null" for key in (block.first_key, block.last_key))
    return (
        f'{{"level": {block.level}, "generation": {block.generation}, "owner": {block.owner}, '
        f'"trees": {list(block.trees)}, "first_key": {first}, "last_key": {last}}}'
    ).encode()


class _Texts(NamedTuple):
    """Texts of copies or users, not put together yet."""

    parts: tuple[Part | Ints, ...]  #: Ints are numbers to be shown

    def rows(self, first: int, end: int) -> Strings:
        """Return some of the texts."""
        some = slice(first, end)
        return strings.glue(
            *((part[0], part[1][some]) if isinstance(part, tuple) else _decimals(part[some]) for part in self.parts)
        )


def _copies(shown: Shown, answers: Answers) -> _Texts:
    """Return the copies, the later ones of an address behind a comma."""
    copies, devices = answers.copies, shown.image.volume.devices
    at = copies.whose - answers.first
    mirrored = np.array([False, *(chunk.profile.copies > 1 for chunk in shown.many.chunks)])[answers.chunk[at] + 1]
    role = np.where(answers.kind[at] == PARITY, copies.number, np.where(mirrored, 3 + copies.number, 2))
    devids, device = np.unique(copies.devid, return_inverse=True)
    roles = ("P", "Q", "data", *(f"mirror {number + 1}" for number in range(MAX_COPIES)))
    paths = [devices[devid].path if devid in devices else None for devid in devids.tolist()]
    before = [f'{comma}{{"devid": {devid}, "physical": ' for devid, comma in product(devids.tolist(), (", ", ""))]
    after = [
        ", " + json_line({"device": path, "role": each, "csum": state})[1:]
        for path, each, state in product(paths, roles, STATES)
    ]
    like = (device * len(roles) + role) * len(STATES) + copies.state
    return _Texts((_of(before, device * 2 + _is_first(at)), copies.physical, _of(after, like)))


def _texts_of_users(shown: Shown, *several: Users) -> _Texts:
    """Return the users, the later ones of an address behind a comma."""
    scan = shown.many.scan
    first_of_group = np.concatenate([_is_first(users.whose) for users in several])
    users = Users._make(map(np.concatenate, zip(*several, strict=True)))
    width = len(scan.inode_rank) + 1
    key = users.root * width + scan.inode_rank[users.use]
    different, first, file = np.unique(key, return_index=True, return_inverse=True)
    root, inode = different // width, users.inode[first]
    count, paths = _paths(shown, root, inode)
    each = np.repeat(np.arange(len(count)), count)
    listed = strings.glue(_of((', "', '"'), _is_first(each)), _all(paths), b'"')
    tails = strings.glue(_all(_grouped(listed, each, (0, len(count)))), b"]}")
    trees = strings.of_list([f'{{"subvolume": {tree}, "inode": '.encode() for tree in scan.roots.tolist()])
    heads = strings.glue((trees, root), _decimals(inode), b', "offset": ')
    again = strings.glue(b", ", _all(heads))
    like = (users.length * len(FILE_KINDS) + users.kind) * len(COMPRESSION_NAMES) + users.compression
    likes, alike = np.unique(like, return_inverse=True)
    kinds = product(FILE_KINDS, (COMPRESSION_NAMES[number] for number in sorted(COMPRESSION_NAMES)))
    known = [f', "kind": "{kind}", "compression": "{compression}", "paths": [' for kind, compression in kinds]
    mids = [f', "length": {number // len(known)}{known[number % len(known)]}' for number in likes.tolist()]
    return _Texts(
        (
            (strings.concatenate([again, heads]), file + heads.rows * first_of_group),
            users.offset,
            _of(mids, alike),
            (tails, file),
        )
    )


def _paths(shown: Shown, root: Ints, inode: NDArray[np.uint64]) -> tuple[Ints, Strings]:
    """Return how many paths each file has, and all of them; files come in order of root and inode."""
    scan = shown.many.scan
    count, paths = scan.paths_of(root, inode)
    rest = np.flatnonzero(root >= len(scan.trees.subvolumes))  # behind all others
    if not len(rest):
        return count, paths
    trees = zip(scan.roots[root[rest]].tolist(), inode[rest].tolist(), strict=True)
    named = [shown.paths(tree, ino) for tree, ino in trees]
    count[rest] = list(map(len, named))
    more = strings.of_list([path for each in named for path in each])
    return count, strings.concatenate([paths, json_names(more)])


def _with_others(
    shown: Shown, answers: Answers, some: slice, lines: Iterable[tuple[bytes, ...]]
) -> Iterable[tuple[bytes, ...]]:
    """Return the parts of *lines*, those that the scan cannot tell replaced."""
    other = np.flatnonzero(answers.kind[some] == OTHER)
    if not len(other):
        return lines
    found = list(lines)
    for row in other.tolist():
        found[row] = (shown.other(answers.first + some.start + row),)
    return found


def _decimals(column: NDArray[Any]) -> Part:
    return _all(strings.decimals(column))


def _known(column: Ints) -> Part:
    """Return numbers, and null for NOWHERE."""
    texts, number = _decimals(np.maximum(column, 0))
    known = strings.concatenate([texts, strings.of_list([b"null"])])
    return known, np.where(column == NOWHERE, len(column), number)


def _of(texts: Sequence[str], number: NDArray[Any]) -> Part:
    return strings.of_list([text.encode() for text in texts]), number.astype(np.intp)


def _is_first(group: Ints) -> NDArray[np.bool_]:
    return np.append(True, group[1:] != group[:-1])[: len(group)]


def _grouped(texts: Strings, group: Ints, bounds: tuple[int, int]) -> Strings:
    """Return the *texts* of each group from one number to another as one; they stand in the order of their groups."""
    at = np.searchsorted(group, np.arange(bounds[0], bounds[1] + 1))
    return Strings(texts.offsets[at], texts.data)


def _all(texts: Strings) -> Part:
    return texts, np.arange(texts.rows)

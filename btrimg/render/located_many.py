"""What stands at many bytes of devices, as JSON of :mod:`located` for each: put together column by column.

Whatever many lines have in common is made into text once; a line is a handful of such texts and numbers.
"""

from __future__ import annotations

from itertools import chain, product, repeat
from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.columns import KINDS as FILE_KINDS
from btrimg.filesystem.extents import COMPRESSION_NAMES
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.render.answers import json_line
from btrimg.render.located_parts import (
    ROLES,
    SLICE,
    Texts,
    copies_of,
    decimals,
    each_of,
    files_of,
    grouped,
    is_first,
    joined,
    known,
    pick,
    with_others,
)
from btrimg.tables.locatemany import KINDS, PARITY
from btrimg.tables.locatestate import STATES
from btrimg.trees.distinct import runs
from btrimg.volume.devicepieces import NOWHERE
from btrimg.volume.profiles import data_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.locate import TreeBlock
    from btrimg.filesystem.strings import Strings
    from btrimg.render.located_parts import Part, Shown
    from btrimg.tables.locatemany import Answers, ManyLocator, Users


def json_chunks(shown: Shown, answers: Answers) -> Iterator[bytes]:
    """Yield the answers as JSONL, with the fields of ``located.piece_object``."""
    lost, which = np.unique(answers.extent[answers.bookend], return_inverse=True)
    holders = shown.many.holders(lost)
    users = _texts_of_users(shown, answers.users, holders)
    texts = users.rows(len(answers.users.whose), len(answers.users.whose) + len(holders.whose))
    kept = grouped(texts, holders.whose, (0, len(lost) + 1)).to_list()
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
            known(answers.physical[some], b"null"),
            b', "logical": ',
            known(np.where(answers.kind[some] == PARITY, NOWHERE, answers.logical[some]), b"null"),
            (mids[0], mids[1][some]),
            each_of(grouped(copies.rows(begin, end), answers.copies.whose[begin:end], bounds)),
            (extents, answers.extent[some] + 1),
            pick(('false, "files": [', 'true, "files": ['), answers.bookend[some]),
        )
        files = grouped(users.rows(first, last), answers.users.whose[first:last], bounds)
        back = [tails[way] for way in scanned.tolist()]
        keepers = [kept[number] for number in kept_by[some].tolist()]
        lines = zip(front.to_list(), files.to_list(), between, keepers, back, strict=False)
        yield b"".join(chain.from_iterable(with_others(shown, answers, some, lines)))


def _heads(answers: Answers) -> Part:
    """Return the beginning of every line."""
    devids, device = np.unique(answers.devid, return_inverse=True)
    shown = ["null" if devid == NOWHERE else str(devid) for devid in devids.tolist()]
    texts = [
        f'{{"kind": "{kind}", "length": 1, "devid": {devid}, "physical": ' for kind, devid in product(KINDS, shown)
    ]
    return pick(texts, answers.kind * np.int64(len(shown)) + device)


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
    return pick(texts, number)


def _extents(many: ManyLocator) -> Strings:
    """Return what stands between copies and bookend: for bytes outside of extents, then for each extent."""
    extents = many.extents
    blocks = strings.of_list([b"null", *map(_block, many.blocks)])
    shown = strings.glue(
        b'], "extent": {"logical": ',
        decimals(extents.logical),
        b', "length": ',
        decimals(extents.length),
        b', "generation": ',
        decimals(extents.generation),
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


def _copies(shown: Shown, answers: Answers) -> Texts:
    """Return the copies, the later ones of an address behind a comma."""
    copies, told = answers.copies, copies_of(shown, answers)
    first = is_first(copies.whose)
    before = [f'{comma}{{"devid": {devid}, "physical": ' for devid, comma in product(told.devids, (", ", ""))]
    after = [
        ", " + json_line({"device": path, "role": role, "csum": state})[1:]
        for path, role, state in product(told.paths, ROLES, STATES)
    ]
    like = (told.device * len(ROLES) + told.role) * len(STATES) + answers.states()
    return Texts((pick(before, told.device * 2 + first), copies.physical, pick(after, like)))


def _texts_of_users(shown: Shown, *several: Users) -> Texts:
    """Return the users, the later ones of an address behind a comma."""
    scan, first_of_group = shown.many.scan, np.concatenate([is_first(users.whose) for users in several])
    users = joined(*several)
    file, root, inode, count, paths = files_of(shown, users)
    each = np.repeat(np.arange(len(count)), count)
    listed = strings.glue(pick((', "', '"'), is_first(each)), each_of(paths), b'"')
    tails = strings.glue(each_of(grouped(listed, each, (0, len(count)))), b"]}")
    trees = strings.of_list([f'{{"subvolume": {tree}, "inode": '.encode() for tree in scan.roots.tolist()])
    heads = strings.glue((trees, root), decimals(inode), b', "offset": ')
    again = strings.glue(b", ", each_of(heads))
    like = (users.length * len(FILE_KINDS) + users.kind) * len(COMPRESSION_NAMES) + users.compression
    begins, run = runs(like)
    likes, alike = np.unique(like[begins], return_inverse=True)
    kinds = product(FILE_KINDS, (COMPRESSION_NAMES[number] for number in sorted(COMPRESSION_NAMES)))
    texts = [f', "kind": "{kind}", "compression": "{compression}", "paths": [' for kind, compression in kinds]
    mids = [f', "length": {number // len(texts)}{texts[number % len(texts)]}' for number in likes.tolist()]
    return Texts(
        (
            (strings.concatenate([again, heads]), file + heads.rows * first_of_group),
            users.offset,
            pick(mids, alike[run]),
            (tails, file),
        )
    )

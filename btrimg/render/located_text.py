"""What stands at many bytes of devices, as text of :mod:`located` for each: put together column by column."""

from __future__ import annotations

from itertools import chain, product
from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.columns import KINDS as FILE_KINDS
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.render.located import block_lines, bytes_text
from btrimg.render.located_parts import (
    ROLES,
    SLICE,
    Texts,
    copies_of,
    decimals,
    each_of,
    files_of,
    grouped,
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

    from numpy.typing import NDArray

    from btrimg.filesystem.strings import Strings
    from btrimg.render.located_parts import Part, Shown
    from btrimg.tables.locatemany import Answers, ManyLocator, Users

    Ints = NDArray[np.int64]


def text_chunks(shown: Shown, answers: Answers) -> Iterator[bytes]:
    """Yield the lines of the answers."""
    lost, which = np.unique(answers.extent[answers.bookend], return_inverse=True)
    whose, texts = _files(shown, "kept by", shown.many.holders(lost))
    kept = grouped(texts.rows(0, len(whose)), whose, (0, len(lost) + 1)).to_list()
    kept_by = np.full(len(answers.kind), len(lost))
    kept_by[answers.bookend] = which
    whose, users = _files(shown, "file", answers.users)
    copies, extents = _copies(shown, answers), _extents(shown.many)
    heads, kinds, rows = _heads(answers), _kinds(answers), _rows_of_parity(shown, answers)
    for start in range(0, len(answers.kind), SLICE):
        some = slice(start, min(start + SLICE, len(answers.kind)))
        bounds = answers.first + some.start, answers.first + some.stop
        first, last = np.searchsorted(whose, bounds).tolist()
        begin, end = np.searchsorted(answers.copies.whose, bounds).tolist()
        front = strings.glue(
            (heads[0], heads[1][some]),
            decimals(np.where(answers.devid[some] == NOWHERE, answers.logical[some], answers.physical[some])),
            (kinds[0], kinds[1][some]),
            (rows[0], rows[1][some]),
            each_of(grouped(copies.rows(begin, end), answers.copies.whose[begin:end], bounds)),
            _logical(answers, some),
            (extents, answers.extent[some] + 1),
        )
        files = grouped(users.rows(first, last), whose[first:last], bounds)
        keepers = [kept[number] for number in kept_by[some].tolist()]
        lines = zip(front.to_list(), files.to_list(), keepers, strict=True)
        yield b"".join(chain.from_iterable(with_others(shown, answers, some, lines)))


def _heads(answers: Answers) -> Part:
    """Return what stands before the address that was asked for."""
    devids, device = np.unique(answers.devid, return_inverse=True)
    return pick(["logical " if devid == NOWHERE else f"device {devid}, " for devid in devids.tolist()], device)


def _kinds(answers: Answers) -> Part:
    ends = ("", " that no file reaches")
    return pick([f": {kind}, 1 byte{end}\n" for kind, end in product(KINDS, ends)], answers.kind * 2 + answers.bookend)


def _rows_of_parity(shown: Shown, answers: Answers) -> Part:
    """Return of bytes of parity what they are the parity of."""
    parity, texts = np.flatnonzero(answers.kind == PARITY), [""]
    for logical, at in zip(answers.logical[parity].tolist(), answers.chunk[parity].tolist(), strict=True):
        chunk = shown.many.chunks[at]
        length = data_columns(len(chunk.stripes), chunk.profile) * STRIPE_LEN
        texts.append(f"  row       of {length} bytes at logical {logical}\n")
    number = np.zeros(len(answers.kind), np.intp)
    number[parity] = 1 + np.arange(len(parity))
    return pick(texts, number)


def _logical(answers: Answers, some: slice) -> Part:
    """Return the line of the logical address, where it is not what was asked for."""
    logical = answers.logical[some]
    told = (answers.devid[some] != NOWHERE) & (logical != NOWHERE) & (answers.kind[some] != PARITY)
    lines = strings.glue(b"  logical   ", decimals(np.maximum(logical, 0)), b"\n")
    return strings.concatenate([lines, strings.of_list([b""])]), np.where(told, np.arange(len(told)), len(told))


def _extents(many: ManyLocator) -> Strings:
    """Return the lines of bytes outside of extents, none, then those of each extent."""
    extents = many.extents
    blocks = strings.of_list(
        [b"", *("".join(f"{line}\n" for line in block_lines(each)).encode() for each in many.blocks)]
    )
    shown = strings.glue(
        b"  extent    ",
        decimals(extents.logical),
        b", ",
        decimals(extents.length),
        b" bytes, generation ",
        decimals(extents.generation),
        b"\n",
        (blocks, many.block_of_extent + 1),
    )
    return strings.concatenate([strings.of_list([b""]), shown])


def _copies(shown: Shown, answers: Answers) -> Texts:
    """Return the line of each copy."""
    copies, told = answers.copies, copies_of(shown, answers)
    before = [f"  {role:<9} {devid}:" for devid, role in product(told.devids, ROLES)]
    after = [f" on {path or 'a missing device'}, checksum {state}\n" for path, state in product(told.paths, STATES)]
    return Texts(
        (
            pick(before, told.device * len(ROLES) + told.role),
            copies.physical,
            pick(after, told.device * len(STATES) + answers.states()),
        )
    )


def _files(shown: Shown, label: str, users: Users) -> tuple[Ints, Texts]:
    """Return the lines of parts of files, one for each path, and whose they are."""
    files = files_of(shown, users)
    names = strings.concatenate([files.paths, strings.of_list([b"a file without a name"])])
    first_path = np.where(files.names > 0, np.cumsum(files.names) - files.names, files.paths.rows)
    lines = np.maximum(files.names, 1)[files.of_user]
    user = np.repeat(np.arange(len(lines)), lines)
    file = files.of_user[user]
    nth = np.arange(len(user)) - np.repeat(np.cumsum(lines) - lines, lines)
    trees = strings.of_list([f", subvolume {tree}): offset ".encode() for tree in shown.many.scan.roots.tolist()])
    inodes = strings.glue(b" (inode ", decimals(files.inode), (trees, files.root))
    begins, run = runs(users.length * len(FILE_KINDS) + users.kind)
    likes, alike = np.unique((users.length * len(FILE_KINDS) + users.kind)[begins], return_inverse=True)
    ends = (divmod(like, len(FILE_KINDS)) for like in likes.tolist())
    tails = [f", {bytes_text(length)}, {FILE_KINDS[kind]}\n" for length, kind in ends]
    return users.whose[user], Texts(
        (
            pick([f"  {label:<9} "], np.zeros(len(user))),
            (names, first_path[file] + nth),
            (inodes, file),
            users.offset[user],
            pick(tails, alike[run[user]]),
        )
    )

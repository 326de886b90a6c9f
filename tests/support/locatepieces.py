"""Answers about many addresses as the pieces that :class:`btrimg.filesystem.locate.Locator` gives of one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem.backrefs import Extent
from btrimg.filesystem.columns import KINDS as FILE_KINDS
from btrimg.filesystem.copystate import CopyState
from btrimg.filesystem.locate import Piece, Sharer
from btrimg.tables.locatemany import KINDS, OTHER, PARITY
from btrimg.tables.locatestate import STATES
from btrimg.volume.devicepieces import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.tables.locatemany import Answers, ManyLocator, Users


def pieces_of(image: Image, many: ManyLocator, answers: Answers, other: Callable[[int], Piece]) -> Iterator[Piece]:
    """Yield each of *answers* as a piece of 1 byte; of what the scan cannot tell, *other* of its number."""
    copies, users = _copies(image, many, answers), _sharers(many, answers.users)
    lost = np.unique(answers.extent[answers.bookend])
    holders = dict(zip(lost.tolist(), _by_whose(many.holders(lost), many, len(lost)), strict=True))
    rows = zip(*(column.tolist() for column in answers[1:9]), strict=True)
    copy = user = 0
    for at, (kind, devid, physical, logical, chunk, extent, block, bookend) in enumerate(rows, answers.first):
        own_copies, own_users = [], []
        while copy < len(copies) and answers.copies.whose[copy] == at:
            own_copies.append(copies[copy])
            copy += 1
        while user < len(users) and answers.users.whose[user] == at:
            own_users.append(users[user])
            user += 1
        if kind == OTHER:
            yield other(at)
            continue
        yield Piece(
            KINDS[kind],
            1,
            _or_none(devid),
            _or_none(physical),
            _or_none(logical),
            many.chunks[chunk] if chunk != NOWHERE else None,
            tuple(own_copies),
            _extent(many, extent),
            many.blocks[block] if block != NOWHERE else None,
            tuple(own_users),
            bookend,
            tuple(holders[extent]) if bookend else (),
            "scan" if chunk != NOWHERE and kind != PARITY else None,
        )


def _or_none(number: int) -> int | None:
    return None if number == NOWHERE else number


def _extent(many: ManyLocator, row: int) -> Extent | None:
    if row == NOWHERE:
        return None
    logical, length, level, generation = (int(column[row]) for column in many.extents)
    return Extent(logical, length, None if level < 0 else level, generation)


def _copies(image: Image, many: ManyLocator, answers: Answers) -> list[CopyState]:
    found = []
    columns = (*answers.copies, answers.states())
    for whose, number, devid, physical, state in zip(*(column.tolist() for column in columns), strict=True):
        chunk, device = many.chunks[answers.chunk[whose - answers.first]], image.volume.devices.get(devid)
        role = f"mirror {number + 1}" if chunk.profile.copies > 1 else "data"
        if answers.kind[whose - answers.first] == PARITY:
            role = "PQ"[number]
        found.append(CopyState(devid, physical, device.path if device else None, role, STATES[state]))
    return found


def _sharers(many: ManyLocator, users: Users) -> list[Sharer]:
    columns = (many.scan.roots[users.root], users.inode, users.offset, users.length, users.kind, users.compression)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Sharer(tree, ino, offset, length, FILE_KINDS[kind], packed) for tree, ino, offset, length, kind, packed in rows
    ]


def _by_whose(users: Users, many: ManyLocator, count: int) -> list[list[Sharer]]:
    sharers, bounds = _sharers(many, users), np.searchsorted(users.whose, np.arange(count + 1)).tolist()
    return [sharers[begin:end] for begin, end in pairwise(bounds)]

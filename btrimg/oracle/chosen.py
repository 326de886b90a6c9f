"""What to compare of an image, or of what is below one path: a choice, and the whole that it is of."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import BlockError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN
from btrimg.oracle.survey import Extents, some_of, spread, subject_of
from btrimg.trees.salvage import walk
from btrimg.units import round_down

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.oracle.setting import Setting
    from btrimg.oracle.survey import Subject, Survey


class Chosen(NamedTuple):
    """What to compare, and how many there are of each; None where that is not known."""

    subjects: Sequence[Subject]
    inodes: int | None
    unnamed: int  #: of the chosen ones, how many hang nowhere
    directories: int | None
    regular: int | None
    swapfiles: Sequence[Subject]
    extents: Extents  #: all that there are; those to compare are spread over them
    subvolumes: Sequence[int]  #: ids; none where only what is below a path is asked for

    def addresses(self, sectorsize: int, most: int | None) -> list[int]:
        """Return a logical address in each of at most *most* data extents: the start of one, the middle of the next."""
        logical, length = self.extents.logical[self.extents.data], self.extents.length[self.extents.data]
        chosen = spread(len(logical), most).tolist()
        return [
            int(logical[at]) + (round_down(int(length[at]) // 2, sectorsize) if number % 2 else 0)
            for number, at in enumerate(chosen)
        ]


def of_image(setting: Setting, survey: Survey) -> Chosen:
    """Return the choice of a whole image."""
    image, most = setting.image, setting.most
    # Directories and symlinks are few among files, and so are files that may be swap files.
    picked = {*survey.pick(most), *survey.pick(setting.share(4), stat.S_IFDIR)}
    picked.update(survey.pick(setting.share(10), stat.S_IFLNK))
    subjects = list(_named(image, sorted(picked)))
    candidates = {
        *survey.pick(setting.share(2), stat.S_IFREG, nocow=True),
        *survey.pick(setting.share(4), stat.S_IFREG),
    }
    return Chosen(
        subjects,
        survey.count(),
        len(picked) - len(subjects),
        survey.count(stat.S_IFDIR),
        survey.count(stat.S_IFREG),
        list(_named(image, sorted(candidates))),
        survey.extents(),
        [each.id for each in survey.subvolumes if image.path_of_subvolume(each.id) is not None],
    )


def below(setting: Setting, subjects: Sequence[Subject]) -> Chosen:
    """Return the choice of some inodes."""
    chosen = some_of(subjects, setting.most)
    whole = len(chosen) == len(subjects)
    kinds = [setting.image.open(each.path, follow=False).item.mode & 0o170000 for each in chosen]
    regular = [each for each, kind in zip(chosen, kinds, strict=True) if kind == stat.S_IFREG]
    return Chosen(
        chosen,
        len(subjects),
        0,
        kinds.count(stat.S_IFDIR) if whole else None,
        len(regular) if whole else None,
        some_of(regular, setting.most),
        _extents_of(setting.image, regular),
        [],
    )


def _named(image: Image, picked: Iterable[tuple[int, int]]) -> Iterator[Subject]:
    for subvolume, ino in picked:
        subject = subject_of(image, subvolume, ino)
        if subject:
            yield subject


def _extents_of(image: Image, subjects: Iterable[Subject]) -> Extents:
    """Return the extents that files use, in order of address."""
    used = {
        (row.extent.logical, row.extent.length)
        for subject in subjects
        for row in image.open(subject.path, follow=False).extents()
        if row.extent
    }
    logical, length = zip(*sorted(used), strict=True) if used else ((), ())
    true = np.ones(len(used), np.bool_)
    return Extents(np.array(logical, np.uint64), np.array(length, np.uint64), true, true)


def blocks_of(image: Image, subjects: Iterable[Subject]) -> list[int]:
    """Return the addresses of the tree blocks that lead to and hold the items of some inodes, in order."""
    found: set[int] = set()
    for subject in subjects:
        first, last = KEY_MIN._replace(objectid=subject.ino), KEY_MAX._replace(objectid=subject.ino)
        root = image.subvolume(subject.subvolume).tree.root
        found.update(
            at.logical for at, block in walk(image.blocks, root, first, last) if not isinstance(block, BlockError)
        )
    return sorted(found)

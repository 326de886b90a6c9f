"""Files under the two schemes whose keys are not enough: pages are compared, or read wrong as in the posted patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.filesystem.inode import Inode
from btrimg.pagecache.handle import CachedFile
from btrimg.pagecache.pages import PAGE, REFUSALS
from btrimg.pagecache.schemes import KIND_MASK, POSTED
from btrimg.pagecache.through import StoredFile

if TYPE_CHECKING:
    from btrimg.pagecache.cache import Claim, PageCache
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.fill import Stored
    from btrimg.pagecache.handle import Run
    from btrimg.pagecache.pages import Place

_DAMAGED = REFUSALS.index("damaged")


class ComparedFile(CachedFile):
    """A file whose pages are found by their checksums, and compared before they are taken for the same."""

    __slots__ = ("_file",)

    def __init__(self, cache: PageCache, place: Place, size: int, runs: list[Run], rows: tuple[FileRows, int]) -> None:
        super().__init__(cache, place, size, runs, rows)
        self._file: StoredFile | None = None

    def _read(self, room: memoryview, offset: int) -> None:
        if all(run[4] == _DAMAGED for run in self._runs):
            super()._read(room, offset)  # there is nothing that pages could be found by, and no list of extents
            return
        cache = self._cache
        if self._file is None:
            with cache.store.filling:
                inode = Inode(cache.image, cache.image.subvolume(self.place.subvolume), self.place.inode)
                self._file = StoredFile(cache.store, inode, cache.scheme, cache.domains)
        self._file.read_committed(room, offset)


class PostedFile(CachedFile):
    """A file that is read as the patches posted in 2021 would; pages that are not the file's bytes are counted."""

    __slots__ = ()
    _remembers = False  # every read is looked at

    def _read(self, room: memoryview, offset: int) -> None:
        super()._read(room, offset)
        cache = self._cache
        with cache.store.filling:
            inode = Inode(cache.image, cache.image.subvolume(self.place.subvolume), self.place.inode)
            true = memoryview(inode.read(offset, len(room)))
        ends = [*range(PAGE - offset % PAGE, len(room), PAGE), len(room)]
        wrong = sum(room[at:end] != true[at:end] for at, end in zip([0, *ends], ends, strict=False))
        with cache.store.lock:
            cache.account.wrong += wrong

    def _window(self, run: Run, where: Stored | None, first: int, last: int, most: int) -> tuple[int, int]:
        return super()._window(run, where if run[2][0] & KIND_MASK != POSTED else None, first, last, most)

    def _bring(self, room: memoryview, offset: int, run: Run, where: Stored | None, claim: Claim, first: int) -> int:
        (space, devid), base = run[2], run[3] - run[0]
        if space & KIND_MASK != POSTED:
            return super()._bring(room, offset, run, where, claim, first)
        filler = self._cache.filler
        start, end = claim.start - base, claim.end - base

        def fill(piece: memoryview, at: int) -> None:
            piece[:] = filler.as_device(devid, base + at, len(piece) // PAGE)

        self._admit(room, offset, run, start, end, 0, fill)
        return end

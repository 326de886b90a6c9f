"""The shared page cache over an image that is only read: files that have equal keys for a page have one page."""

from __future__ import annotations

from threading import Event, Lock
from typing import TYPE_CHECKING, Self

import numpy as np

from btrimg.errors import RefusedError
from btrimg.named import NamedTuple
from btrimg.pagecache import filerows
from btrimg.pagecache.fill import Filler
from btrimg.pagecache.handle import CachedFile
from btrimg.pagecache.pages import PAGE, Place
from btrimg.pagecache.schemes import NONE, SCHEMES, Domains
from btrimg.pagecache.special import ComparedFile, PostedFile
from btrimg.pagecache.statistics import Account, Statistics
from btrimg.pagecache.store import PageStore
from btrimg.pagecache.sweep import Sweep
from btrimg.pagecache.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.handle import Run
    from btrimg.pagecache.pages import KeyRuns
    from btrimg.pagecache.supply import Supply
    from btrimg.pagecache.sweep import Piece

_BATCH = 4096  # files of which keys are Python's numbers at once


class Claim(NamedTuple):
    """Pages that a thread brings in."""

    start: int
    end: int
    done: Event


class PageCache:
    """At most *budget* bytes of pages, a page at least, of files of *image* (context manager).

    *scheme* and *policy* are names of SCHEMES and POLICIES, *domains* the trust domains. With *direct*, devices are
    read around the kernel's own page cache where that can be had. With *account*, statistics say what each file uses
    and how long reads took, which makes them slower. Safe for many threads; the image, which nobody writes to, is the
    cache's meanwhile.
    """

    def __init__(
        self,
        image: Image,
        *,
        budget: int,
        scheme: str = "extent",
        policy: str = "lru",
        domains: Domains | None = None,
        direct: bool = False,
        account: bool = False,
    ) -> None:
        self.image, self.scheme, self.domains = image, SCHEMES[scheme], domains or Domains()
        self.store = PageStore(max(budget // PAGE, 1), policy)
        self.filler = Filler(image, self.store.filling, direct=direct)
        self.views = Views(image)
        self.account = Account(self.store, by_file=account)
        self.sweeping = Lock()  #: held by who brings in pages for many files: one at a time
        self.supplies: list[Supply] = []  #: of those who do so now
        self._claims: dict[tuple[int, int], list[Claim]] = {}
        self._readers = 0
        self._kind = {"device-posted": PostedFile, "content": ComparedFile}.get(scheme, CachedFile)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back; ValueError is raised by what is read afterwards, or still is."""
        with self.store.lock:
            self.store.closed = True
            waited_for = [claim.done for claims in self._claims.values() for claim in claims]
        for done in waited_for:  # who uses a device that is closed might get another file's bytes
            done.wait()
        with self.sweeping:
            for supply in self.supplies:  # waits for those that bring pages in, who look at checksums meanwhile
                supply.close()
            with self.store.filling:
                self.filler.close()
                self.store.close()

    @property
    def fd(self) -> int:
        """Return the descriptor of the memory, for other processes to map: frame k is at byte k * PAGE."""
        return self.store.arena.fd

    def open(self, inode: Inode) -> CachedFile:
        """Open a regular file; raise RefusedError if it is none, CorruptError when the inode cannot be read."""
        with self.store.filling:
            if not inode.is_regular:
                raise RefusedError(f"{inode.quoted} is no regular file: it has no pages")
            rows = filerows.of_inode(inode)
            keys = self.scheme.keys(rows, self.domains)
        return next(self._opened(rows, keys, range(1)))

    def open_all(self, tops: Sequence[Inode] = ()) -> Iterator[CachedFile]:
        """Open all regular files of all subvolumes, or of those below *tops*, in order of subvolume and inode.

        Keys of all are made at once. What cannot be read is reported to the image and skipped.
        """
        with self.store.filling:
            rows = filerows.of_image(self.image, tops, inline=True)
            keys = self.scheme.keys(rows, self.domains)
        for start in range(0, rows.files.rows, _BATCH):
            yield from self._opened(rows, keys, range(start, min(start + _BATCH, rows.files.rows)))

    def read_all(self, tops: Sequence[Inode] = ()) -> Iterator[Piece]:
        """Read all regular files of all subvolumes, or of those below *tops*, once each, in order of subvolume, inode.

        Yields their bytes in pieces, without holes. This is the fastest way to read much: what many files need comes in
        together, each page once. Inline data are handed out and not kept. What cannot be had is a piece with an error.
        """
        self.store.check_open()
        with self.store.filling:
            rows = filerows.of_image(self.image, tops, inline=True)
            keys = self.scheme.keys(rows, self.domains)
        together = self._kind is CachedFile and self.scheme.name != "none" and not self.account.by_file
        try:
            return Sweep(self, rows, keys, alone=not together).pieces()
        except ValueError:  # from the memory, when somebody closes the cache
            self.store.check_open()
            raise

    def handle_of(self, rows: FileRows, keys: KeyRuns, file: int) -> CachedFile:
        """Return one of the files of *rows*, opened."""
        return next(self._opened(rows, keys, range(file, file + 1)))

    def _opened(self, rows: FileRows, keys: KeyRuns, files: range) -> Iterator[CachedFile]:
        bounds = np.searchsorted(keys.file, np.arange(files.start, files.stop + 1)).tolist()
        part = slice(bounds[0], bounds[-1])
        columns = (keys.page, keys.pages, keys.space, keys.unit, keys.number, keys.refusal, keys.row)
        page, pages, space, unit, number, refusal, row = (column[part].tolist() for column in columns)
        if self.scheme.name == "none":
            space, unit = self._apart(keys.file[part], unit)
        ends = map(int.__add__, page, pages)
        runs: list[Run] = list(zip(page, ends, zip(space, unit, strict=True), number, refusal, row, strict=True))
        table = rows.files
        places = zip(*(column[files.start : files.stop].tolist() for column in table[:3]), strict=True)
        first = bounds[0]
        for file, (subvolume, inode, size), start, end in zip(files, places, bounds[:-1], bounds[1:], strict=True):
            yield self._kind(self, Place(subvolume, inode), size, runs[start - first : end - first], (rows, file))

    def _apart(self, file: np.ndarray[tuple[int], np.dtype[np.int64]], unit: list[int]) -> tuple[list[int], list[int]]:
        """Return spaces and units that no other reader has, also of the same file."""
        with self.store.lock:
            first = self._readers
            self._readers += int(file[-1] - file[0]) + 1 if len(file) else 0
        return ((file - (file[0] if len(file) else 0) + first) << 8 | NONE).tolist(), unit

    def statistics(self) -> Statistics:
        """Return what happened so far, and what is in memory."""
        return self.account.statistics()

    # One thread brings a page in, others wait for it. All this under the lock of the store.

    def claim(self, holder: tuple[int, int], start: int, end: int) -> Claim | Event:
        """Return a claim on pages number [start, end) of a *holder*, or what to wait for: another has some of them."""
        self.store.check_open()
        claims = self._claims.setdefault(holder, [])
        for other in claims:
            if other.start < end and start < other.end:
                return other.done
        claims.append(claim := Claim(start, end, Event()))
        return claim

    def release(self, holder: tuple[int, int], claim: Claim) -> None:
        """Give a claim up: pages are here now, or could not be had."""
        with self.store.lock:
            claims = self._claims[holder]
            claims.remove(claim)
            if not claims:
                del self._claims[holder]
        claim.done.set()

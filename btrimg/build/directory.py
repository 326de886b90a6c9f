"""A directory of the host as a source of files, walked so that the same tree gives the same entries.

A directory's entries come in the order of their bytes: first all that are no directories, then one subdirectory
after the other with all that is below it. Every name is opened in the open directory that it was listed in, never
following a link, so neither a long path nor a renamed parent leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from operator import itemgetter

from btrimg.build.entries import PIECE, XATTRS_KEPT, Entry, until
from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple
from btrimg.units import round_down, round_up
from btrimg.volume.statx import stat as statx
from btrimg.volume.statx import stat_without_birth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator

    from btrimg.build.entries import Pieces, Xattrs
    from btrimg.volume.statx import Stat

    Identity = tuple[int, int]  # of a file of the host: st_dev, st_ino

# A FIFO or device that takes a file's place must not make us wait.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_BLOCK = 512  # bytes of a block that stat counts, whatever the filesystem's own are


class Selection(NamedTuple):
    """What of a directory is taken, and how."""

    exclude: Collection[bytes] = ()  #: patterns: of names, or with a slash of paths from the top, * is no slash
    one_filesystem: bool = False  #: leave out what is in other filesystems, mounted below
    owner: tuple[int, int] | None = None  #: uid and gid of everything
    latest: int | None = None  #: ns since 1970: later times become that
    without: Collection[Identity] = ()  #: files that are left out with a warning: those being written


class _Level(NamedTuple):
    """A directory whose subdirectories are being walked."""

    path: bytes
    identity: Identity
    below: list[bytes]  # names of subdirectories still to come, the next one last


def read_directory(
    top: bytes, sectorsize: int, selection: Selection, warn: Callable[[str], None] = lambda _text: None
) -> Iterator[Entry]:
    """Yield an entry for the directory *top* of the host and for all that is in it.

    Raises BtrimgError that names what cannot be read, or what changed while it was read.
    """
    return _Walk(top, sectorsize, selection, warn).entries()


def reader_of_anything(
    sectorsize: int, selection: Selection, warn: Callable[[str], None] = lambda _text: None
) -> Callable[[bytes], Iterator[Entry]]:
    """Return what yields an entry for what is at a path of the host, and for all that is in a directory.

    A link at the path is followed. Times of creation are those of the last change of the content.
    Errors are those of :func:`read_directory`.
    """
    return _Walk(b"", sectorsize, selection, warn, stat_without_birth).anything


class _Walk:
    """One walk; it keeps two directories and a file open at most, whatever the depth."""

    def __init__(
        self,
        top: bytes,
        sectorsize: int,
        selection: Selection,
        warn: Callable[[str], None],
        stat_of: Callable[[bytes, int], Stat] = statx,
    ) -> None:
        self._stat_of = stat_of
        self._top, self._sectorsize, self._warn = top, sectorsize, warn
        self._owner, self._latest, self._without = selection.owner, selection.latest, selection.without
        self._one_filesystem = selection.one_filesystem
        self._inos_without = {ino for _, ino in selection.without}
        self._patterns = [_parts(pattern) for pattern in selection.exclude]
        self._first_names: dict[Identity, bytes] = {}
        self._at = b""  # the path that is being read

    def entries(self) -> Iterator[Entry]:
        """Yield an entry for each object, the directories by going down into them and up again."""
        levels: list[_Level] = []
        opened: list[int] = []
        try:
            opened.append(open_unnoticed(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            found = self._stat_of(b"", opened[0])
            device = found.dev
            levels.append(_Level(b"", (found.dev, found.ino), (yield from self._directory(opened[0], b"", found))))
            while levels:
                if not levels[-1].below:
                    levels.pop()
                    if levels:
                        opened.append(self._above(opened[0], levels[-1]))
                        os.close(opened.pop(0))
                    continue
                name = levels[-1].below.pop()
                self._at = at = _join(levels[-1].path, name)
                opened.append(open_unnoticed(name, _DIRECTORY, opened[0]))
                found = self._stat_of(b"", opened[1])
                if found.dev != device and self._one_filesystem:
                    yield self._entry(found, self._xattrs(opened[1]))
                    below = []
                else:
                    below = yield from self._directory(opened[1], at, found)
                if below:
                    levels.append(_Level(at, (found.dev, found.ino), below))
                os.close(opened.pop(0 if below else 1))
        except OSError as error:
            raise self._failed(error) from None
        finally:
            for fd in opened:
                os.close(fd)

    def anything(self, path: bytes) -> Iterator[Entry]:
        """Yield the entry of what is at *path*, a link followed, and of all that is in a directory."""
        self._top, self._at = path, b""
        if self._first_names:
            self._first_names = {}
        try:
            mode = os.stat(path).st_mode
        except OSError:
            mode = 0  # who opens it says what is wrong
        if stat.S_ISDIR(mode):
            return self.entries()
        return self._single_file() if stat.S_ISREG(mode) else self._single_special()

    def _single_file(self) -> Iterator[Entry]:
        try:
            yield from self._file(open_unnoticed(self._top, _FILE & ~os.O_NOFOLLOW))
        except OSError as error:
            raise self._failed(error) from None

    def _single_special(self) -> Iterator[Entry]:
        try:
            head, name = os.path.split(os.path.realpath(self._top))
            directory = open_unnoticed(head, _DIRECTORY)
            try:
                yield self._special(directory, name)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._failed(error) from None

    def _above(self, fd: int, level: _Level) -> int:
        """Open the directory in which *fd* lies, which must still be that of *level*."""
        self._at = level.path
        parent = open_unnoticed(b"..", _DIRECTORY, fd)
        found = os.fstat(parent)
        if (found.st_dev, found.st_ino) != level.identity:
            os.close(parent)
            raise self._changed("was moved")
        return parent

    def _directory(self, fd: int, path: bytes, found: Stat) -> Generator[Entry, None, list[bytes]]:
        """Yield the directory *fd* and what is in it but directories; return the names of those, the first one last."""
        yield self._entry(found, self._xattrs(fd))
        below = []
        for name, listed in self._listing(fd, path):
            if listed.is_file(follow_symlinks=False):
                self._at = _join(path, name)
                yield from self._file(open_unnoticed(name, _FILE, fd))
            elif listed.is_dir(follow_symlinks=False):
                below.append(name)
            else:
                self._at = _join(path, name)
                yield self._special(fd, name)
        return below[::-1]

    def _listing(self, fd: int, path: bytes) -> list[tuple[bytes, os.DirEntry[str]]]:
        """Return all in a directory that is not excluded, in the order of names."""
        with os.scandir(fd) as entries:
            listing = [(os.fsencode(entry.name), entry) for entry in entries]
        listing.sort(key=itemgetter(0))
        if self._patterns:
            return [each for each in listing if not self._is_excluded(_join(path, each[0]))]
        return listing

    def _is_excluded(self, path: bytes) -> bool:
        from fnmatch import fnmatchcase

        names = _names(path)
        return any(
            len(names) == len(pattern) and all(map(fnmatchcase, names, pattern))
            if anchored
            else fnmatchcase(names[-1], pattern[0])
            for anchored, pattern in self._patterns
        )

    def _entry(
        self,
        found: Stat,
        xattrs: Xattrs = (),
        size: int = 0,
        pieces: Pieces = (),
        target: bytes = b"",
        device: tuple[int, int] = (0, 0),
        same_as: bytes | None = None,
        dense: bool = True,
    ) -> Entry:
        _, uid, gid, mode, _, _, _, atime, ans, btime, bns, ctime, cns, mtime, mns, *_ = found
        if not btime:
            btime, bns = mtime, mns
        times = (atime, ans, ctime, cns, mtime, mns, btime, bns)
        if self._latest is not None:
            times = until(times, self._latest)
        return Entry(
            self._at, mode, self._owner or (uid, gid), times, xattrs, size, pieces, dense, target, device, same_as
        )

    def _further_name(self, found: Stat) -> Entry | None:
        """Return the entry for a further name of a file that came already; take note of the first one."""
        first = self._first_names.setdefault((found.dev, found.ino), self._at)
        return None if first == self._at else self._entry(found, same_as=first)

    def _file(self, fd: int) -> Iterator[Entry]:
        """Yield the entry of a regular file, unless it is to be left out; close *fd* when its content was read."""
        try:
            entry = self._regular(fd)
            if entry:
                yield entry
        finally:
            os.close(fd)

    def _regular(self, fd: int) -> Entry | None:
        """Return the entry of a regular file, None when it is to be left out."""
        found = self._stat_of(b"", fd)
        size, dense = found.size, found.blocks * _BLOCK >= found.size
        if not stat.S_ISREG(found.mode):
            raise self._changed("is no regular file any more")
        if found.nlink > 1:
            further = self._further_name(found)
            if further:
                return further
        if found.ino in self._inos_without and (found.dev, found.ino) in self._without:
            if not self._at:  # it was named
                raise BtrimgError(f"{self._name()} cannot be put into the image: it is what is being written")
            self._warn(f"{self._name()} is left out: it is what is being written")
            return None
        pieces: Pieces = ()
        if not dense:
            pieces = self._ranges(fd, _data_ranges(fd, size, self._sectorsize))
        elif size > PIECE:
            pieces = self._ranges(fd, [(0, size)])
        elif size:
            pieces = ((0, self._read(fd, 0, size)),)
        return self._entry(found, self._xattrs(fd), size, pieces, dense=dense)

    def _special(self, directory: int, name: bytes) -> Entry:
        """Return the entry of what is no directory and no regular file."""
        found = self._stat_of(name, directory)
        further = self._further_name(found) if found.nlink > 1 else None
        if further:
            return further
        if stat.S_ISREG(found.mode) or stat.S_ISDIR(found.mode):
            raise self._changed("was something else a moment ago")
        # There is no call that takes a directory and a name.
        xattrs = self._xattrs(b"/proc/self/fd/%d/%s" % (directory, name))
        if stat.S_ISLNK(found.mode):
            return self._entry(found, xattrs, target=os.readlink(name, dir_fd=directory))
        return self._entry(found, xattrs, device=(found.rdev_major, found.rdev_minor))

    def _xattrs(self, at: int | bytes) -> Xattrs:
        """Return the extended attributes of an open file, or of what is at a path, that btrfs can hold."""
        follow = isinstance(at, int)
        try:
            names = os.listxattr(at, follow_symlinks=follow)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return ()
            raise
        if not names:
            return ()
        kept = sorted(name for name in map(os.fsencode, names) if name.startswith(XATTRS_KEPT))
        return tuple((name, os.getxattr(at, name, follow_symlinks=follow)) for name in kept)

    def _ranges(self, fd: int, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of ranges of a file, piece by piece."""
        try:
            for start, end in ranges:
                for at in range(start, end, PIECE):
                    yield at, self._read(fd, at, min(PIECE, end - at))
        except OSError as error:
            raise self._failed(error) from None

    def _read(self, fd: int, at: int, length: int) -> bytes:
        data = os.pread(fd, length, at)
        while len(data) < length:
            more = os.pread(fd, length - len(data), at + len(data))
            if not more:
                raise self._changed("became shorter")
            data += more
        return data

    # Errors

    def _name(self) -> str:
        return ascii(os.fsdecode(_join(self._top, self._at) if self._at else self._top))

    def _changed(self, how: str) -> BtrimgError:
        return BtrimgError(f"{self._name()} {how} while it was read; nothing may change the directory meanwhile")

    def _failed(self, error: OSError) -> BtrimgError:
        if error.errno == errno.ENOENT and self._at:
            return self._changed("vanished")
        return BtrimgError(f"cannot read {self._name()}: {error.strerror}")


def _names(path: bytes) -> list[str]:
    return path.strip(b"/").decode("latin-1").split("/")


def _parts(pattern: bytes) -> tuple[bool, list[str]]:
    """Return whether a pattern is of whole paths, and the patterns of their names."""
    return b"/" in pattern.rstrip(b"/"), _names(pattern)


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def open_unnoticed(name: bytes, flags: int, directory: int | None = None) -> int:
    """Open *name*, without a trace in its access time where we may do that."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        return os.open(name, flags, dir_fd=directory)


def _data_ranges(fd: int, size: int, sectorsize: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what is no hole, in whole sectors but for the end of the file."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole follows
                return
            raise
        start = max(round_down(start, sectorsize), at)
        at = min(round_up(end, sectorsize), size)
        if start < at:
            yield start, at

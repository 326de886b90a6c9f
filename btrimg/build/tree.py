"""Whole trees of files made of entries: what a directory or an archive holds, put into a subvolume in bulk.

Names are kept back and put a directory at a time, so that nothing needs to be looked up in a new one; inode numbers
rise with the entries, so that the items of files are appended to the tree. After so many items what is held back is
put and the tree is flushed, which bounds the memory whatever the size of the source.
"""

from __future__ import annotations

import stat

from btrimg.build.entries import Entry
from btrimg.build.filequeue import FileQueue
from btrimg.build.imported import attributes_differ, change_attributes, compression_flags, create, create_symlink
from btrimg.build.paths import Spot
from btrimg.build.puts import clash
from btrimg.errors import BtrimgError, CorruptError, DeviceError, HalfDoneError, NoSpaceError, RefusedError
from btrimg.filesystem.edit_names import entry_named
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileType, InodeFlag, ItemType
from btrimg.write import inodes, names
from btrimg.write.collector import uncollected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.build.entries import Clock
    from btrimg.build.filedata import FileData
    from btrimg.build.paths import Paths
    from btrimg.build.values import Compression, Storage
    from btrimg.write.data import DataSink

_LOOK = 256  # entries after which what is pending is counted
_MOST_PENDING = 100_000  # items, and names held back, that are kept in memory
_MOST_EXTENTS = 50_000  # of data, new and not yet in the extent tree


class Directory:
    """A directory that entries go to."""

    __slots__ = ("entry", "exists", "filled", "ino", "names", "path")

    def __init__(self, path: bytes, ino: int, *, exists: bool, filled: bool, entry: Entry | None = None) -> None:
        self.path, self.ino = path, ino
        self.exists = exists  #: whether its inode item has been put
        self.filled = filled  #: whether it may have names besides those held back
        self.entry = entry  #: what its attributes shall be, None when they stay
        self.names: dict[bytes, tuple[int, FileType]] = {}  #: held back


class TreeWriter:
    """Makes files of entries in the directory *top*.

    An entry takes the place of what has its name, but a directory that is there stays and gets the attributes.
    """

    def __init__(
        self,
        top: Spot,
        paths: Paths,
        sink: DataSink,
        data: FileData,
        storage: Storage,
        progress: Callable[[int, int], None] = lambda _things, _bytes: None,
        *,
        whole: bool = False,
        as_cp: bool = False,
    ) -> None:
        """Begin; where much is made there are commits in between, unless it is to be done as a *whole*.

        *as_cp* refuses to let a directory take the place of what is none, and the other way round.
        """
        self._top, self._files, self._paths = top, top.files, paths
        self._data, self._storage, self._progress, self._whole = data, storage, progress, whole
        self._as_cp = as_cp
        flags = inodes.read(*top).flags
        self._directory_flags = inodes.inherited_flags(flags, stat.S_IFDIR)
        self._file_flags = inodes.inherited_flags(flags, stat.S_IFREG) | _own_flags(storage)
        self._compressions: dict[int, Compression] = {}
        self._sink = sink
        self._queue = FileQueue(self._files, sink, self._file_flags)
        self._directories: dict[bytes, Directory] = {}
        self._names_held = 0
        self._count = self._bytes = 0  # since somebody looked
        self._begun = False  # so that names are to be given to what is made already
        self._first_new = 0  # inodes from here on are made by this writer; 0 while there are none
        self._entered: set[int] = set()  # older directories that something was put into, somewhere below
        self._kept: set[tuple[int, bytes]] = set()  # names, by directory, of older files that have come again
        self._told: set[int] = set()  # older directories that an entry has spoken of

    def add_all(self, entries: Iterable[Entry]) -> None:
        """Make everything of *entries*.

        Raises BtrimgError, with the path, for what cannot be, and what *entries* raise: HalfDoneError where something
        is made by then that an abort must take back.
        """
        try:
            with uncollected():
                for entry in entries:
                    self._add(entry)
                self._settle()
        except BtrimgError as error:
            if not self._begun or isinstance(error, CorruptError | DeviceError | NoSpaceError):  # which say it anyway
                raise
            raise HalfDoneError(str(error)) from None

    def _add(self, entry: Entry) -> None:
        try:
            self.add(entry)
        except BtrimgError as error:
            raise type(error)(f"{quoted(b'/' + entry.path)}: {error}") from None

    def add(self, entry: Entry) -> None:
        """Make what *entry* says."""
        if entry.path:
            head, _, name = entry.path.rpartition(b"/")
            self._put(self._directories.get(head) or self._directory(head), name, entry)
        else:
            self._tell(self._directory(b""), entry)
        self._count += 1
        self._bytes += entry.size
        if self._count == _LOOK:
            self._relieve()

    def _tell(self, directory: Directory, entry: Entry) -> None:
        directory.entry = entry
        self._told.add(directory.ino)

    # Names

    def _put(self, parent: Directory, name: bytes, entry: Entry) -> None:
        if parent.exists:
            self._enter(parent)
        elif stat.S_ISREG(entry.mode) and entry.same_as is None and name not in parent.names:
            self._put_first(parent, name, entry)
            return
        found = self._found(parent, name)
        if found is None:
            names.check_name(name)
            made = self._make(entry)
        elif stat.S_ISDIR(entry.mode) and found[1] == FileType.DIR:
            self._tell(self._directory(entry.path), entry)
            return
        elif self._as_cp and stat.S_ISDIR(entry.mode) != (found[1] == FileType.DIR):
            raise RefusedError(clash(found[1]))
        else:
            replacement = self._make_instead(found, entry)
            if replacement is None:
                self._kept.add((parent.ino, name))
                return
            made = replacement
            self._remove(parent, name)
            parent = self._directory(parent.path)
        parent.names[name] = made
        self._names_held += 1
        if entry.same_as is not None:
            self._kept.add((parent.ino, name))

    def _put_first(self, parent: Directory, name: bytes, entry: Entry) -> None:
        """Make a regular file in a new directory, which has no such name: what most entries are, without detours."""
        names.check_name(name)
        ino = self._new_ino()
        flags = self._file_flags | compression_flags(entry) if entry.xattrs else self._file_flags
        self._queue.add(ino, entry, self._compressions.get(flags) or self._compression(flags))
        parent.names[name] = (ino, FileType.REG_FILE)
        self._names_held += 1

    def _found(self, parent: Directory, name: bytes) -> tuple[int, FileType] | None:
        """Return the number and type of what is called *name*, None when there is nothing."""
        held = parent.names.get(name)
        if held or not parent.filled:
            return held
        entry = entry_named(self._files.tree, parent.ino, name)
        if entry is None:
            return None
        if entry.location.type != ItemType.INODE_ITEM:
            raise RefusedError("a subvolume has this name")
        return entry.location.objectid, FileType(entry.type)

    def _remove(self, parent: Directory, name: bytes) -> None:
        """Remove *name* with all that is below it; the directory keeps times that an entry gave it."""
        from btrimg.build.removal import remove_tree

        self._settle()
        spot = Spot(self._files, parent.ino)
        before = inodes.read(*spot)
        remove_tree(self._paths, spot, name)
        self._paths.forget()
        if self._is_told(parent.ino):
            inodes.change(*spot, mtime=before.mtime, ctime=before.ctime)

    def _is_new(self, ino: int) -> bool:
        """Return whether an inode was made by this writer."""
        return 0 < self._first_new <= ino

    def _is_told(self, ino: int) -> bool:
        """Return whether an entry has said what attributes a directory has."""
        return self._is_new(ino) or ino in self._told

    def _enter(self, directory: Directory) -> None:
        """Take note of an older directory that gets something, and of those it lies in."""
        while directory.ino not in self._entered:
            self._entered.add(directory.ino)
            directory = self._directory(directory.path.rpartition(b"/")[0])

    def _is_ours(self, directory: int, name: bytes, ino: int) -> bool:
        """Return whether the source has spoken of what is called *name* in a directory."""
        return self._is_told(ino) or ino in self._entered or (directory, name) in self._kept

    def _directory(self, path: bytes) -> Directory:
        """Return the directory at *path*, made with all above it where they are not there.

        Raises RefusedError when something else is there: links are not followed.
        """
        found = self._directories.get(path)
        if found:
            return found
        known = path
        while known and known not in self._directories:
            known = known.rpartition(b"/")[0]
        at = self._directories.get(known) or self._remember(self._existing(b"", self._top.ino))
        for name in filter(None, path[len(known) :].split(b"/")):
            known = known + b"/" + name if known else name
            child = self._found(at, name)
            if child is None:
                names.check_name(name)
                at = self._new_directory(at, name, Entry(known, stat.S_IFDIR | 0o755, (0, 0), self._now()))
            elif child[1] == FileType.DIR:
                at = self._remember(self._existing(known, child[0]))
            else:
                raise RefusedError(f"{quoted(b'/' + known)} is no directory, and links are not followed")
        return at

    def _now(self) -> Clock:
        sec, nsec = self._files.now
        return (sec, nsec, sec, nsec, sec, nsec, sec, nsec)

    def _existing(self, path: bytes, ino: int) -> Directory:
        key = Key(ino, ItemType.DIR_INDEX, U64_MAX)
        last = self._files.tree.floor(key)
        return Directory(path, ino, exists=True, filled=bool(last and last[0][:2] == key[:2]))

    def _remember(self, directory: Directory) -> Directory:
        self._directories[directory.path] = directory
        return directory

    def _new_directory(self, parent: Directory, name: bytes, entry: Entry) -> Directory:
        ino = self._new_ino()
        parent.names[name] = (ino, FileType.DIR)
        self._names_held += 1
        return self._remember(Directory(entry.path, ino, exists=False, filled=False, entry=entry))

    # Inodes

    def _new_ino(self) -> int:
        self._begun = True
        ino = self._files.new_ino()
        self._first_new = self._first_new or ino
        return ino

    def _make_instead(self, found: tuple[int, FileType], entry: Entry) -> tuple[int, FileType] | None:
        """Make what shall stand in the place of an older inode; None when that is what the entry says already."""
        old, kind = found
        if entry.same_as is not None:
            return None if self._target(entry.same_as) == found else self._make(entry)
        if kind != FileType.REG_FILE or not stat.S_ISREG(entry.mode):
            return self._make(entry)
        from btrimg.build.unchanged import compare, share

        self._queue.drain()
        other = compare(self._files, old, entry, self._file_flags, self._sink)
        if other:
            return self._make(other)
        if not attributes_differ(self._files, old, entry):
            return None
        ino = self._new_ino()
        share(self._files, old, ino, entry, self._file_flags)
        return ino, kind

    def _make(self, entry: Entry) -> tuple[int, FileType]:
        """Make the inode of an entry, or find the one it is a further name of; return its number and type."""
        if entry.same_as is not None:
            return self._further_name(entry.same_as)
        kind = inodes.file_type(entry.mode)
        ino = self._new_ino()
        if kind == FileType.DIR:
            self._remember(Directory(entry.path, ino, exists=False, filled=False, entry=entry))
        elif kind == FileType.REG_FILE:
            self._queue.add(ino, entry, self._compression(self._file_flags | compression_flags(entry)))
        elif kind == FileType.SYMLINK:
            create_symlink(self._files, ino, entry)
        else:
            create(self._files, ino, entry, rdev=inodes.device_number(*entry.device))
        return ino, kind

    def _compression(self, flags: int) -> Compression:
        """Return how data of files with these *flags* are compressed; asked once for each, since it is the same."""
        found = self._compressions.get(flags)
        if found is None:
            found = self._compressions[flags] = self._data.compression(self._storage, flags)
        return found

    def _further_name(self, path: bytes) -> tuple[int, FileType]:
        """Return the file at *path*, which has one more name from now on."""
        found = self._target(path)
        ino = found[0]
        self._queue.drain()
        nlink = inodes.read(self._files, ino).nlink
        if nlink >= names.LINK_MAX:
            raise RefusedError(f"{quoted(b'/' + path)} has {nlink} names: it can have no more")
        self._begun = True
        inodes.change(self._files, ino, nlink=nlink + 1)
        return found

    def _target(self, path: bytes) -> tuple[int, FileType]:
        """Return the file at *path*, for a hard link to it."""
        head, _, name = path.rpartition(b"/")
        found = self._found(self._directory(head), name) if name else None
        if found is None:
            raise RefusedError(f"{quoted(b'/' + path)}, of which it is to be a hard link, is not there")
        if found[1] == FileType.DIR:
            raise RefusedError(f"{quoted(b'/' + path)}, of which it is to be a hard link, is a directory")
        return found

    # What is held back

    def _relieve(self) -> None:
        """Tell of progress, and give memory back when much is pending."""
        self._tell_progress()
        txn = self._files.txn
        if self._files.tree.pending + 3 * self._names_held > _MOST_PENDING:
            self._settle()
            txn.flush(self._files.id)
        if len(txn.refs.data) > _MOST_EXTENTS and not self._whole:
            self._settle()
            txn.commit()

    def _tell_progress(self) -> None:
        self._progress(self._count, self._bytes)
        self._count = self._bytes = 0

    def _settle(self) -> None:
        """Put what is held back; directories become those that are there already."""
        self._tell_progress()
        self._queue.drain()
        self._begun = self._begun or bool(self._directories)
        for directory in self._directories.values():
            if not directory.exists and directory.entry:
                self._put_new(directory, directory.entry)
            elif directory.names or directory.entry:
                self._put_existing(directory)
        self._directories.clear()
        self._names_held = 0

    def _put_new(self, directory: Directory, entry: Entry) -> None:
        size = names.fill(self._files, directory.ino, _named(directory))
        create(self._files, directory.ino, entry, flags=self._directory_flags, size=size)

    def _put_existing(self, directory: Directory) -> None:
        files, ino = self._files, directory.ino
        if directory.names:
            put = names.extend if directory.filled else names.fill
            grown = put(files, ino, _named(directory))
            inodes.change(files, ino, size=inodes.read(files, ino).size + grown)
        if directory.entry:
            change_attributes(files, ino, directory.entry)
        elif not self._is_told(ino):
            inodes.change(files, ino, mtime=files.now, ctime=files.now)


def _named(directory: Directory) -> Iterator[tuple[bytes, int, FileType]]:
    return ((name, ino, kind) for name, (ino, kind) in directory.names.items())


def _own_flags(storage: Storage) -> int:
    if storage.nodatacow:
        return int(InodeFlag.NODATACOW | InodeFlag.NODATASUM)
    return int(InodeFlag.NODATASUM) if storage.nodatasum else 0

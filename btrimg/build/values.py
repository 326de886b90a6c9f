"""What a recipe is made of, read: a filesystem to make, and operations to do on it. Nothing here does anything."""

from __future__ import annotations

from btrimg.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from btrimg.ondisk.inodes import Timespec


class Compression(NamedTuple):
    """How content is compressed."""

    kind: int  #: of ``ondisk.constants.Compression``; 0 is none
    level: int | None = None  #: None for the kernel's default


class Place(NamedTuple):
    """Where data is to lie."""

    address: int  #: logical, or physical on the device *devid*
    devid: int | None = None


class Content(NamedTuple):
    """What is written: bytes, or how they come about."""

    kind: Literal["bytes", "host", "random", "pattern", "stamp", "zeros"]
    data: bytes = b""  #: the bytes; the pattern, the stamp, the path on the host, or what random bytes depend on
    size: int | None = None  #: bytes; None only for "host": all
    skip: int = 0  #: bytes of "host" that are left out
    own_seed: bool = False  #: whether *data* is all that random bytes depend on, and not the filesystem's seed too


class Storage(NamedTuple):
    """How content is kept."""

    compress: Compression | None = None  #: None for what is usual in that directory or filesystem
    inline: bool | None = None  #: None for what the kernel would do
    nodatacow: bool = False
    nodatasum: bool = False
    pieces: int | None = None  #: extents of equal size
    at: Place | None = None


class Attributes(NamedTuple):
    """What an inode says of itself; None leaves it as it is, or as is usual."""

    mode: int | None = None  #: permission bits
    uid: int | None = None
    gid: int | None = None
    atime: Timespec | None = None
    mtime: Timespec | None = None
    ctime: Timespec | None = None
    otime: Timespec | None = None
    xattrs: tuple[tuple[bytes, Content], ...] = ()
    flags: int | None = None  #: InodeFlag


class Part(NamedTuple):
    """A part of a file."""

    kind: Literal["data", "prealloc", "hole", "shared", "extent"]
    offset: int | None  #: in the file; None: where the last part ended
    length: int | None  #: bytes; None: those of the content, or to the end of the source
    content: Content | None = None
    storage: Storage = Storage()
    source: bytes = b""  #: path of the file that is shared from, empty for this file itself; or name of the extent
    source_offset: int = 0


class MakeDirectory(NamedTuple):
    """Make a directory, and those that lead to it."""

    path: bytes
    attributes: Attributes


class MakeFile(NamedTuple):
    """Make a regular file."""

    path: bytes
    parts: tuple[Part, ...]
    size: int | None  #: None: where the last part ends
    storage: Storage  #: what is of the whole file: its flags
    attributes: Attributes


class MakeSymlink(NamedTuple):
    """Make a symbolic link."""

    path: bytes
    to: bytes
    attributes: Attributes


class MakeLink(NamedTuple):
    """Give a file another name."""

    path: bytes
    to: bytes


class MakeNode(NamedTuple):
    """Make a fifo, a socket or a device."""

    path: bytes
    kind: int  #: S_IFIFO, S_IFSOCK, S_IFCHR or S_IFBLK
    device: tuple[int, int]  #: major and minor
    attributes: Attributes


class MakeSubvolume(NamedTuple):
    """Make an empty subvolume."""

    path: bytes
    uuid: bytes | None
    attributes: Attributes


class MakeSnapshot(NamedTuple):
    """Make a snapshot of a subvolume."""

    path: bytes
    of: bytes
    readonly: bool
    uuid: bytes | None


class Write(NamedTuple):
    """Write content into a file."""

    path: bytes
    offset: int
    content: Content
    storage: Storage


class Punch(NamedTuple):
    """Punch a hole."""

    path: bytes
    offset: int
    length: int


class Preallocate(NamedTuple):
    """Reserve what is a hole."""

    path: bytes
    offset: int
    length: int
    keep_size: bool
    storage: Storage


class Truncate(NamedTuple):
    """Cut a file, or make it longer."""

    path: bytes
    size: int


class Reflink(NamedTuple):
    """Share a range of a file with another, or itself."""

    path: bytes
    source: bytes  #: empty for the file itself
    source_offset: int
    length: int | None  #: None: to the end of the source
    offset: int


class Change(NamedTuple):
    """Change attributes."""

    path: bytes
    attributes: Attributes
    remove_xattrs: tuple[bytes, ...]
    readonly: bool | None  #: of a subvolume
    add_flags: int = 0  #: InodeFlag
    remove_flags: int = 0


class Rename(NamedTuple):
    """Give another name."""

    path: bytes
    to: bytes


class Delete(NamedTuple):
    """Remove a name."""

    path: bytes
    recursive: bool


class SetDefault(NamedTuple):
    """Make a subvolume the one that is mounted by default."""

    path: bytes


class DefineExtent(NamedTuple):
    """Keep content under a name of the recipe."""

    name: bytes
    content: Content | None  #: None: reserved, not written
    length: int | None  #: of what is reserved
    storage: Storage


class FromDirectory(NamedTuple):
    """Copy a directory of the host."""

    host: bytes
    to: bytes
    storage: Storage
    exclude: tuple[bytes, ...] = ()  #: patterns of what is left out
    one_filesystem: bool = False  #: whether what is mounted below is left out
    owner: tuple[int, int] | None = None  #: uid and gid of everything; None for those of the host


class FromTar(NamedTuple):
    """Unpack a tar archive of the host."""

    host: bytes
    to: bytes
    whiteouts: bool
    storage: Storage
    owner: tuple[int, int] | None = None


class Put(NamedTuple):
    """Copy a file, or a directory with all in it, of the host."""

    path: bytes
    host: bytes
    storage: Storage
    owner: tuple[int, int] | None = None


class SetClock(NamedTuple):
    """Set the clock."""

    time: Timespec


class Commit(NamedTuple):
    """End a transaction."""


Operation = (
    MakeDirectory
    | MakeFile
    | MakeSymlink
    | MakeLink
    | MakeNode
    | MakeSubvolume
    | MakeSnapshot
    | Write
    | Punch
    | Preallocate
    | Truncate
    | Reflink
    | Change
    | Rename
    | Delete
    | SetDefault
    | DefineExtent
    | FromDirectory
    | FromTar
    | Put
    | SetClock
    | Commit
)


class Filesystem(NamedTuple):
    """The filesystem to make; None leaves a choice to what is usual."""

    sizes: tuple[int | None, ...] = (None,)  #: bytes of each device; None: as many as are needed
    device_uuids: tuple[bytes | None, ...] = ()
    shrink: bool = False
    slack: int = 0  #: bytes
    data: str | None = None
    metadata: str | None = None
    mixed: bool = False
    features: tuple[str, ...] = ()
    csum: str = "crc32c"
    nodesize: int | None = None
    sectorsize: int = 4096
    label: bytes = b""
    uuid: bytes | None = None
    seed: bytes = b""
    clock: Timespec | None = None
    compress: Compression = Compression(0)
    dedupe: bool = False

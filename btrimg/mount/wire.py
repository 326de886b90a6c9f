"""The FUSE protocol: the structures and numbers that a read-only filesystem sends and gets.

Names, values and layouts are those of include/uapi/linux/fuse.h, version 7.45. What went over the wire before 7.31
(Linux 5.4) is not spoken. Numbers are in the byte order of the host; btrimg mounts on little-endian ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.enums import IntEnum, IntFlag
from btrimg.ondisk.record import Record

if TYPE_CHECKING:
    from typing import Annotated

    from btrimg.ondisk.fields import S32, S64, U16, U32, U64, counted, times

MAJOR, MINOR = 7, 45
MINOR_NEEDED = 31
ROOT = 1  #: nodeid of the top directory
FOREVER = 1 << 32  #: seconds that the kernel may keep what it was told: nothing that is mounted here ever changes


class Opcode(IntEnum):
    """What the kernel asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    READDIRPLUS = 44
    LSEEK = 46
    STATX = 52


class InitFlag(IntFlag):
    """What kernel and server can do (FUSE_*), of both words of flags."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4  #: LOOKUP of ``.`` and ``..`` in what the kernel has forgotten
    BIG_WRITES = 1 << 5
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    NO_OPEN_SUPPORT = 1 << 17  #: ENOSYS to OPEN means that no file needs one
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20  #: the kernel obeys access control lists, and the permissions with them
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24  #: ENOSYS to OPENDIR means that no directory needs one, and listings are kept
    INIT_EXT = 1 << 30  #: the second word of flags counts
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    ALLOW_IDMAP = 1 << 40  #: mounts may map owners; needs the kernel to look at permissions


class OpenFlag(IntFlag):
    """How the kernel is to treat an open file (FOPEN_*)."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NOFLUSH = 1 << 5
    PASSTHROUGH = 1 << 7


STATX_BASIC_STATS, STATX_BTIME = 0x7FF, 0x800
CLONE, BACKING_OPEN, BACKING_CLOSE = 0x8004E500, 0x4010E501, 0x4004E502  #: FUSE_DEV_IOC_*: ioctls on /dev/fuse


class InHeader(Record):
    """Start of every request (``struct fuse_in_header``)."""

    len: U32  #: bytes of the request, with this header
    opcode: U32  #: Opcode
    unique: U64  #: the answer repeats it
    nodeid: U64
    uid: U32
    gid: U32
    pid: U32
    total_extlen: U16
    padding: U16


class OutHeader(Record):
    """Start of every answer (``struct fuse_out_header``)."""

    len: U32  #: bytes of the answer, with this header
    error: S32  #: 0 or a negative errno
    unique: U64


class InitIn(Record):
    """INIT: what the kernel speaks (``struct fuse_init_in``)."""

    major: U32
    minor: U32
    max_readahead: U32
    flags: U32  #: InitFlag, low word
    flags2: U32  #: InitFlag, high word
    unused: Annotated[tuple[int, ...], times(11, U32)]


class InitOut(Record):
    """INIT: what the server speaks (``struct fuse_init_out``)."""

    major: U32
    minor: U32
    max_readahead: U32  #: bytes
    flags: U32  #: InitFlag, low word
    max_background: U16  #: requests that nobody waits for
    congestion_threshold: U16
    max_write: U32  #: the buffer that requests are read to must be longer, by the headers
    time_gran: U32  #: nanoseconds
    max_pages: U16  #: of one READ
    map_alignment: U16
    flags2: U32  #: InitFlag, high word
    max_stack_depth: U32  #: 1: files of plain filesystems may back ours
    request_timeout: U16
    unused: Annotated[tuple[int, ...], times(11, U16)]


class Attr(Record):
    """What a file is (``struct fuse_attr``)."""

    ino: U64
    size: U64
    blocks: U64  #: of 512 bytes
    atime: U64
    mtime: U64
    ctime: U64
    atimensec: U32
    mtimensec: U32
    ctimensec: U32
    mode: U32
    nlink: U32
    uid: U32
    gid: U32
    rdev: U32  #: as the kernel's ``new_encode_dev`` packs it
    blksize: U32
    flags: U32


class EntryOut(Record):
    """LOOKUP and READDIRPLUS: a name and its inode (``struct fuse_entry_out``)."""

    nodeid: U64  #: 0: there is no such name, and that is kept
    generation: U64
    entry_valid: U64  #: seconds that the kernel may keep the name
    attr_valid: U64
    entry_valid_nsec: U32
    attr_valid_nsec: U32
    attr: Attr


class AttrOut(Record):
    """GETATTR (``struct fuse_attr_out``)."""

    attr_valid: U64  #: seconds
    attr_valid_nsec: U32
    dummy: U32
    attr: Attr


class StatxIn(Record):
    """STATX (``struct fuse_statx_in``)."""

    getattr_flags: U32
    reserved: U32
    fh: U64
    sx_flags: U32
    sx_mask: U32


class SxTime(Record):
    """A time (``struct fuse_sx_time``)."""

    sec: S64
    nsec: U32
    reserved: S32


class Statx(Record):
    """What a file is, and when it was made (``struct fuse_statx``)."""

    mask: U32  #: STATX_*, of the fields that are given
    blksize: U32
    attributes: U64
    nlink: U32
    uid: U32
    gid: U32
    mode: U16
    spare0: U16
    ino: U64
    size: U64
    blocks: U64
    attributes_mask: U64
    atime: SxTime
    btime: SxTime
    ctime: SxTime
    mtime: SxTime
    rdev_major: U32
    rdev_minor: U32
    dev_major: U32
    dev_minor: U32
    spare2: Annotated[tuple[int, ...], times(14, U64)]


class StatxOut(Record):
    """STATX (``struct fuse_statx_out``)."""

    attr_valid: U64  #: seconds
    attr_valid_nsec: U32
    flags: U32
    spare: Annotated[tuple[int, ...], times(2, U64)]
    stat: Statx


class OpenOut(Record):
    """OPEN (``struct fuse_open_out``)."""

    fh: U64  #: RELEASE and READ repeat it
    open_flags: U32  #: OpenFlag
    backing_id: S32  #: of BACKING_OPEN


class AccessIn(Record):
    """ACCESS (``struct fuse_access_in``)."""

    mask: U32  #: R_OK, W_OK, X_OK
    padding: U32


class ReleaseIn(Record):
    """RELEASE (``struct fuse_release_in``)."""

    fh: U64
    flags: U32
    release_flags: U32
    lock_owner: U64


class ReadIn(Record):
    """READ, READDIR and READDIRPLUS (``struct fuse_read_in``)."""

    fh: U64
    offset: U64  #: of directories, what the last entry said
    size: U32  #: bytes at most
    read_flags: U32
    lock_owner: U64
    flags: U32
    padding: U32


class Dirent(Record):
    """An entry of READDIR, padded to 8 bytes (``struct fuse_dirent``)."""

    ino: U64
    off: U64  #: where to go on after it
    namelen: U32
    type: U32  #: DT_*
    name: Annotated[bytes, counted("namelen")]


class DirentPlus(Record):
    """An entry of READDIRPLUS, padded to 8 bytes (``struct fuse_direntplus``)."""

    entry: EntryOut  #: nodeid 0: not looked up
    ino: U64
    off: U64
    namelen: U32
    type: U32
    name: Annotated[bytes, counted("namelen")]


class GetxattrIn(Record):
    """GETXATTR and LISTXATTR (``struct fuse_getxattr_in``)."""

    size: U32  #: bytes at most; 0 asks how many there are
    padding: U32


class GetxattrOut(Record):
    """GETXATTR and LISTXATTR: how many bytes there are (``struct fuse_getxattr_out``)."""

    size: U32
    padding: U32


class LseekIn(Record):
    """LSEEK (``struct fuse_lseek_in``)."""

    fh: U64
    offset: U64
    whence: U32  #: SEEK_DATA or SEEK_HOLE
    padding: U32


class LseekOut(Record):
    """LSEEK (``struct fuse_lseek_out``)."""

    offset: U64


class IoctlIn(Record):
    """IOCTL, without what is written to it (``struct fuse_ioctl_in``)."""

    fh: U64
    flags: U32
    cmd: U32  #: number of the ioctl
    arg: U64
    in_size: U32  #: bytes that follow
    out_size: U32  #: bytes at most, after an IoctlOut


class IoctlOut(Record):
    """IOCTL, without what is read from it (``struct fuse_ioctl_out``)."""

    result: S32
    flags: U32
    in_iovs: U32
    out_iovs: U32


class StatfsOut(Record):
    """STATFS (``struct fuse_kstatfs``)."""

    blocks: U64
    bfree: U64
    bavail: U64
    files: U64
    ffree: U64
    bsize: U32
    namelen: U32
    frsize: U32
    padding: U32
    spare: Annotated[tuple[int, ...], times(6, U32)]


class ForgetIn(Record):
    """FORGET (``struct fuse_forget_in``)."""

    nlookup: U64  #: how many lookups of the node are taken back


class ForgetOne(Record):
    """One node of BATCH_FORGET (``struct fuse_forget_one``)."""

    nodeid: U64
    nlookup: U64


class BatchForgetIn(Record):
    """BATCH_FORGET (``struct fuse_batch_forget_in`` and what follows it)."""

    count: U32
    dummy: U32
    nodes: Annotated[tuple[ForgetOne, ...], counted("count", ForgetOne)]


class InterruptIn(Record):
    """INTERRUPT (``struct fuse_interrupt_in``)."""

    unique: U64  #: of the request that somebody no longer waits for


class BackingMap(Record):
    """BACKING_OPEN: the file that others may pass through to (``struct fuse_backing_map``)."""

    fd: S32
    flags: U32
    padding: U64

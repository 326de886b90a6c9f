"""Fill a mounted filesystem with one of everything that btrfs knows, as only the kernel can write it.

Every 4 KiB of every file starts with a stamp of the file's number and the block's index, so a block read from the
wrong place never passes for the right one. The tree is the same each time; where it lies is the kernel's choice.
"""

from __future__ import annotations

import os
import random
import stat

from . import kernel

BLOCK = 4096
ALGORITHMS = ("zlib", "lzo", "zstd")

#: Pairs of equal crc32c: equal name hash in a directory, among xattrs and among extended references.
COLLIDING = (b"fmcpf0j4op", b"jpmr5k1mzq", b"efqzuv449q", b"1nwi6cbq5x", b"jtohdh8akc", b"i0n9f7pmsg")
ODD_NAMES = (
    b"n" * 255,
    b"latin1-\xe9\xff",
    "naïve – 文件".encode(),
    b" lead",
    b"trail ",
    b"new\nline",
    b"co:lon",
    b"-dash",
    b"tab\t",
    b"back\\slash",
    b"quote'\"",
    b"escape\x1b[31m",
    b"...",
)
EDGE_SIZES = (0, 1, 100, 2047, 2048, 2049, 3900, 4095, 4096, 4097, 8191, 65535, 65536, 65537, 131072, 131073)
SECOND = 10**9
TIMES = {  # name: (atime, mtime) in ns since 1970; beyond what 32 bits hold, signed or not
    b"before-1970": (-1, -5 * 365 * 86400 * SECOND - 123_456_789),
    b"epoch": (0, 0),
    b"after-2038": (2**31 * SECOND, 2**31 * SECOND + 999_999_999),
    b"after-2106": (2**32 * SECOND + 1, 2**33 * SECOND + 1),
}


class Filler:
    """Writes files of distinct content below one directory; names are relative to it.

    A *steady* one has each write on the device before the next: so they come to lie in one order, with their checksums,
    however busy the machine is.
    """

    def __init__(self, top: str, *, steady: bool = False) -> None:
        self._steady = steady
        self._top = os.fsencode(top)
        rng = random.Random("btrimg")
        words = b"extent page cache shared inode tree leaf key chunk stripe device offset snapshot".split()
        self._noise = rng.randbytes(4 << 20)
        self._text = b" ".join(rng.choices(words, k=1 << 18))
        self._number = 0

    def path(self, name: bytes) -> bytes:
        """Return where *name* lies on the host."""
        return self._top + b"/" + name

    def noise(self, size: int) -> bytes:
        """Return bytes that do not compress, different at every call."""
        return self._stamped(self._noise, size)

    def text(self, size: int) -> bytes:
        """Return bytes that compress to about a third, different at every call."""
        return self._stamped(self._text, size)

    def _stamped(self, pool: bytes, size: int) -> bytes:
        self._number += 1
        start = self._number * 7919 % (len(pool) - size)
        content = bytearray(pool[start : start + size])
        for block in range(0, size, BLOCK):
            stamp = b"%08x.%08x " % (self._number, block // BLOCK)
            end = min(block + len(stamp), size)
            content[block:end] = stamp[: end - block]
        return bytes(content)

    def write(self, name: bytes, content: bytes, at: int = 0) -> None:
        """Write *content* at offset *at* of a file, made with its directories if it is not there."""
        try:
            with kernel.opened(self.path(name), os.O_WRONLY | os.O_CREAT) as fd:
                os.pwrite(fd, content, at)
                if self._steady:
                    kernel.write_back(fd)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path(name)))
            self.write(name, content, at)

    def mkdir(self, name: bytes) -> bytes:
        """Make a directory with its parents; give its path on the host."""
        os.makedirs(self.path(name))
        return self.path(name)

    def clone(self, source: bytes, target: bytes) -> None:
        """Make *target* a reflink of the whole of *source*."""
        kernel.clone(self.path(source), self.path(target))

    def clone_blocks(self, source: bytes, first: int, count: int, target: bytes, at: int) -> None:
        """Reflink *count* blocks from block *first* of *source* to block *at* of *target*."""
        kernel.clone_range(self.path(source), first * BLOCK, count * BLOCK, self.path(target), at * BLOCK)

    def sync(self) -> None:
        """Commit, so that what comes next lies in extents of its own."""
        kernel.sync(self._top)


def populate(top: str, *, steady: bool = False) -> None:
    """Fill the filesystem mounted at *top*."""
    fill = Filler(top, steady=steady)
    soil(fill)
    plain_files(fill)
    compressed_files(fill)
    holes(fill)
    preallocated(fill)
    nocow(fill)
    nodatasum(fill, top)
    names(fill)
    links(fill)
    kinds(fill)
    xattrs(fill)
    subvolume(fill)
    fill.sync()
    overwrites(fill)
    reflinks(fill)
    punched(fill)
    snapshots(fill)
    fill.sync()
    snapshots_of_snapshots(fill)


def soil(fill: Filler) -> None:
    """Leave garbage in free space: who reads a preallocated extent from the device must not find zeros."""
    garbage = fill.path(b"garbage")
    fill.write(b"garbage", fill.noise(3 << 20))
    for copy in range(1, 8):
        fill.write(b"garbage", fill.noise(3 << 20), copy * (3 << 20))
    fill.sync()
    os.unlink(garbage)
    fill.sync()


def plain_files(fill: Filler) -> None:
    """Write inline files and extents up to several RAID rows, most of them ending in mid-sector."""
    for size in EDGE_SIZES:
        fill.write(b"sizes/noise-%d" % size, fill.noise(size))
        fill.write(b"sizes/text-%d" % size, fill.text(size))
    fill.write(b"plain/big", fill.noise(1_500_001))
    fill.write(b"plain/text", fill.text(700_001))
    fill.write(b"plain/base", fill.noise(80 * BLOCK + 77))
    fill.write(b"plain/inline-extended", fill.noise(100))
    fill.write(b"plain/inline-stretched", fill.noise(100))
    fill.write(b"/".join(b"level-%02d" % level for level in range(30)) + b"/bottom", fill.text(4321))


def compressed_files(fill: Filler) -> None:
    """Write inline, regular, mixed and incompressible files below a property for each algorithm."""
    for algorithm in ALGORITHMS:
        name = b"compressed/" + algorithm.encode()
        kernel.set_compression(fill.mkdir(name), algorithm)
        fill.write(name + b"/inline", fill.text(1500))
        fill.write(name + b"/inline-extended", fill.text(1500))
        fill.write(name + b"/one-extent", fill.text(90_001))
        fill.write(name + b"/base", fill.text(80 * BLOCK + 77))
        fill.write(name + b"/noise", fill.noise(50_001))
        fill.write(name + b"/mixed", fill.text(131_072) + fill.noise(131_072) + fill.text(9_999))
        fill.write(name + b"/zeros", bytes(300_000))


def holes(fill: Filler) -> None:
    """Write sparse files: a hole first, between, last, and nothing else."""
    for number in range(4):
        for block in (3, 9, 10, 64 + number):
            fill.write(b"holes/sparse-%d" % number, fill.noise(2 * BLOCK), block * BLOCK)
        os.truncate(fill.path(b"holes/sparse-%d" % number), (100 + number) * BLOCK + number)
    fill.write(b"holes/tail", fill.noise(5000))
    os.truncate(fill.path(b"holes/tail"), 1_000_001)
    fill.write(b"holes/only", b"")
    os.truncate(fill.path(b"holes/only"), 3_000_003)
    fill.write(b"holes/far", b"end", 1 << 40)
    fill.write(b"holes/punched", fill.noise(512 * 1024))
    fill.write(b"holes/zeroed", fill.noise(256 * 1024 + 5))


def preallocated(fill: Filler) -> None:
    """Preallocate: never written, partly written, past the end of the file."""
    fill.mkdir(b"prealloc")
    for name in (b"never", b"partly", b"partly-later"):
        kernel.fallocate(fill.path(b"prealloc/" + name), 0, 0, 64 * BLOCK)
    kernel.fallocate(fill.path(b"prealloc/past-end"), kernel.KEEP_SIZE, 0, 40 * BLOCK)
    for block in (3, 4, 17, 40):
        fill.write(b"prealloc/partly", fill.noise(BLOCK), block * BLOCK)
    fill.write(b"prealloc/partly", fill.noise(100), 50 * BLOCK + 50)
    fill.write(b"prealloc/past-end", fill.noise(5 * BLOCK + 5))


def nocow(fill: Filler) -> None:
    """Write files that are neither copied on write nor checksummed, and reflinks of them."""
    kernel.set_nocow(fill.mkdir(b"nocow"))
    for number in range(3):
        fill.write(b"nocow/file-%d" % number, fill.noise(200_000 + number))
    kernel.fallocate(fill.path(b"nocow/prealloc"), 0, 0, 20 * BLOCK)
    fill.clone(b"nocow/file-0", b"nocow/clone")


def nodatasum(fill: Filler, top: str) -> None:
    """Write files that are copied on write but not checksummed: the mount option is the only way."""
    kernel.remount(top, "nodatasum")
    for number in range(2):
        fill.write(b"nodatasum/file-%d" % number, fill.noise(100_000 + number))
    fill.write(b"nodatasum/inline", fill.noise(333))
    kernel.remount(top, "datasum")


def names(fill: Filler) -> None:
    """Make names that are odd, that collide, and 1,000 of them in one directory."""
    for name in ODD_NAMES:
        fill.write(b"names/" + name, fill.text(300))
    for name in COLLIDING:
        fill.write(b"colliding/" + name, fill.text(700))
    fill.mkdir(b"thousand")
    for number in range(1000):
        fill.write(b"thousand/entry-%04d" % number, b"%d" % number if number % 8 == 0 else b"")


def links(fill: Filler) -> None:
    """Link one file more often than an inode reference item can hold, and across directories."""
    fill.write(b"links/origin", fill.text(10_000))
    fill.mkdir(b"links-elsewhere")
    for number in range(kernel.node_size(fill.path(b"links")) // 250 + 20):
        os.link(fill.path(b"links/origin"), fill.path(b"links/" + b"%04d-" % number + b"l" * 250))
    for name in COLLIDING:  # by now in extended references, which hash the name too
        os.link(fill.path(b"links/origin"), fill.path(b"links/" + name))
    for number in range(5):
        os.link(fill.path(b"links/origin"), fill.path(b"links-elsewhere/%d" % number))


def kinds(fill: Filler) -> None:
    """Make every kind of inode, modes and owners that are not the usual, and times of every era."""
    top = fill.mkdir(b"kinds") + b"/"
    os.symlink(b"../sizes/noise-4096", top + b"symlink")
    os.symlink(b"x" * 3000, top + b"long-symlink")
    os.symlink(b"nowhere-\xff", top + b"dangling")
    os.mkfifo(top + b"fifo", 0o640)
    os.mknod(top + b"socket", stat.S_IFSOCK | 0o755)
    os.mknod(top + b"char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(top + b"block", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    os.mkdir(top + b"empty")
    fill.write(b"kinds/setuid", b"#!\n")
    os.chown(top + b"setuid", 1234, 4_000_000_000)
    os.chmod(top + b"setuid", 0o6755)
    os.mkdir(top + b"sticky")
    os.chmod(top + b"sticky", 0o1777)
    for name, times in TIMES.items():
        fill.write(b"times/" + name, name)
        os.utime(fill.path(b"times/" + name), ns=times)


def xattrs(fill: Filler) -> None:
    """Set attributes: none of them, empty, binary, many, as large as a leaf allows, and colliding."""
    for name in (b"many", b"large", b"colliding", b"directory/inside"):
        fill.write(b"xattrs/" + name, fill.text(200))
    for number in range(40):
        os.setxattr(fill.path(b"xattrs/many"), b"user.%02d" % number, bytes(range(number)))
    # A leaf must hold header (101), item (25), dir item (30) and name; the VFS stops at 64 KiB.
    largest = min(kernel.node_size(fill.path(b"xattrs")) - 200, 65536)
    os.setxattr(fill.path(b"xattrs/large"), b"user.large", fill.noise(largest))
    for name in COLLIDING:
        os.setxattr(fill.path(b"xattrs/colliding"), b"user." + name, name * 3)
    os.setxattr(fill.path(b"xattrs/directory"), b"trusted.odd-\xff", b"\0\xff")


def subvolume(fill: Filler) -> None:
    """Make a subvolume with another one nested in it, one with an odd name, and one that is deleted later."""
    kernel.create_subvolume(fill.path(b"sub"))
    for number in range(40):
        fill.write(b"sub/tree/file-%02d" % number, fill.text(number * 97))
    for name in (b"a", b"b", b"c"):
        fill.write(b"sub/" + name, fill.noise(150_001))
    os.link(fill.path(b"sub/a"), fill.path(b"sub/tree/a-link"))
    kernel.create_subvolume(fill.path(b"sub/nested"))
    fill.write(b"sub/nested/inside", fill.noise(30_001))
    kernel.create_subvolume(fill.path(b"sub/tree/odd-\xff\nname"))
    fill.write(b"sub/tree/odd-\xff\nname/inside", fill.text(3001))
    kernel.create_subvolume(fill.path(b"doomed"))
    fill.write(b"doomed/file", fill.noise(50_000))
    fill.mkdir(b"snaps")


def overwrites(fill: Filler) -> None:
    """Overwrite the middle of committed extents, and overwrite that again, on sector bounds and off them."""
    bases = [b"plain/base", b"nocow/file-1", b"nodatasum/file-0", b"prealloc/partly-later"]
    bases += [b"compressed/%s/base" % algorithm.encode() for algorithm in ALGORITHMS]
    for name in bases:
        content = fill.text if name.startswith(b"compressed") else fill.noise
        fill.write(name, content(3 * BLOCK), 10 * BLOCK)
        fill.write(name, content(5000), 20 * BLOCK + 123)
    fill.sync()
    for name in bases:
        fill.write(name, fill.noise(2 * BLOCK), 9 * BLOCK)
    for name in (b"plain/inline-extended", *(b"compressed/%s/inline-extended" % a.encode() for a in ALGORITHMS)):
        fill.write(name, fill.text(6000), 1400)
    os.truncate(fill.path(b"plain/inline-stretched"), 10_000)


def reflinks(fill: Filler) -> None:
    """Share whole files, pieces at other offsets, one piece many times, and tails that end in mid-sector."""
    fill.mkdir(b"reflinks")
    bases = [b"plain/base", *(b"compressed/%s/base" % algorithm.encode() for algorithm in ALGORITHMS)]
    for number, base in enumerate(bases):
        target = b"reflinks/%d-" % number
        fill.clone(base, target + b"whole")
        fill.write(target + b"pieces", fill.noise(40 * BLOCK + 9))
        fill.sync()
        fill.clone_blocks(base, 3, 12, target + b"pieces", 17)  # shifted, over the bookends
        fill.clone_blocks(base, 33, 1, target + b"pieces", 2)
        for copy in range(12):
            fill.clone_blocks(base, 5, 4, target + b"repeat", copy * 5)
        kernel.clone_range(fill.path(base), 60 * BLOCK, 0, fill.path(target + b"tail"), 3 * BLOCK)
        fill.clone_blocks(target + b"whole", 30, 8, target + b"whole", 70)  # within one file
        fill.write(target + b"whole", fill.noise(BLOCK), 31 * BLOCK)  # and unshared again
    fill.clone(b"sizes/noise-1", b"reflinks/inline")
    fill.clone(b"prealloc/partly", b"reflinks/prealloc")


def punched(fill: Filler) -> None:
    """Punch and zero ranges of committed extents, on sector bounds and off them."""
    for offset in (0, 40_000, 131_072, 500_000):
        kernel.fallocate(fill.path(b"holes/punched"), kernel.PUNCH_HOLE | kernel.KEEP_SIZE, offset, 12_345)
    for offset, length in ((8 * BLOCK, 8 * BLOCK), (100_001, 20_000)):
        kernel.fallocate(fill.path(b"holes/zeroed"), kernel.ZERO_RANGE, offset, length)


def snapshots(fill: Filler) -> None:
    """Snapshot the subvolume, read-only and writable, and write to both sides afterwards."""
    kernel.create_snapshot(fill.path(b"sub"), fill.path(b"snaps/ro"), read_only=True)
    kernel.create_snapshot(fill.path(b"sub"), fill.path(b"snaps/rw"), read_only=False)
    fill.write(b"sub/a", fill.noise(3 * BLOCK), 7 * BLOCK)
    os.unlink(fill.path(b"sub/b"))
    fill.write(b"sub/new", fill.text(7777))
    fill.write(b"snaps/rw/c", fill.noise(BLOCK), 11 * BLOCK)
    os.rename(fill.path(b"snaps/rw/b"), fill.path(b"snaps/rw/tree/b-renamed"))


def snapshots_of_snapshots(fill: Filler) -> None:
    """Snapshot both snapshots, write to a writable one, and delete a subvolume."""
    kernel.create_snapshot(fill.path(b"snaps/rw"), fill.path(b"snaps/of-rw"), read_only=True)
    kernel.create_snapshot(fill.path(b"snaps/ro"), fill.path(b"snaps/of-ro"), read_only=False)
    fill.write(b"snaps/rw/c", fill.noise(2 * BLOCK), 20 * BLOCK)
    fill.write(b"snaps/of-ro/only-here", fill.noise(50_001))
    fill.clone_blocks(b"sub/a", 2, 9, b"snaps/of-ro/only-here", 1)
    kernel.delete_subvolume(fill.path(b"doomed"))
    kernel.finish_deletions(fill.path(b""))

"""A tar archive as a source of files: ustar, GNU and pax, read in one go from a file or a pipe.

Names count from the top of the image: leading slashes and "." are left out. Nothing is followed or extracted on the
host, and one member is held at a time, so that an archive can neither lead out nor fill the memory.
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote_to_bytes

from btrimg.build import tarheaders
from btrimg.build.archive import Archive
from btrimg.build.entries import PIECE, XATTRS_KEPT, Entry, aligned, clock, until
from btrimg.build.tarheaders import BLOCK
from btrimg.errors import BtrimgError
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.build.entries import Pieces, Xattrs
    from btrimg.build.tarheaders import Header, Pax, Segments

_MOST_SAID = 16 * MIB  # bytes of pax headers and long names of one member, and of all global pax headers
_MOST_SEGMENTS = 1 << 20  # of a sparse file
_MOST_AFTER = 16 * MIB  # bytes that are read behind the end, for the checksum of a compressed stream
_MAX_SIZE = (1 << 63) - 1  # loff_t
_FIRST_TIME, _LAST_TIME = -(1 << 63) * 10**9, ((1 << 63) - 1) * 10**9  # s64, in ns
_NO_ID = (1 << 32) - 1  # -1 means "leave it" to chown(2)

_LINK = b"1"
_TYPES = {
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
    b"D": stat.S_IFDIR,  # of GNU incremental archives, with the names in it as data
}
_BEFORE = b"xXgLK"  # speak of what follows: pax headers, and long names as GNU tar has them
_SKIPPED = b"VNAEI"  # a volume's label, long names of 1990, and what Solaris kept beside files
_SPARSE = b"S"
_PAX_ESCAPE = re.compile(rb"%(25|3[Dd])")  # as GNU tar writes "%" and "=" in the names of extended attributes
_SCHILY, _LIBARCHIVE = b"SCHILY.xattr.", b"LIBARCHIVE.xattr."


def read_tar(
    stream: BinaryIO,
    name: str,
    sectorsize: int,
    *,
    owner: tuple[int, int] | None = None,
    latest: int | None = None,
    warn: Callable[[str], None] = lambda _text: None,
) -> Iterator[Entry]:
    """Yield an entry for each member of the archive that *stream* is; *name* is for messages.

    Directories that the archive does not mention are not made up, and a path may come again. *owner* is uid and gid of
    everything, *latest* in ns since 1970 is what later times become. Raises BtrimgError where the archive is broken.
    """
    return _Reader(Archive(stream, name), sectorsize, owner, latest, warn).entries()


class _Reader:
    def __init__(
        self,
        archive: Archive,
        sectorsize: int,
        owner: tuple[int, int] | None,
        latest: int | None,
        warn: Callable[[str], None],
    ) -> None:
        self._archive, self._sectorsize, self._warn = archive, sectorsize, warn
        self._owner, self._latest = owner, latest
        self._global: dict[bytes, bytes] = {}
        self._global_size = 0
        self._said: list[tuple[bytes, bytes]] = []  # by the pax headers before a member
        self._long: dict[bytes, bytes] = {}  # by GNU headers before it: of type L its name, K what it links to
        self._said_size = 0
        self._what = "its first header"  # that is being read
        self._left = self._padding = 0  # bytes of the data of the member

    def entries(self) -> Iterator[Entry]:
        """Yield the entries."""
        while block := self._block():
            try:
                kind = tarheaders.kind_of(block)
                self._begin(tarheaders.size_of(block))
                if kind in _BEFORE:
                    self._said_before(kind)
                    entry = None
                else:
                    entry = self._member(kind, block)
            except ValueError as error:
                raise BtrimgError(f"{self._archive.name}, {self._what}: {error}") from None
            if entry:
                yield entry
            self._archive.skip(self._left + self._padding, self._what)

    def _block(self) -> bytes:
        """Return the next header block, nothing at the end of the archive."""
        archive = self._archive
        at = archive.position
        block = archive.read(BLOCK)
        if not at and (len(block) < BLOCK or (any(block) and not tarheaders.is_header(block))):
            raise BtrimgError(f"{archive.name} is no tar archive")
        if not block:
            self._warn(f"{archive.name} ends without the zeros that should end it; it may be cut off")
            return b""
        if len(block) < BLOCK:
            raise BtrimgError(f"{archive.name} ends at byte {archive.position}, inside a header")
        if not any(block):
            for _ in range(_MOST_AFTER // MIB):
                if not archive.read(MIB):
                    break
            return b""
        if not tarheaders.is_header(block):
            raise BtrimgError(f"{archive.name} is broken: what stands at byte {at} is no header")
        return block

    def _member(self, kind: bytes, block: bytes) -> Entry | None:
        """Return the entry that a header begins, None for what is no file; its data come next."""
        header = tarheaders.parse(block)
        self._what = ascii(header.name.decode("utf-8", "surrogateescape"))
        pax: Pax = {**self._global, **dict(self._said)} if self._said or self._global else {}
        said, long = self._said, self._long
        self._said, self._long, self._said_size = [], {}, 0
        if b"size" in pax:
            self._begin(tarheaders.pax_number(pax[b"size"]))
        if kind in _SKIPPED:
            return None
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or long.get(b"L") or header.name
        link = pax.get(b"linkpath") or long.get(b"K") or header.link
        self._what = ascii(name.decode("utf-8", "surrogateescape"))
        if kind == b"M":
            raise ValueError("it continues in this archive what another volume began; join the volumes first")
        if kind == _LINK:
            self._begin(0)  # some say the size of the file, whose data came with its first name
            return self._entry(header, pax, _path(name), stat.S_IFREG)._replace(same_as=_path(link))
        mode = _TYPES.get(kind, stat.S_IFDIR if name[-1:] == b"/" and kind in b"0\0" else stat.S_IFREG)
        entry = self._entry(header, pax, _path(name), mode)
        if mode == stat.S_IFREG:
            return self._regular(entry, kind, block, pax, said)
        if mode == stat.S_IFLNK:
            return entry._replace(target=link)
        if mode in (stat.S_IFCHR, stat.S_IFBLK):
            return entry._replace(device=(header.major, header.minor))
        return entry

    def _begin(self, size: int) -> None:
        if not 0 <= size <= _MAX_SIZE:
            raise ValueError(f"no file can have {size} bytes")
        self._left, self._padding = size, -size % BLOCK

    def _take(self, length: int) -> bytes:
        """Return the next bytes of the member's data."""
        if length > self._left:
            raise ValueError("its data end before the map of its holes says so")
        self._left -= length
        return self._archive.exactly(length, self._what)

    def _said_before(self, kind: bytes) -> None:
        """Take in a header that speaks of the next member, or of all that follow."""
        size = self._left
        self._said_size += size
        self._global_size += size if kind == b"g" else 0
        if max(self._said_size, self._global_size) > _MOST_SAID:
            raise ValueError(f"more than {_MOST_SAID >> 20} MiB of names and attributes are more than are read")
        body = self._take(size)
        if kind == b"g":
            self._global.update(tarheaders.pax_records(body))
        elif kind in b"LK":
            self._long[kind] = body.partition(b"\0")[0]
        else:
            self._said += tarheaders.pax_records(body)

    def _entry(self, header: Header, pax: Pax, path: bytes, mode: int) -> Entry:
        if not path and mode != stat.S_IFDIR:
            raise ValueError("it has no name")
        uid, gid = header.uid, header.gid
        modification = header.mtime * 10**9
        times = (modification,) * 4
        xattrs: Xattrs = ()
        if pax:
            uid = tarheaders.pax_number(pax[b"uid"]) if b"uid" in pax else uid
            gid = tarheaders.pax_number(pax[b"gid"]) if b"gid" in pax else gid
            times = _times(pax, modification)
            xattrs = self._xattrs(pax)
        if not (0 <= uid < _NO_ID and 0 <= gid < _NO_ID) and not self._owner:
            raise ValueError(f"no file can be owned by {uid}:{gid}")
        if not (min(times) >= _FIRST_TIME and max(times) <= _LAST_TIME):
            raise ValueError("no file can have such a time: seconds have 64 bits")
        shown = clock(*times) if self._latest is None else until(clock(*times), self._latest)
        return Entry(path, mode | header.mode, self._owner or (uid, gid), shown, xattrs)

    def _xattrs(self, pax: Pax) -> Xattrs:
        found: dict[bytes, bytes] = {}
        for keyword, value in pax.items():
            if keyword.startswith(_SCHILY):
                name = _PAX_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), keyword[len(_SCHILY) :])
                found[name] = value
            elif keyword.startswith(_LIBARCHIVE):
                found.setdefault(unquote_to_bytes(keyword[len(_LIBARCHIVE) :]), _from_base64(value))
            elif keyword == b"RHT.security.selinux":
                found[b"security.selinux"] = value + b"\0"
            elif keyword.startswith(b"SCHILY.acl."):
                self._warn(f"{self._archive.name}: access control lists are left out; tar keeps them with --xattrs")
        return tuple(sorted((name, value) for name, value in found.items() if name.startswith(XATTRS_KEPT)))

    # Content

    def _regular(self, entry: Entry, kind: bytes, block: bytes, pax: Pax, said: list[tuple[bytes, bytes]]) -> Entry:
        size = self._left
        if kind == _SPARSE:
            segments, size = self._old_segments(block)
        elif pax.get(b"GNU.sparse.major") == b"1":
            size = tarheaders.pax_number(pax.get(b"GNU.sparse.realsize", b""))
            segments = self._segments_before_data()
        else:
            listed = tarheaders.pax_sparse(said)
            if listed is None:
                return entry._replace(size=size, pieces=self._plain(size))
            segments = listed
            size = tarheaders.pax_number(pax.get(b"GNU.sparse.size") or pax.get(b"GNU.sparse.realsize", b""))
        self._check_segments(segments, size)
        pieces = aligned(self._sparse(segments), self._sectorsize, size)
        return entry._replace(size=size, pieces=pieces, dense=False)

    def _plain(self, size: int) -> Pieces:
        if size <= PIECE:
            return ((0, self._take(size)),) if size else ()
        return ((at, self._take(min(PIECE, size - at))) for at in range(0, size, PIECE))

    def _sparse(self, segments: Segments) -> Iterator[tuple[int, bytes]]:
        for offset, length in segments:
            for at in range(0, length, PIECE):
                yield offset + at, self._take(min(PIECE, length - at))

    def _old_segments(self, block: bytes) -> tuple[Segments, int]:
        segments, size, more = tarheaders.old_sparse(block)
        while more and len(segments) <= _MOST_SEGMENTS:
            found, more = tarheaders.more_sparse(self._archive.exactly(BLOCK, self._what))
            segments += found
        return segments, size

    def _segments_before_data(self) -> Segments:
        """Return the map of a GNU sparse file 1.0: lines of decimal numbers in front of its data."""
        lines: list[bytes] = []
        rest, wanted = b"", 1
        while len(lines) < wanted:
            *more, rest = (rest + self._take(BLOCK)).split(b"\n")
            lines += more
            if len(rest) > BLOCK:
                raise ValueError("the map of its holes is no list of numbers")
            if wanted == 1 and lines:
                wanted += 2 * tarheaders.pax_number(lines[0])
                if not 0 < wanted <= 2 * _MOST_SEGMENTS + 1:
                    raise ValueError(f"{wanted // 2} pieces are more than are read")
        numbers = list(map(tarheaders.pax_number, lines[1:wanted]))
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _check_segments(self, segments: Segments, size: int) -> None:
        if not 0 <= size <= _MAX_SIZE:
            raise ValueError(f"no file can have {size} bytes")
        if len(segments) > _MOST_SEGMENTS:
            raise ValueError(f"{len(segments)} pieces are more than are read")
        end = total = 0
        for offset, length in segments:
            if offset < end or length < 0 or offset + length > size:
                raise ValueError(f"the map of its holes has {length} bytes at {offset}, where they cannot be")
            end, total = offset + length, total + length
        if total != self._left:
            raise ValueError(f"the map of its holes speaks of {total} bytes, the archive has {self._left}")


def _path(name: bytes) -> bytes:
    """Return where a name leads to from the top."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ValueError("'..' in a name leads out of the image, or nowhere")
    if b"\0" in name:
        raise ValueError("no name can have a NUL")
    return b"/".join(parts)


def _times(pax: Pax, modification: int) -> tuple[int, int, int, int]:
    """Return the times that a pax header says, in ns since 1970, as `clock` takes them."""

    def time(keyword: bytes, otherwise: int) -> int:
        return tarheaders.pax_time(pax[keyword]) if keyword in pax else otherwise

    modification = time(b"mtime", modification)
    return (
        time(b"atime", modification),
        time(b"ctime", modification),
        modification,
        time(b"LIBARCHIVE.creationtime", modification),
    )


def _from_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError(f"{text[:40]!r} is no base64") from None

"""Tar archives as a source: judged by GNU tar and the standard library's tarfile, which write what is read here."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import hosttree

from btrimg.build.entries import PIECE, aligned, clock
from btrimg.build.tarball import read_tar
from btrimg.errors import BtrimgError
from btrimg.ondisk.compression import zstd_module

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from btrimg.build.entries import Entry

SECTOR = 4096
NS = 10**9


def read(archive: bytes, **options: object) -> list[tuple[Entry, bytes]]:
    """Return every entry with its content, holes as zeros."""
    entries = read_tar(io.BytesIO(archive), "the archive", SECTOR, **options)  # type: ignore[arg-type]
    return [(entry, content(entry)) for entry in entries]


def content(entry: Entry) -> bytes:
    found = bytearray()
    for offset, data in entry.pieces:
        found += bytes(offset - len(found)) + data
    return bytes(found.ljust(entry.size, b"\0")) if entry.size < 1 << 28 else bytes(found)


def archive_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive that tarfile writes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    top = str(tmp_path_factory.mktemp("source"))
    hosttree.make(top, as_root=os.geteuid() == 0)
    return top


def gnu_tar(source: str, *options: str) -> bytes:
    command = ["tar", "--sort=name", "--atime-preserve=system", *options, "-C", source, "-cf", "-", "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=gnu", "--sparse"],
        ["--format=oldgnu", "--sparse"],
        ["--format=posix", "--xattrs", "--xattrs-include=*"],
        ["--format=posix", "--sparse", "--sparse-version=0.0", "--numeric-owner"],
        ["--format=posix", "--sparse", "--sparse-version=0.1"],
        ["--format=posix", "--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"],
    ],
    ids=" ".join,
)
def test_all_that_gnu_tar_writes_is_read(source: str, options: list[str]) -> None:
    is_pax, is_sparse = "--format=posix" in options, "--sparse" in options
    expected = hosttree.describe(source)
    archive = gnu_tar(source, *options)
    entries = {entry.path: (entry, data) for entry, data in read(archive)}
    assert entries.keys() == expected.keys()
    for path, thing in expected.items():
        entry, data = entries[path]
        if entry.same_as is not None:
            assert entry.same_as in thing.names
            continue
        assert (entry.mode, entry.owner, entry.target) == (thing.mode, thing.owner, thing.target)
        assert entry.times[4:6] == (thing.mtime // NS, thing.mtime % NS if is_pax else 0)
        if is_pax:
            assert entry.times[:4] == (*divmod(thing.atime, NS), *divmod(thing.ctime, NS))
        assert dict(entry.xattrs) == (thing.xattrs if "--xattrs" in options else {})
        if stat.S_ISREG(thing.mode):
            with open(os.path.join(os.fsencode(source), path), "rb", opener=hosttree.opened) as file:
                assert data == file.read()
            assert entry.dense == (not is_sparse or b"sparse" not in path)
        if not entry.dense:
            assert len(data) == thing.size
        assert os.makedev(*entry.device) == thing.rdev


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: zstd_module().compress(data)],
    ids=["gzip", "bzip2", "xz", "zstd"],
)  # fmt: skip
def test_compressed_archives_are_read_as_plain_ones(pack: object) -> None:
    plain = archive_of((member("a"), b"x" * 100_000), (member("b"), os.urandom(5000)))
    assert callable(pack)
    packed = pack(plain)
    assert read(packed) == read(plain)
    assert read(pack(plain[:60_000]) + pack(plain[60_000:])) == read(plain), "several streams, one behind the other"
    with pytest.raises(BtrimgError, match=r"^the archive is cut off|^cannot read the archive|^the archive ends"):
        read(packed[: len(packed) // 2])


@pytest.mark.parametrize(("magic", "name"), [(b"\x04\x22\x4d\x18", "lz4"), (b"\x1f\x9d", "compress")])
def test_what_cannot_be_unpacked_is_named(magic: bytes, name: str) -> None:
    with pytest.raises(BtrimgError, match=f"^the archive is compressed by {name}; unpack it"):
        read(magic + bytes(2000))


def test_a_slow_pipe_is_read_as_a_file() -> None:
    class Slow(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._stream = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Buffer, /) -> int:
            return self._stream.readinto(memoryview(buffer)[:7])

    plain = archive_of((member("a"), b"content" * 500))
    entries = read_tar(io.BufferedReader(Slow(plain)), "a pipe", SECTOR)
    assert [(entry, content(entry)) for entry in entries] == read(plain)


def test_names_count_from_the_top() -> None:
    names = ["./", "/a", "./b//c/./d", "e/", "long/" * 60 + "name", "latin-\udce9"]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        kinds = [tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE for name in names]
        members = ((member(name, type=kind), b"") for name, kind in zip(names, kinds, strict=True))
        found = [entry.path for entry, _ in read(archive_of(*members, form=form))]
        assert found == [b"", b"a", b"b/c/d", b"e", b"long/" * 60 + b"name", b"latin-\xe9"]


def test_pax_headers_count_more_than_what_the_header_says() -> None:
    headers = {
        "mtime": "-1.5", "atime": "12.0000000019", "LIBARCHIVE.creationtime": "7", "uid": "4000000000",
        "SCHILY.xattr.user.a%3Db%25": "value", "LIBARCHIVE.xattr.user.%C3%A9": "AAE",
        "RHT.security.selinux": "label", "SCHILY.xattr.system.nfs4_acl": "left out", "comment": "=x=",
    }  # fmt: skip
    ((entry, _),) = read(archive_of((member("file", pax_headers=headers), b"")))
    assert entry.times == (12, 1, -2, 500_000_000, -2, 500_000_000, 7, 0)
    assert entry.owner == (4_000_000_000, 0)
    assert entry.xattrs == (
        (b"security.selinux", b"label\0"),
        (b"user.a=b%", b"value"),
        ("user.é".encode(), b"\0\1"),
    )


def test_owner_and_latest_time_can_be_overruled() -> None:
    ((entry, _),) = read(archive_of((member("a", mtime=100, uid=5), b"")), owner=(1, 2), latest=50 * NS)
    assert (entry.owner, entry.times) == ((1, 2), clock(*(50 * NS,) * 4))


def test_large_content_comes_in_pieces_and_need_not_be_read() -> None:
    data = os.urandom(3 * PIECE + 5)
    archive = archive_of((member("a"), data), (member("b"), b"next"))
    entries = list(read_tar(io.BytesIO(archive), "the archive", SECTOR))
    assert [entry.path for entry in entries] == [b"a", b"b"]
    first = next(read_tar(io.BytesIO(archive), "the archive", SECTOR))
    assert [(at, len(piece)) for at, piece in first.pieces] == [(n * PIECE, PIECE) for n in range(3)] + [(3 * PIECE, 5)]


# Hostile archives


def patched(archive: bytes, at: int, field: bytes) -> bytes:
    """Return an archive with a field of its first header changed, and the checksum right again."""
    block = bytearray(archive[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + archive[512:]


PLAIN = archive_of((member("file"), b"content"), form=tarfile.USTAR_FORMAT)
SIZE, KIND = 124, 156


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (b"", "the archive is no tar archive"),
        (b"x" * 5000, "the archive is no tar archive"),
        (PLAIN[:100], "the archive is no tar archive"),
        (PLAIN[:515], "the archive ends at byte 515, inside 'file'"),
        (PLAIN[:1024] + b"x" * 512, "the archive is broken: what stands at byte 1024 is no header"),
        (PLAIN[:1024] + b"x" * 5, "the archive ends at byte 1029, inside a header"),
        (patched(PLAIN, 0, b"../file"), "the archive, '../file': '..' in a name leads out of the image, or nowhere"),
        (patched(PLAIN, 0, b"a/../..\0"), "the archive, 'a/../..': '..' in a name leads out of the image, or nowhere"),
        (patched(PLAIN, 0, b".\0\0\0"), "the archive, '.': it has no name"),
        (patched(PLAIN, KIND, b"M"), "the archive, 'file': it continues in this archive"),
        (patched(PLAIN, SIZE, b"\x80\0\0\0\x80" + bytes(7)), "no file can have 9223372036854775808 bytes"),
        (patched(PLAIN, SIZE, b"\xff" * 12), "no file can have -1 bytes"),
        (patched(PLAIN, SIZE, b"77777777777\0"), "the archive ends at byte"),
        (patched(PLAIN, SIZE, b"9999\0"), "is no octal number"),
        (patched(PLAIN, 108, b"\xff" * 8), "no file can be owned by -1:0"),
        (patched(PLAIN, 136, b"\x80" + b"\x7f" * 11), "no file can have such a time"),
        (patched(PLAIN, KIND, b"x"), "a record of its pax header has no length: b'content'"),
        (patched(patched(PLAIN, KIND, b"g"), SIZE, b"00777777777\0"), "MiB of names and attributes"),
        (archive_of((member("s", pax_headers={"GNU.sparse.map": "0,5,3"}), b"x")), "an offset without a length"),
        (archive_of((member("s", pax_headers={"GNU.sparse.map": "5,9", "GNU.sparse.size": "8"}), b"")), "9 bytes at 5"),
        (
            archive_of((member("s", pax_headers={"GNU.sparse.map": "0,9", "GNU.sparse.size": "9"}), b"x")),
            "speaks of 9 bytes, the archive has 1",
        ),
        (archive_of((member("m", pax_headers={"mtime": "soon"}), b"")), "b'soon' is no time"),
        (
            archive_of((member("m", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "1"}), b"9" * 2000)),
            "the map of its holes is no list of numbers",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_archive_is_told(archive: bytes, sentence: str) -> None:
    with pytest.raises(BtrimgError, match=sentence):
        read(archive)


def test_an_archive_without_its_end_is_warned_of() -> None:
    warnings: list[str] = []
    assert len(read(PLAIN[:1024], warn=warnings.append)) == 1
    assert warnings == ["the archive ends without the zeros that should end it; it may be cut off"]


def test_zeros_without_end_end() -> None:
    with open("/dev/zero", "rb") as stream:
        assert list(read_tar(stream, "zeros", SECTOR)) == []


def test_chains_of_pax_headers_neither_recurse_nor_grow() -> None:
    header = patched(patched(PLAIN, KIND, b"x"), SIZE, b"00000000017\0")[:512] + b"14 comment=xx\n ".ljust(512, b"\0")
    with pytest.raises(BtrimgError, match="has no length"):
        read(header)
    good = patched(patched(PLAIN, KIND, b"x"), SIZE, b"00000000016\0")[:512] + b"14 comment=xx\n".ljust(512, b"\0")
    assert read(good * 5000 + PLAIN)[0][1] == b"content"


_SEEDS = [
    archive_of((member("a", pax_headers={"SCHILY.xattr.user.x": "y"}), b"c" * 600), (member("d", type=b"5"), b"")),
    archive_of((member("a" * 150), b"c" * 600), form=tarfile.GNU_FORMAT),
    archive_of(
        (member("s", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000"}),
         b"1\n8192\n5\n".ljust(512, b"\0") + b"xxxxx")
    ),
    gzip.compress(PLAIN, mtime=0),
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=12)), max_size=4),
    st.integers(0, 12_000),
    st.booleans(),
)
def test_broken_archives_are_read_or_refused(
    archive: bytes, edits: list[tuple[int, bytes]], length: int, mend: bool
) -> None:
    broken = bytearray(archive)
    for at, data in edits:
        at %= len(broken)
        broken[at : at + len(data)] = data
    if mend and len(broken) >= 512:
        broken[:] = patched(bytes(broken), 0, b"")
    try:
        found = read_tar(io.BytesIO(bytes(broken[:length])), "the archive", SECTOR)
        for entry in found:
            for offset, data in entry.pieces:
                assert offset % SECTOR == 0
                assert offset + len(data) <= entry.size
    except BtrimgError:
        pass


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 9000)), max_size=12), st.integers(0, 5000))
@example([(PIECE - 5, 3 * PIECE), (4_200_000, 2)], 100)
def test_pieces_are_aligned_and_lose_nothing(gaps: list[tuple[int, int]], tail: int) -> None:
    at, pieces = 0, []
    expected = bytearray()
    for gap, length in gaps:
        at += gap
        data = bytes(1 + (at + n) % 255 for n in range(min(length, 9000))) * (length // 9000 or 1)
        pieces.append((at, data))
        expected += bytes(at - len(expected)) + data
        at += len(data)
    size = at + tail
    found = list(aligned(pieces, SECTOR, size))
    assert all(
        offset % SECTOR == 0 and (len(data) % SECTOR == 0 or offset + len(data) == size) for offset, data in found
    )
    assert all(0 < len(data) <= PIECE for _, data in found)
    assert all(one[0] + len(one[1]) <= other[0] for one, other in pairwise(found))
    assert joined(found, size) == expected.ljust(size, b"\0")
    touched = {at // SECTOR for offset, data in pieces for at in range(offset, offset + len(data))}
    assert sum(-(-len(data) // SECTOR) for _, data in found) == len(touched), "no sector without data"


def joined(pieces: Iterable[tuple[int, bytes]], size: int) -> bytes:
    whole = bytearray(size)
    for offset, data in pieces:
        whole[offset : offset + len(data)] = data
    return bytes(whole)

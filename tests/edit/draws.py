"""What edits by chance are about: paths, places, contents, files of the host; the same seed draws the same."""

from __future__ import annotations

import os
import stat
from random import Random
from typing import TYPE_CHECKING

from support.populate import COLLIDING, ODD_NAMES

from .plainnodes import BLOCK, HostFile, NotThereError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .plainfiles import PlainFiles
    from .plainnodes import Node

    Do = Callable[[PlainFiles], None]

REGULAR, DIRECTORY, SYMLINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_FEW = 12  # names of one directory that are chosen from
_WORDS = b"extent page cache shared inode tree leaf key chunk stripe device offset snapshot".split()


class Draws:
    """Draws from what *model* has; files of the host are made in *directory*."""

    def __init__(self, seed: str, directory: str) -> None:
        self._random = Random(seed)
        self._host = os.fsencode(directory)
        self._made = self._snapshots = 0
        self._trees: list[HostFile] = []
        self._found: dict[int, list[bytes]] = {}
        self.model: PlainFiles

    # Choosing

    def _once_in(self, count: int) -> bool:
        return self._random.randrange(count) == 0

    def _paths(self, kind: int) -> list[bytes]:
        """Return paths of one kind (S_IFREG …, 0 for subvolumes), of each directory a few."""
        if not self._found:
            waiting = [(b"/", self.model.top)]
            while waiting:
                path, node = waiting.pop()
                if node.is_far or b"@" in path:
                    continue
                for each in (node.kind, *([0] if node.is_subvolume else [])):
                    self._found.setdefault(each, []).append(path)
                names = sorted(node.names)
                if len(names) > _FEW:
                    names = sorted(self._random.sample(names, _FEW))
                waiting += [(path.rstrip(b"/") + b"/" + name, node.names[name]) for name in names]
        return self._found.get(kind, [])

    def _any(self, *kinds: int) -> bytes:
        """Return a path of one of these kinds; rarely one that is of another, or not there."""
        if self._once_in(40):
            kinds = (REGULAR, DIRECTORY, SYMLINK, 0)
        if self._once_in(60):
            return self._any(DIRECTORY).rstrip(b"/") + b"/nothing/here"[: self._random.choice([8, 13])]
        return self._through_link(self._random.choice(self._of(self._random.choice(kinds)) or [b"/"]))

    def _of(self, kind: int) -> list[bytes]:
        """Return paths of a kind, rarely also those in subvolumes that are read-only."""
        found = self._paths(kind)
        if self._once_in(10):
            return found
        return [path for path in found if not self._is_read_only(path)]

    def _is_read_only(self, path: bytes) -> bool:
        found = self.model.look(path)
        inside = found.node is not None and found.node.is_subvolume
        return (found.node if inside and found.node else found.subvolume).is_read_only

    def _through_link(self, path: bytes) -> bytes:
        """Return *path*, rarely by way of a symbolic link."""
        if not self._once_in(12):
            return path
        head, _, name = path.rpartition(b"/")
        links = [each for each in self._paths(SYMLINK) if self.model.is_directory(each)]
        links = [each for each in links if self.model.follow(each) == (head or b"/")]
        return self._random.choice(links) + b"/" + name if links else path

    def _new(self, *kinds: int) -> bytes:
        """Return a path where something new is to be: mostly a free one, else that of something of these kinds."""
        if kinds and self._once_in(5):
            return self._any(*kinds)
        self._made += 1
        names = [b"edit %d" % self._made] * 8 + [*COLLIDING, *ODD_NAMES, (b"edit %d " % self._made).ljust(255, b"n")]
        return self._any(DIRECTORY).rstrip(b"/") + b"/" + self._random.choice(names)

    def _node(self, path: bytes) -> Node | None:
        try:
            return self.model.find(self.model.follow(path))[1]
        except NotThereError:
            return None

    def _size_of(self, path: bytes) -> int:
        node = self._node(path)
        return node.size if node is not None and node.kind == REGULAR else 0

    def _size(self) -> int:
        one = self._random
        return one.choice(
            [
                *(0, 1, 2047, 2048, 2049, 4095, BLOCK, 4097, 5 * BLOCK, 128 << 10),
                *(one.randrange(6000), one.randrange(50_000), one.randrange(300_000)),
            ]
        )

    def _offset(self, path: bytes) -> int:
        """Return an offset in a file, rarely one behind its end."""
        size = self._size_of(path)
        at = self._random.randrange(size + 1 + (size + 9000) * self._once_in(6))
        return at // BLOCK * BLOCK if self._once_in(2) else at

    def _content(self) -> bytes:
        """Return content without blocks of zeros; half of it can be compressed."""
        size = self._size()
        if self._once_in(2):
            return self._random.randbytes(size)
        words = b" ".join(self._random.choices(_WORDS, k=200)) + b" %d " % self._random.randrange(10**9)
        return (words * (size // len(words) + 1))[:size]

    def _mode(self) -> int:
        return self._random.choice(
            [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2644, 0o1777, 0o2775, self._random.randrange(0o10000)]
        )

    def _time(self) -> int:
        return self._random.randrange(-(10**18), 10**19)

    def _owner(self) -> tuple[int, int]:
        return self._random.randrange(70_000), self._random.randrange(1 << 32)

    def _compress(self) -> list[str]:
        if not self._once_in(5):
            return []
        return ["--compress", self._random.choice(["zlib", "lzo", "zstd", "zstd:12", "none"])]

    # Files of the host

    def _host_file(self, content: bytes, name: bytes = b"") -> HostFile:
        self._made += 1
        path = name or self._host + b"/host %d" % self._made
        with open(path, "wb") as file:
            file.write(content)
        return self._described(HostFile(path, REGULAR, 0, 0, 0, {}, content))

    def _described(self, file: HostFile) -> HostFile:
        """Give what was made on the host its attributes."""
        owner, time, mode = self._owner(), self._time(), self._mode()
        xattrs = {b"user.put": self._random.randbytes(20)} if self._once_in(4) and file.mode != stat.S_IFIFO else {}
        for key, value in xattrs.items():
            os.setxattr(file.path, key, value)
        os.chown(file.path, *owner)
        os.chmod(file.path, mode)
        time = max(min(time, 2**33 * 10**9), 0)  # more than filesystems of the host may have
        os.utime(file.path, ns=(time, time))
        found = os.stat(file.path)
        return file._replace(
            mode=stat.S_IFMT(file.mode) | mode, uid=owner[0], gid=owner[1], time=found.st_mtime_ns, xattrs=xattrs
        )

    def _host_tree(self) -> HostFile:
        """Make a directory of the host."""
        self._made += 1
        top = self._host + b"/tree %d" % self._made
        os.mkdir(top)
        os.mkdir(top + b"/sub")
        inner = [(name, self._host_file(self._content(), top + b"/sub/" + name)) for name in (b"a", b"b")]
        sub = self._described(HostFile(top + b"/sub", DIRECTORY, 0, 0, 0, {}, inside=tuple(inner)))
        one = self._host_file(self._content(), top + b"/one")
        os.link(top + b"/one", top + b"/two")
        os.symlink(b"sub/a", top + b"/link")
        os.chown(top + b"/link", 7, 8, follow_symlinks=False)
        os.utime(top + b"/link", ns=(10**18, 10**18), follow_symlinks=False)
        link = HostFile(top + b"/link", SYMLINK | 0o777, 7, 8, 10**18, {}, target=b"sub/a")
        os.mkfifo(top + b"/pipe")
        pipe = self._described(HostFile(top + b"/pipe", stat.S_IFIFO, 0, 0, 0, {}))
        names = ((b"link", link), (b"one", one), (b"pipe", pipe), (b"two", one), (b"sub", sub))
        os.utime(top + b"/sub", ns=(sub.time, sub.time))
        return self._described(HostFile(top, DIRECTORY, 0, 0, 0, {}, inside=names))

    def _changed_tree(self, tree: HostFile) -> HostFile:
        """Change a file of a directory of the host."""
        names = dict(tree.inside)
        for name in (b"one", b"two"):
            os.unlink(tree.path + b"/" + name)
        one = self._host_file(self._content(), names[b"one"].path)
        os.link(one.path, tree.path + b"/two")
        names |= {b"one": one, b"two": one}
        os.utime(tree.path, ns=(tree.time, tree.time))
        return tree._replace(inside=tuple(names.items()))

    def _near(self, path: bytes) -> bytes:
        """Return a new path in the subvolume of *path*."""
        try:
            subvolume, _ = self.model.find(self.model.follow(path, last=False))
        except NotThereError:
            return self._new()
        found = [
            each
            for each in self._paths(DIRECTORY)
            if self._node(each) is not None and self.model.find(each)[0] is subvolume
        ]
        self._made += 1
        return (self._random.choice(found) if found else b"").rstrip(b"/") + b"/edit %d" % self._made

    def _range(self, path: bytes) -> tuple[int, int]:
        """Return a range that begins in a file, if that has content."""
        offset = min(self._offset(path), max(self._size_of(path) - 1, 0))
        length = self._random.choice(
            [1, BLOCK, 3 * BLOCK, 1 + self._random.randrange(60_000), 1 + self._random.randrange(9000)]
        )
        return offset, length

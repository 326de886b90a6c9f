"""Edits by chance, each as words of ``btrimg edit`` and as what a model does: the same seed gives the same edits."""

from __future__ import annotations

import os
import stat
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from support.populate import COLLIDING, ODD_NAMES

from btrimg.ondisk.constants import InodeFlag

from .plainfiles import BLOCK, COMPRESSION, HostFile, NotAllowedError, NotThereError, PlainFiles, below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .plainfiles import Node

    Do = Callable[[PlainFiles], None]

REGULAR, DIRECTORY, SYMLINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_FEW = 12  # names of one directory that are chosen from
_MOST_SNAPSHOTS = 6  # each has all that is in its subvolume, which is compared
_FLAGS = {
    "noatime": InodeFlag.NOATIME,
    "nodump": InodeFlag.NODUMP,
    "sync": InodeFlag.SYNC,
    "dirsync": InodeFlag.DIRSYNC,
}
_STORED = {
    "nodatacow": InodeFlag.NODATACOW | InodeFlag.NODATASUM,
    "compress": InodeFlag.COMPRESS,
    "nocompress": InodeFlag.NOCOMPRESS,
}
_WORDS = b"extent page cache shared inode tree leaf key chunk stripe device offset snapshot".split()


class Edit(NamedTuple):
    """One edit."""

    verb: str
    words: tuple[str, ...]  #: of the command; those of a script are its text
    do: Do

    def __str__(self) -> str:
        return " ".join(map(ascii, self.words))


class Chance:
    """Gives edits of what *model* has; files of the host are made in *directory*."""

    def __init__(self, seed: str, directory: str) -> None:
        self._random = Random(seed)
        self._host = os.fsencode(directory)
        self._made = self._snapshots = 0
        self._trees: list[HostFile] = []
        self._found: dict[int, list[bytes]] = {}
        self.model: PlainFiles

    def next(self, model: PlainFiles) -> Edit:
        """Return the next edit."""
        self.model = model
        self._found = {}
        (make,) = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        verb, words, do = make(self)
        return Edit(verb, tuple(map(os.fsdecode, words)), do)

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

    # Names

    def put(self) -> tuple[str, list[bytes | str], Do]:
        tree: HostFile | None = None
        if self._trees and self._once_in(3):
            at = self._random.randrange(len(self._trees))
            tree = self._trees[at]
            if self._once_in(2):
                tree = self._trees[at] = self._changed_tree(tree)
        elif self._once_in(5):
            tree = self._host_tree()
            self._trees.append(tree)
        sources = [tree] if tree else [self._host_file(self._content())]
        path = (
            self._new()
            if self._once_in(3)
            else self._any(DIRECTORY)
            if tree
            else self._new(REGULAR, DIRECTORY, SYMLINK)
        )
        if self._once_in(8):
            sources.append(self._host_file(self._content()))
            path = self._any(DIRECTORY)
        for name, each in tree.inside if tree else ():
            if name == b"link":  # reading it changed its time of access
                os.utime(each.path, ns=(each.time, each.time), follow_symlinks=False)
        owner = self._owner() if self._once_in(4) else None
        compress = self._compress()
        options = [*compress, *(["--owner", "{}:{}".format(*owner)] if owner else [])]
        how = compress[1] if compress else None
        return (
            "put tree" if tree else "put",
            ["put", *options, *(each.path for each in sources), path],
            lambda model: model.put(sources, path, owner, how),
        )

    def mkdir(self) -> tuple[str, list[bytes | str], Do]:
        parents = self._once_in(3)
        path = self._new(REGULAR, DIRECTORY)
        if parents:
            path += self._random.choice([b"", b"/p", b"/p/q"])
        mode = self._mode() if self._once_in(2) else None
        owner = self._owner() if self._once_in(3) else None
        options = ["-p"] * parents + ([] if mode is None else ["-m", f"{mode:o}"])
        options += ["--owner", "{}:{}".format(*owner)] if owner else []
        return "mkdir", ["mkdir", *options, path], lambda model: model.mkdir(path, mode, owner, parents=parents)

    def rm(self) -> tuple[str, list[bytes | str], Do]:
        recursive, missing = self._once_in(3), self._once_in(6)
        few = [each for each in self._of(DIRECTORY) if each.count(b"/") > 1]
        path = self._random.choice(few) if recursive and few else self._any(REGULAR, REGULAR, SYMLINK)
        return (
            "rm -r" if recursive else "rm",
            ["rm", *["-r"] * recursive, *["-f"] * missing, path],
            lambda model: model.rm(path, recursive=recursive, missing=missing),
        )

    def mv(self) -> tuple[str, list[bytes | str], Do]:
        kind = self._random.choice([REGULAR, REGULAR, DIRECTORY, DIRECTORY, SYMLINK, 0])
        source = self._any(kind)
        path = self._near(source) if self._random.randrange(3) else self._new(kind, DIRECTORY)
        node = self._node(source)
        if node is not None and any(each is other for each in below(node) for other in self.model.crossed):
            return self.mkdir()  # further names of what has moved just now, into another subvolume, may be kept or not
        return "mv subvolume" if kind == 0 else "mv", ["mv", source, path], lambda model: model.mv([source], path)

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

    def ln(self) -> tuple[str, list[bytes | str], Do]:
        to = self._any(REGULAR, REGULAR, REGULAR, SYMLINK)
        path = self._near(to) if self._random.randrange(4) else self._new(REGULAR, DIRECTORY)
        return "ln", ["ln", to, path], lambda model: model.link(to, path)

    def symlink(self) -> tuple[str, list[bytes | str], Do]:
        says = self._any(REGULAR, DIRECTORY, 0)
        path = self._new(REGULAR, DIRECTORY)
        if self._once_in(3):
            says = self._random.choice([b"..", b"nowhere-\xff", b"../" * 3 + says.lstrip(b"/"), b"y" * 2000])
        if says == b"/" or (says == b".." and self.model.is_directory(path)):
            says = b"nowhere"
        return "ln -s", ["ln", "-s", says, path], lambda model: model.symlink(says, path)

    # Contents

    def write(self) -> tuple[str, list[bytes | str], Do]:
        path, data, compress = self._any(REGULAR), self._content(), self._compress()
        offset = self._offset(path)
        host = self._host_file(data).path
        how = compress[1] if compress else None
        return (
            "write",
            ["write", host, path, "--offset", str(offset), *compress],
            lambda model: model.write(path, offset, data, how),
        )

    def truncate(self) -> tuple[str, list[bytes | str], Do]:
        path = self._any(REGULAR)
        size = self._random.choice([self._size(), self._offset(path), self._size_of(path)])
        return "truncate", ["truncate", "-s", str(size), path], lambda model: model.truncate(path, size)

    def punch(self) -> tuple[str, list[bytes | str], Do]:
        path = self._any(REGULAR)
        offset, length = self._range(path)
        return (
            "punch",
            ["punch", "-o", str(offset), "-l", str(length), path],
            lambda model: model.punch(path, offset, length),
        )

    def _range(self, path: bytes) -> tuple[int, int]:
        """Return a range that begins in a file, if that has content."""
        offset = min(self._offset(path), max(self._size_of(path) - 1, 0))
        length = self._random.choice(
            [1, BLOCK, 3 * BLOCK, 1 + self._random.randrange(60_000), 1 + self._random.randrange(9000)]
        )
        return offset, length

    def reflink(self) -> tuple[str, list[bytes | str], Do]:
        source = (
            self._any(REGULAR) if self._random.randrange(4) else self._random.choice(self._paths(REGULAR) or [b"/"])
        )
        chance = self._random.randrange(10)
        if chance < 4:
            path = self._new()
        elif chance < 6:
            path = source
        elif chance < 7:  # another name of the same file, if there is one
            node = self._node(source)
            path = self._random.choice([each for each in self._paths(REGULAR) if self._node(each) is node] or [source])
        else:
            path = self._any(REGULAR)
        first = length = at = 0
        size = self._size_of(source)
        if self._random.randrange(3):
            first = self._random.randrange(size // BLOCK + 1) * BLOCK
            length = self._random.choice(
                [0, size - first, self._random.randrange(1, 20) * BLOCK, self._random.randrange(1, 70_000)]
            )
            length = length if self._once_in(6) else min(length, max(size - first, 0))
            at = self._random.randrange(self._size_of(path) // BLOCK + 3) * BLOCK
            if self._once_in(20):
                at += self._random.randrange(BLOCK)
            elif self._once_in(3) and path != source:
                at = self._size_of(path) // BLOCK * BLOCK
        words = [source + b"@%d" % first + (b"+%d" % length if length else b""), path + b"@%d" % at]
        return (
            "reflink" if first or length or at else "reflink all",
            ["reflink", *words],
            lambda model: model.reflink(source, first, length or None, path, at),
        )

    # Subvolumes

    def snapshot(self) -> tuple[str, list[bytes | str], Do]:
        self._snapshots += 1
        many = self._snapshots > _MOST_SNAPSHOTS
        found = [each for each in self._paths(0) if each != b"/" or self._snapshots == 3]
        source = self._random.choice(found) if found and not self._once_in(20) else self._any(DIRECTORY)
        if many or (source == b"/" and self._snapshots != 3):
            return self.create_subvolume()
        path = self._new(DIRECTORY)
        read_only = self._once_in(2)
        return (
            "snapshot -r" if read_only else "snapshot",
            ["snapshot", *["-r"] * read_only, source, path],
            lambda model: model.snapshot(source, path, read_only=read_only),
        )

    def create_subvolume(self) -> tuple[str, list[bytes | str], Do]:
        path = self._new(DIRECTORY)
        return "subvolume create", ["subvolume", "create", path], lambda model: model.create_subvolume(path)

    def delete_subvolume(self) -> tuple[str, list[bytes | str], Do]:
        path, recursive = self._any(0, 0, 0, DIRECTORY), self._once_in(2)
        return (
            "subvolume delete",
            ["subvolume", "delete", *["-r"] * recursive, path],
            lambda model: model.delete_subvolume(path, recursive=recursive),
        )

    def set_default(self) -> tuple[str, list[bytes | str], Do]:
        path = self._any(0, 0, 0, DIRECTORY)
        return "set-default", ["set-default", path], lambda model: model.set_default(path)

    # Attributes

    def chmod(self) -> tuple[str, list[bytes | str], Do]:
        path, mode = self._any(REGULAR, DIRECTORY, SYMLINK), self._mode()
        return "chmod", ["chmod", f"{mode:04o}", path], lambda model: model.chmod(path, mode)

    def chown(self) -> tuple[str, list[bytes | str], Do]:
        path, (uid, gid) = self._any(REGULAR, DIRECTORY, SYMLINK), self._owner()
        text, both = self._random.choice(
            [(f"{uid}:{gid}", (uid, gid)), (f"{uid}", (uid, None)), (f":{gid}", (None, gid))]
        )
        return "chown", ["chown", text, path], lambda model: model.chown(path, *both)

    def touch(self) -> tuple[str, list[bytes | str], Do]:
        path = self._new(REGULAR, DIRECTORY) if self._once_in(3) else self._any(REGULAR, DIRECTORY, SYMLINK)
        no_create = self._once_in(5)
        times: dict[str, int] = {}
        options: list[bytes | str] = ["-c"] * no_create
        for name in ("atime", "mtime", "ctime", "otime"):
            if self._once_in(2):
                times[name] = self._time()
                options += [f"--{name}", _seconds(times[name])]
        words = ["touch", *options, path]
        if times:  # of access and of content are set in any case
            first = self._time()
            words[1:1] = ["-t", _seconds(first)]
            times = {"atime": first, "mtime": first} | times
        return "touch", words, lambda model: model.touch(path, times, no_create=no_create)

    def chattr(self) -> tuple[str, list[bytes | str], Do]:
        chance = self._random.randrange(4)
        if chance == 0:
            path = self._any(REGULAR, DIRECTORY)
            value = self._random.choice(["zlib", "lzo", "zstd", "zstd:3", "none", ""])
            return (
                "chattr compression",
                ["chattr", f"compression={value}", path],
                lambda model: _set_compression(model, path, value.encode()),
            )
        if chance == 1:
            path, value = self._any(0, 0, 0, DIRECTORY), self._random.choice(["true", "false", "false"])
            value = "false" if path == b"/" else value  # the kernel is to go on writing there
            return (
                "chattr readonly",
                ["chattr", f"readonly={value}", path],
                lambda model: model.set_read_only(path, value=value == "true"),
            )
        if chance == 2:
            empty = [each for each in self._of(REGULAR) if not self._size_of(each)]
            path = self._any(DIRECTORY) if self._once_in(2) or not empty else self._random.choice(empty)
            name = self._random.choice(list(_STORED))
            flag = int(_STORED[name])
        else:
            path, name = self._any(REGULAR, DIRECTORY), self._random.choice(list(_FLAGS))
            flag = int(_FLAGS[name])
        sign = self._random.choice("++-")
        add, remove = (flag, 0) if sign == "+" else (0, flag)
        return f"chattr {name}", ["chattr", sign + name, path], lambda model: model.chattr(path, add, remove)

    def set_xattr(self) -> tuple[str, list[bytes | str], Do]:
        path = self._any(REGULAR, DIRECTORY, SYMLINK)
        name = self._random.choice(
            [
                b"user.edited",
                b"user.b",
                b"trusted.c-\xff",
                b"security.capability",
                b"user." + self._random.choice(COLLIDING),
            ]
        )
        size = self._random.choice([0, 7, 300, 3000, self._random.randrange(3900), self._random.randrange(70_000)])
        value = self._random.randbytes(size)
        if name == b"security.capability":
            value = bytes.fromhex("0100000200200000000000000000000000000000")
        if self._once_in(2):
            words: list[bytes | str] = ["xattr", "set", path, name, "--from", self._host_file(value).path]
        else:
            words = ["xattr", "set", path, name, "--hex", value.hex()]
        return "xattr set", words, lambda model: model.set_xattr(path, name, value)

    def remove_xattr(self) -> tuple[str, list[bytes | str], Do]:
        kinds = [*self._of(REGULAR), *self._of(DIRECTORY)]
        found = [path for path in kinds if (node := self._node(path)) and node.xattrs]
        path = self._random.choice(found) if found else b"/"
        node = self._node(path)
        names = sorted(node.xattrs) if node else []
        name = self._random.choice(names) if names and not self._once_in(10) else b"user.missing"
        return "xattr remove", ["xattr", "remove", path, name], lambda model: model.remove_xattr(path, name)

    # Several in a script

    def script(self) -> tuple[str, list[bytes | str], Do]:
        """Return several edits as entries of a recipe; those are left out that would be refused."""
        trial = self.model.copied()
        entries: list[str] = []
        doing: list[Do] = []
        for _ in range(self._random.randrange(3, 9)):
            entry, do = self._entry()
            try:
                do(trial)
            except (NotThereError, NotAllowedError):
                continue
            entries.append("[[do]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in entry.items()))
            doing.append(do)

        def do_all(model: PlainFiles) -> None:
            for each in doing:
                each(model)

        return "script", ["--script", "\n".join(entries)], do_all

    def _entry(self) -> tuple[dict[str, object], Do]:
        one = self._random
        self._made += 1
        path = one.choice(self._of(DIRECTORY) or [b"/"]).rstrip(b"/") + b"/entry %d" % self._made
        file = one.choice(self._of(REGULAR) or [path])
        mode, rdev = self._mode() | 0o600, (one.randrange(1 << 12), one.randrange(1 << 20))
        offset, length = self._range(file)
        content = self._content()
        keep, read_only = self._once_in(2), self._once_in(2)
        size = self._size()
        kind = one.randrange(13)
        entry: dict[str, object]
        if kind == 0:
            return {"mkdir": path, "mode": mode}, lambda model: model.mkdir(path, mode, None, parents=False)
        if kind == 1:
            entry = {"file": path, "host": self._host_file(content).path, "mode": mode}
            return entry, lambda model: model.make_file(path, content, mode)
        if kind == 2:
            return {"symlink": path, "to": b"entry\xff"}, lambda model: model.symlink(b"entry\xff", path)
        if kind == 3:
            return {"link": path, "to": file}, lambda model: model.link(file, path)
        if kind == 4:
            entry = {"chardev": path, "device": "{}:{}".format(*rdev), "mode": mode}

            def make(model: PlainFiles) -> None:
                model.make(path, stat.S_IFCHR | mode, rdev)

            return entry, make
        if kind == 5:
            entry = {"write": file, "host": self._host_file(content).path, "offset": offset}
            return entry, lambda model: model.write(file, offset, content)
        if kind == 6:
            entry = {"hole": file, "offset": offset, "length": length}
            return entry, lambda model: model.punch(file, offset, length)
        if kind in (7, 8):
            entry = {"prealloc": file, "offset": offset, "length": length, "keep-size": keep}
            return entry, lambda model: model.preallocate(file, offset, length, keep_size=keep)
        if kind == 9:
            return {"truncate": file, "size": size}, lambda model: model.truncate(file, size)
        if kind == 10:
            return {"reflink": path, "from": file}, lambda model: model.reflink(file, 0, None, path, 0)
        if kind == 11:
            return {"rename": file, "to": path}, lambda model: model.rename(file, path)
        return {"delete": file, "recursive": read_only}, lambda model: model.delete(file, recursive=read_only)


def _set_compression(model: PlainFiles, path: bytes, value: bytes) -> None:
    _, node = model.find(model.follow(path))
    if value:
        model.set_xattr(path, COMPRESSION, value)
    elif COMPRESSION in node.xattrs:
        model.remove_xattr(path, COMPRESSION)


def _seconds(time: int) -> str:
    seconds, rest = divmod(abs(time), 10**9)
    return f"{'-' * (time < 0)}{seconds}.{rest:09}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return (
            "'"
            + "".join(chr(code) if 32 <= code < 127 and code not in b"'\\{" else f"\\x{code:02x}" for code in value)
            + "'"
        )
    return repr(value)


_WEIGHTS: dict[Callable[[Chance], tuple[str, Sequence[bytes | str], Do]], int] = {
    Chance.put: 12,
    Chance.mkdir: 5,
    Chance.rm: 7,
    Chance.mv: 8,
    Chance.ln: 4,
    Chance.symlink: 3,
    Chance.write: 12,
    Chance.truncate: 6,
    Chance.punch: 7,
    Chance.reflink: 14,
    Chance.snapshot: 3,
    Chance.create_subvolume: 2,
    Chance.delete_subvolume: 2,
    Chance.set_default: 1,
    Chance.chmod: 3,
    Chance.chown: 2,
    Chance.touch: 5,
    Chance.chattr: 8,
    Chance.set_xattr: 4,
    Chance.remove_xattr: 2,
    Chance.script: 5,
}

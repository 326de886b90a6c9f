"""Edits by chance, each as words of ``btrimg edit`` and as what a model does: the same seed gives the same edits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from support.populate import COLLIDING

from btrimg.ondisk.constants import InodeFlag

from .draws import DIRECTORY, REGULAR, SYMLINK
from .entries import Entries
from .plainnodes import BLOCK, COMPRESSION, HostFile, below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .draws import Do
    from .plainfiles import PlainFiles


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


class Edit(NamedTuple):
    """One edit."""

    verb: str
    words: tuple[str, ...]  #: of the command; those of a script are its text
    do: Do

    def __str__(self) -> str:
        return " ".join(map(ascii, self.words))


class Chance(Entries):
    """Gives edits of what is there: what each verb of ``btrimg edit`` is asked to do."""

    def next(self, model: PlainFiles) -> Edit:
        """Return the next edit."""
        self.model = model
        self._found = {}
        (make,) = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        verb, words, do = make(self)
        return Edit(verb, tuple(map(os.fsdecode, words)), do)

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


def _set_compression(model: PlainFiles, path: bytes, value: bytes) -> None:
    _, node = model.find(model.follow(path))
    if value:
        model.set_xattr(path, COMPRESSION, value)
    elif COMPRESSION in node.xattrs:
        model.remove_xattr(path, COMPRESSION)


def _seconds(time: int) -> str:
    seconds, rest = divmod(abs(time), 10**9)
    return f"{'-' * (time < 0)}{seconds}.{rest:09}"


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

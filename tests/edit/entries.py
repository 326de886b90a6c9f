"""Several edits by chance as entries of a recipe, which one commit takes."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from .draws import DIRECTORY, REGULAR, Draws
from .plainnodes import NotAllowedError, NotThereError

if TYPE_CHECKING:
    from .draws import Do
    from .plainfiles import PlainFiles


class Entries(Draws):
    """Draws whole scripts."""

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

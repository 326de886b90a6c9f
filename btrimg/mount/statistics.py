"""How much memory a mount takes, and saves: by subvolume, and the files that save most."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from btrimg.errors import BtrimgError
from btrimg.filesystem.namei import path_in_subvolume
from btrimg.mount.system import MountError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.mount.tree import Files

_FILES, _SUBVOLUMES = 20, 200  #: rows that are told: an xattr has room for 64 KiB


class Use(NamedTuple):
    """A content in memory, and the files that were opened with it."""

    size: int
    resident: int  #: bytes
    sharers: frozenset[int]  #: numbers of visible files

    @property
    def saved(self) -> int:
        """Return the bytes that copies of what is resident would take, one for every further file."""
        return self.resident * (len(self.sharers) - 1)


class Row:
    """What the files of a subvolume take."""

    def __init__(self) -> None:
        self.files = self.unshared = 0
        self.proportional = 0.0


def summary(files: Files, uses: Iterable[Use]) -> dict[str, Any]:
    """Return the statistics as JSON has them; docs/mount.md says what the fields mean."""
    known = [use for use in uses if use.sharers]
    rows: dict[int, Row] = defaultdict(Row)
    for use in known:
        for number in use.sharers:
            row = rows[files.numbers.file(number).subvolume]
            row.files += 1
            row.unshared += use.resident
            row.proportional += use.resident / len(use.sharers)
    most = sorted((use for use in known if use.saved), key=lambda use: (-use.saved, min(use.sharers)))
    order = sorted(rows, key=lambda number: (rows[number].proportional - rows[number].unshared, number))
    return {
        "contents": len(known),
        "files": sum(len(use.sharers) for use in known),
        "resident": sum(use.resident for use in known),
        "saved": sum(use.saved for use in known),
        "subvolumes": [_subvolume(files, number, rows[number]) for number in order[:_SUBVOLUMES]],
        "most_shared": [_file(files, use) for use in most[:_FILES]],
    }


def _subvolume(files: Files, subvolume: int, row: Row) -> dict[str, Any]:
    with files.lock:
        try:
            path = files.image.path_of_subvolume(subvolume)
        except BtrimgError:
            path = None
    proportional = round(row.proportional)
    return {
        "subvolume": subvolume,
        "path": None if path is None else os.fsdecode(path or b"/"),
        "files": row.files,
        "unshared": row.unshared,
        "proportional": proportional,
        "saved": row.unshared - proportional,
    }


def _file(files: Files, use: Use) -> dict[str, Any]:
    file = files.numbers.file(min(use.sharers))
    with files.lock:
        try:
            image = files.image
            top = image.path_of_subvolume(file.subvolume)
            path = path_in_subvolume(image, image.subvolume(file.subvolume), file.ino)
        except BtrimgError:
            top = path = None
    return {
        "path": None if top is None or path is None else os.fsdecode(top + path),
        "size": use.size,
        "resident": use.resident,
        "sharers": len(use.sharers),
        "saved": use.saved,
    }


class StatisticsSocket:
    """A socket that tells whoever connects what *tell* returns; only its owner may. Closed by ``close``."""

    def __init__(self, path: str, tell: Callable[[], bytes]) -> None:
        self._path, self._tell = path, tell
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        try:
            if _is_left_over(path):
                os.unlink(path)
            self._socket.bind(path)
        except OSError as error:
            self._socket.close()
            raise MountError(f"cannot make the socket {path}: {error.strerror or error}") from None
        finally:
            os.umask(mask)
        self._socket.listen()

    def start(self) -> None:
        """Serve, in a thread of its own."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:  # closed
                return
            with peer, suppress(OSError):
                peer.settimeout(5)
                peer.sendall(self._tell() + b"\n")

    def close(self) -> None:
        """Stop listening, and remove the socket's name."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with suppress(OSError):
            os.unlink(self._path)


def _is_left_over(path: str) -> bool:
    """Return whether there is a socket at *path* to which nobody listens: whoever made it was killed."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as peer:
            peer.setblocking(False)  # or who listens, and does not answer, would be waited for
            peer.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:  # there is none, or the path is too long
        return False
    return False


def encoded(statistics: dict[str, Any]) -> bytes:
    """Return *statistics* as one line of JSON."""
    return json.dumps(statistics).encode("utf-8", "surrogateescape")


def of_mount(point: str) -> dict[str, Any]:
    """Return the statistics of the mount at *point*, by an xattr of its top directory; raises MountError."""
    try:
        found: dict[str, Any] = json.loads(os.getxattr(point, STATISTICS_XATTR))
    except OSError as error:
        raise MountError(f"cannot ask the mount at {point}: {error.strerror}") from None
    return found


STATISTICS_XATTR = b"btrimg.statistics"  #: of the top directory of a mount; not listed

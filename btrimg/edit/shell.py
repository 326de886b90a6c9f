"""What a shell on an image knows between its lines: the directory it is in, and whether edits wait for a commit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from btrimg.edit.pending import LentImage, PendingImage
from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem.inode import quoted

if TYPE_CHECKING:
    from btrimg.edit.session import Session
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode


class Surroundings:
    """Where lines of a shell on *session*'s image are at."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.directory = b"/"  #: path of the directory that paths are relative to
        self.collects = False  #: between begin and commit, when edits become one transaction

    @property
    def image(self) -> Image:
        """Return the image as the edits so far have left it, also those that wait; closing it leaves it open."""
        txn = self._session.pending
        return PendingImage(self._session.image, txn) if txn else LentImage(self._session.image)

    def absolute(self, path: bytes) -> bytes:
        """Return *path* from the top directory; ``.`` and ``..`` are taken out by the words, as a shell does."""
        names: list[bytes] = []
        for name in os.path.join(self.directory, path).split(b"/"):
            if name == b"..":
                del names[-1:]
            elif name not in (b"", b"."):
                names.append(name)
        return b"/" + b"/".join(names)

    def change_directory(self, path: bytes) -> None:
        """Go to a directory; raise NotFoundError when it is none."""
        target = self.absolute(path)
        if not self.image.open(target).is_directory:
            raise NotFoundError(f"{quoted(target)} is no directory")
        self.directory = target

    def inode(self, path: bytes) -> Inode:
        """Return the inode at *path*; raise NotFoundError."""
        return self.image.open(self.absolute(path))

    def begin(self) -> None:
        """Let edits wait from now on; raise RefusedError when they do so already."""
        if self.collects:
            raise RefusedError("a transaction has begun already: commit or abort ends it")
        self.collects = True

    def end(self) -> None:
        """Let edits wait no more; raise RefusedError when they do not."""
        if not self.collects:
            raise RefusedError("no transaction has begun: each edit is committed by itself, unless begin collects them")
        self.collects = False

"""What edits of a whole filesystem need of the session that they happen in."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.record import Value
    from btrimg.volume.draft import Piece
    from btrimg.write.transaction import Transaction


class ResizingSink(Protocol):
    """A sink of devices that can be made longer and shorter, if they are files."""

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        """Write *data* at *physical* of a device."""

    def sync(self) -> None:
        """Return when all that was written is durable."""

    def resize(self, devid: int, size: int) -> None:
        """Let the file of a device be *size* bytes long."""


class Editing(Protocol):
    """A session of edits."""

    @property
    def image(self) -> Image:
        """Return the image as the last commit left it."""

    @property
    def sink(self) -> ResizingSink:
        """Return where bytes go."""

    @property
    def pending(self) -> Transaction | None:
        """Return the transaction under way, if there is one."""

    def transaction(self) -> Transaction:
        """Return the transaction under way."""

    def commit(self) -> object:
        """Commit it."""

    def abort(self) -> None:
        """Forget it."""

    def write_pieces(self, pieces: Iterable[Piece]) -> object:
        """Write bytes in place."""


@contextmanager
def one_commit(session: Editing, **fields: Value) -> Iterator[Transaction]:
    """Give a transaction for an edit of the whole filesystem: a commit by itself, made at the end of the block.

    It begins from a superblock with other *fields* than the one on the devices: the engine works as they say, and the
    commit writes them. When the block fails, all is as before. Raises BtrimgError when a transaction is under way, and
    what beginning and committing one does.
    """
    if session.pending is not None:
        raise BtrimgError("a transaction is under way: commit or abort it before this, which is a commit by itself")
    image = session.image
    try:
        image.volume.superblock = image.superblock.replace(**fields)
        yield session.transaction()
        session.commit()
    except BaseException:
        session.abort()
        image.follow(image.superblock)
        raise

"""What edits of a whole filesystem need of the session that they happen in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from btrimg.filesystem.image import Image
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

    def transaction(self) -> Transaction:
        """Return the transaction under way."""

    def commit(self) -> object:
        """Commit it."""

    def write_pieces(self, pieces: Iterable[Piece]) -> object:
        """Write bytes in place."""

"""What every comparison needs to know."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple
from btrimg.oracle.progs import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.oracle.progs import Progs
    from btrimg.oracle.tally import Ledger, Tally


class Setting(NamedTuple):
    """An image, who judges it, and how much of it."""

    image: Image
    devices: tuple[str, ...]  #: paths of the image's files or devices
    progs: Progs
    btrimg: Callable[..., list[str]]  #: the lines that ``btrimg inspect WORDS`` prints
    ledger: Ledger
    most: int | None  #: units of one comparison, spread evenly; None for all

    def further(self) -> list[str]:
        """Return the options that name all devices but the first to a command of btrimg."""
        return [word for device in self.devices[1:] for word in ("--device", device)]

    def share(self, part: int) -> int | None:
        """Return how many units to take of a kind that costs *part* times as much as others; at least one."""
        return None if self.most is None else -(-self.most // part)


@contextmanager
def judging(tally: Tally) -> Iterator[None]:
    """Enter in *tally* that a tool failed, which leaves the rest out, or that btrimg did, which is a difference."""
    try:
        yield
    except ToolError as error:
        tally.skip(f"{tally.judge} says: {error}", 0)
    except BtrimgError as error:
        tally.differs(tally.name, f"an error: {error}", "an answer")

"""How a chunk spreads its bytes over its stripes: all nine profiles as rows of one table, and one formula.

A chunk's stripes form rows of 64 KiB elements, and every element has a *position* in its row. Data columns come first,
the copies of one column side by side; P and Q stand at the end. With parity, each row is turned one stripe further than
the row above, so that parity is spread over all devices. Source: fs/btrfs/volumes.c, btrfs_raid_array and
btrfs_map_block; the kernel agrees with it on every device (tests/filesystem/test_matrix.py).
"""

from __future__ import annotations

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import PROFILE_MASK, STRIPE_LEN, BlockGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    # int, or an int64 array of numpy: the bulk path maps many addresses in one call
    Number = TypeVar("Number", int, Any)


class Profile(NamedTuple):
    """One RAID profile."""

    name: str  #: as btrfs-progs writes it, in lower case
    copies: int  #: of every data byte
    parity: int  #: parity stripes of each row
    turns: int  #: 1 if each row is turned one stripe further, else 0
    min_stripes: int
    max_stripes: int  #: num_stripes is a u16
    tolerated: int  #: devices that may be missing whatever they are


_ANY = (1 << 16) - 1

# devs_min and tolerated_failures of btrfs_raid_array; since v5.15 raid0, raid10, raid5 and raid6 may be as narrow as
# here. sub_stripes on disk is not read: old mkfs wrote 0.
PROFILES = {
    0: Profile("single", 1, 0, 0, 1, 1, 0),
    int(BlockGroup.DUP): Profile("dup", 2, 0, 0, 2, 2, 0),
    int(BlockGroup.RAID0): Profile("raid0", 1, 0, 0, 1, _ANY, 0),
    int(BlockGroup.RAID1): Profile("raid1", 2, 0, 0, 2, 2, 1),
    int(BlockGroup.RAID1C3): Profile("raid1c3", 3, 0, 0, 3, 3, 2),
    int(BlockGroup.RAID1C4): Profile("raid1c4", 4, 0, 0, 4, 4, 3),
    int(BlockGroup.RAID10): Profile("raid10", 2, 0, 0, 2, _ANY, 1),
    int(BlockGroup.RAID5): Profile("raid5", 1, 1, 1, 2, _ANY, 1),
    int(BlockGroup.RAID6): Profile("raid6", 1, 2, 1, 3, 255 + 2, 2),  # 2 has order 255: Q tells no more columns apart
}

_KNOWN_TYPE = sum(BlockGroup)


def profile_of(flags: int) -> Profile:
    """Return the profile that a chunk's type or a block group's flags mean.

    Raises CorruptError when they name more than one, or hold a bit that may be a profile of the future.
    """
    if flags & ~_KNOWN_TYPE:
        raise CorruptError(f"block group flags {flags:#x}: the bits {flags & ~_KNOWN_TYPE:#x} are not known")
    profile = PROFILES.get(flags & PROFILE_MASK)
    if profile is None:
        raise CorruptError(f"block group flags {flags:#x} name more than one profile")
    return profile


def data_columns(width: int, profile: Profile) -> int:
    """Return how many elements of different data a row of *width* stripes holds."""
    return (width - profile.parity) // profile.copies


def row_and_column(offset: Number, width: int, profile: Profile) -> tuple[Number, Number]:
    """Return the row and the data column that hold byte *offset* of a chunk of *width* stripes."""
    element = offset // STRIPE_LEN
    columns = data_columns(width, profile)
    return element // columns, element % columns


def stripe_index(row: Number, position: Number, width: int, profile: Profile) -> Number:
    """Return which of the *width* stripes holds the element at *position* of *row*."""
    return (position + row * profile.turns) % width


def position_of(row: Number, stripe: int, width: int, profile: Profile) -> Number:
    """Return the position of the element that *stripe* holds in *row*: the inverse of :func:`stripe_index`."""
    return (stripe - row * profile.turns) % width


def stripe_index_and_offset(offset: Number, width: int, profile: Profile, copy: int = 0) -> tuple[Number, Number]:
    """Return where *copy* of byte *offset* of a chunk lies: which stripe, and the byte from that stripe's start."""
    row, column = row_and_column(offset, width, profile)
    index = stripe_index(row, column * profile.copies + copy, width, profile)
    return index, row * STRIPE_LEN + offset % STRIPE_LEN

"""Every error that btrimg raises on purpose.

One tree, so that ``except BtrimgError`` is enough; a class exists where a caller would act differently::

    BtrimgError
    ├── NotFoundError            the thing asked for is not there (exit code 1)
    ├── UnsupportedError         the image uses something that btrimg does not read
    ├── DeviceError              a device cannot be opened, is too short, or is missing
    └── CorruptError             what the image says cannot be right
        ├── ChecksumError        stored and computed checksum differ
        └── BlockError           a tree block is not what its parent promised
"""

from __future__ import annotations


class BtrimgError(Exception):
    """Base of all errors; the text is one sentence for a person."""


class NotFoundError(BtrimgError):
    """Report that a path, key, subvolume, device or tree does not exist."""


class UnsupportedError(BtrimgError):
    """Report a feature of the image that btrimg does not read; the text names it."""


class DeviceError(BtrimgError):
    """Report a device that cannot be opened or read, or that is missing."""


class CorruptError(BtrimgError):
    """Report on-disk data that contradicts itself or the format."""


class ChecksumError(CorruptError):
    """Report that no copy of some bytes matches the checksum stored for them."""


class BlockError(CorruptError):
    """Report a tree block of which no copy is what its parent promised."""

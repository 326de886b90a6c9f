"""Every error that btrimg raises on purpose.

One tree, so that ``except BtrimgError`` is enough; a class exists where a caller would act differently::

    BtrimgError
    ├── NotFoundError            the thing asked for is not there (exit code 1)
    ├── UnsupportedError         the image uses something that btrimg does not read
    ├── DeviceError              a device cannot be opened, is too short, or is missing
    ├── OptionError              there can be no new filesystem like the one asked for
    ├── RecipeError              a recipe says what cannot be, or cannot be done
    ├── RefusedError             the files, as they are, do not allow what was asked for
    │   └── HalfDoneError        part of it was done by then: the transaction can only be aborted
    ├── WorseError               a change would leave an image with faults that it did not have (exit code 1)
    ├── NoSpaceError             the devices are full, or the place asked for is taken
    ├── TraceError               a trace of file accesses cannot be read
    └── CorruptError             what the image says cannot be right
        ├── ChecksumError        stored and computed checksum differ
        ├── BlockError           a tree block is not what its parent promised
        └── ItemError            an item is not what its key says
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class BtrimgError(Exception):
    """Base of all errors; the text is one sentence for a person."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process have the error as it is: most are made of other things than their text."""
        return _copy, (type(self), self.args, self.__dict__)


def _copy(kind: type[BtrimgError], args: tuple[Any, ...], fields: dict[str, Any]) -> BtrimgError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class NotFoundError(BtrimgError):
    """Report that a path, key, subvolume, device or tree does not exist."""


class UnsupportedError(BtrimgError):
    """Report a feature of the image that btrimg does not read; the text names it."""


class DeviceError(BtrimgError):
    """Report a device that cannot be opened or read, or that is missing."""


class OptionError(BtrimgError):
    """Report choices for a new filesystem that cannot be, or not together; the text says what to change."""

    def __init__(self, text: str, option: str = "") -> None:
        super().__init__(text)
        self.option = option  #: the choice that would have to be another, as recipes call it; empty for several


class RefusedError(BtrimgError):
    """Report a change that the files, as they are, do not allow: a name is taken, a directory is full."""


class HalfDoneError(RefusedError):
    """Report a change that was found not to be allowed when part of it was done: only an abort is left."""


class WorseError(BtrimgError):
    """Report a change that was refused because it would make the image worse: the text says how."""

    def __init__(self, findings: Sequence[str]) -> None:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__(f"refused, for it would make the image worse: {findings[0]}{more}; --force does it")
        self.findings = tuple(findings)  #: a sentence each


class NoSpaceError(BtrimgError):
    """Report that there is no room for what is to be written; the text has the numbers."""


class RecipeError(BtrimgError):
    """Report an entry of a recipe that cannot be, or cannot be done."""

    def __init__(self, recipe: str, line: int | None, sentence: str) -> None:
        super().__init__(f"{recipe}, line {line}: {sentence}" if line else f"{recipe}: {sentence}")
        self.recipe, self.line, self.sentence = recipe, line, sentence


class TraceError(BtrimgError):
    """Report a trace of file accesses that is of no known format, or about other files than the image's."""


class CorruptError(BtrimgError):
    """Report on-disk data that contradicts itself or the format."""


class ChecksumError(CorruptError):
    """Report that no copy of some bytes matches the checksum stored for them."""


class BlockError(CorruptError):
    """Report a tree block of which no copy is what its parent promised."""

    def __init__(
        self,
        logical: int,
        fault: str,
        detail: str,
        *,
        level: int | None = None,
        tree: int | None = None,
        parent: int | None = None,
    ) -> None:
        super().__init__(f"tree block {logical}: {detail}")
        self.logical, self.fault, self.detail = logical, fault, detail  #: *fault* is a word of ``trees.block.FAULTS``
        self.level = level  #: that its parent promised
        self.tree = tree  #: id of the tree, or of one of the trees, from which it was reached
        self.parent = parent  #: logical address of the node that leads to it, None for a root, or where nobody knows


class ItemError(CorruptError):
    """Report an item of a leaf that cannot be what its key says."""

    def __init__(self, leaf: int, key: Sequence[int], detail: str, *, fault: str = "malformed") -> None:
        super().__init__(f"leaf {leaf}, item ({' '.join(map(str, key))}): {detail}")
        self.leaf, self.key, self.detail = leaf, tuple(key), detail  #: *leaf* is its logical address
        self.fault = fault  #: "layout" where the payload lies outside the leaf, else "malformed"

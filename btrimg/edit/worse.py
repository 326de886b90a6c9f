"""``btrimg check`` before and after an edit that nobody vouches for: what is found only after, the edit has broken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from btrimg.check.rule import ERROR, rules
from btrimg.check.run import check
from btrimg.errors import CorruptError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.superblock import Superblock
from btrimg.volume.device import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from btrimg.check.rule import Rule
    from btrimg.volume.draft import Piece

    Opener = Callable[[str], Device]

#: Fields of a superblock that lead nowhere, so that what reads by it reads the same.
_HARMLESS = frozenset(("csum", "label", "flags"))
_UNREADABLE = "unreadable"


def is_harmless(pieces: Iterable[Piece]) -> bool:
    """Return whether *pieces* change nothing but the label and the flags of superblocks."""
    for piece in pieces:
        if piece.physical not in SUPERBLOCK_OFFSETS or not len(piece.before) == len(piece.after) == SUPERBLOCK_SIZE:
            return False
        before, after = (Superblock.unpack(data).asdict() for data in (piece.before, piece.after))
        if {name for name in before if before[name] != after[name]} - _HARMLESS:
            return False
    return True


def new_faults(paths: Sequence[str], staged: Opener, *, harmless: bool = False, moved: bool = False) -> list[str]:
    """Return a sentence for each error that a check finds on the devices as *staged* opens them, and not on disk.

    With *harmless* only what is about superblocks is looked at. With *moved* blocks have other addresses than before,
    so that errors of one rule are only counted.
    """
    chosen = [each for each in rules().values() if each.severity == ERROR and not each.needs_data]
    if harmless:
        chosen = [each for each in chosen if each.code.startswith("super-")]
    after = _errors(paths, staged, chosen)
    if not after:
        return []
    before = _errors(paths, Device, chosen)
    if before and before[0][0] == _UNREADABLE:  # worse cannot be
        return []
    known = Counter((code, "" if moved else sentence) for code, sentence in before)
    found = []
    for code, sentence in after:
        same = (code, "" if moved else sentence)
        known[same] -= 1
        if known[same] < 0:
            found.append(f"{code}: {sentence}")
    return found


def _errors(paths: Sequence[str], opener: Opener, chosen: Sequence[Rule]) -> list[tuple[str, str]]:
    """Return the code and the sentence of each error; of what cannot be opened, or judged, why not."""
    try:
        with open_image(paths, force=True, replay_log=None, warn=lambda _: None, opener=opener) as image:
            return [(finding.rule.code, finding.sentence()) for finding in check(image, chosen)]
    except CorruptError as error:
        return [(_UNREADABLE, str(error))]

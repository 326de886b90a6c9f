"""The features that a new filesystem may have, as ``mkfs.btrfs -O`` calls them: what they set, and what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import OptionError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import CompatRo, Incompat

if TYPE_CHECKING:
    from collections.abc import Iterable


class Feature(NamedTuple):
    """A feature that can be asked for."""

    name: str
    incompat: int  #: Incompat bits that it sets
    compat_ro: int  #: CompatRo bits
    default: bool
    since: str  #: Linux that first mounts it
    text: str


#: Source of names, versions and defaults: ``mkfs.btrfs -O list-all`` of btrfs-progs 6.19.
FEATURES = (
    Feature("mixed-bg", Incompat.MIXED_GROUPS, 0, False, "2.6.37", "data and metadata share their block groups"),
    Feature(
        "extref", Incompat.EXTENDED_IREF, 0, True, "3.7", "more hard links of a file in one directory, up to 65,536"
    ),
    Feature("raid56", Incompat.RAID56, 0, False, "3.9", "set by the profiles raid5 and raid6"),
    Feature("skinny-metadata", Incompat.SKINNY_METADATA, 0, True, "3.10", "shorter records of tree blocks"),
    Feature("no-holes", Incompat.NO_HOLES, 0, True, "3.14", "a hole of a file takes no item"),
    Feature(
        "free-space-tree",
        0,
        CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID,
        True,
        "4.5",
        "free space is kept in a tree",
    ),
    Feature("raid1c34", Incompat.RAID1C34, 0, False, "5.5", "set by the profiles raid1c3 and raid1c4"),
    Feature("block-group-tree", 0, CompatRo.BLOCK_GROUP_TREE, True, "6.1", "block groups have a tree of their own"),
)

_ALIASES = {"fst": "free-space-tree", "bgt": "block-group-tree"}
_NAMED = {feature.name: feature for feature in FEATURES}

_OPTION = "features"  # what errors here are about

# Known to mkfs.btrfs, and not written: each needs more than a bit and an empty tree.
_UNWRITTEN = ("quota", "squota", "simple-quota", "zoned", "raid-stripe-tree", "rst", "extent-tree-v2", "remap-tree")

# Without these the kernel does not mount it (fs/btrfs/disk-io.c btrfs_check_features).
_NEEDED = {"block-group-tree": ("free-space-tree", "no-holes")}


def wanted(words: Iterable[str]) -> frozenset[str]:
    """Return the features that a filesystem has by default and by *words*: a name adds one, ``^name`` takes one away.

    As in mkfs.btrfs, a default that needs another feature goes when that is taken away. Raises OptionError for a word
    that is unknown, and for two that contradict each other.
    """
    added: dict[str, None] = {}
    taken: dict[str, None] = {}
    for word in words:
        name = _name_of(word.removeprefix("^"))
        (taken if word.startswith("^") else added)[name] = None
    both = [name for name in added if name in taken]
    if both:
        raise OptionError(
            f"the feature {both[0]} is both asked for and taken away: leave out {both[0]} or ^{both[0]}", _OPTION
        )
    features = {feature.name for feature in FEATURES if feature.default and feature.name not in taken} | added.keys()
    for name, needed in _NEEDED.items():
        if name in features and name not in added and not features.issuperset(needed):
            features.remove(name)
    return frozenset(features)


def _name_of(word: str) -> str:
    name = _ALIASES.get(word, word)
    if name in _UNWRITTEN:
        raise OptionError(f"btrimg does not make filesystems with {name}: leave it out", _OPTION)
    if name not in _NAMED:
        raise OptionError(f"no feature is called {word!r}: there are {', '.join(_NAMED)}", _OPTION)
    return name


def refuse_missing(features: frozenset[str]) -> None:
    """Raise OptionError when one of *features* needs another that is not among them."""
    for name in sorted(features & _NEEDED.keys()):
        missing = [needed for needed in _NEEDED[name] if needed not in features]
        if missing:
            raise OptionError(
                f"{name} needs {' and '.join(missing)}: add that, or take away {name} too (^{name})", _OPTION
            )


def bits_of(features: Iterable[str]) -> tuple[int, int]:
    """Return the Incompat and CompatRo bits that *features* set."""
    incompat = compat_ro = 0
    for name in features:
        incompat |= _NAMED[name].incompat
        compat_ro |= _NAMED[name].compat_ro
    return incompat, compat_ro


def names_of(incompat: int, compat_ro: int) -> list[str]:
    """Return the features of which a superblock's Incompat and CompatRo bits have all that they set."""
    return [
        feature.name for feature in FEATURES if not feature.incompat & ~incompat and not feature.compat_ro & ~compat_ro
    ]

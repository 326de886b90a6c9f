"""Where btrfs-progs are known to be wrong or silent, by version: the only differences that are allowed for.

docs/verification.md tells the same to people.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from btrimg.named import NamedTuple
from btrimg.ondisk.constants import SuperFlag

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.oracle.progs import Version

Field = tuple[object, ...]  # the words of a line; a name or an xattr's value is one word, as bytes


def _always(_version: Version) -> bool:
    return True


def _before(*version: int) -> Callable[[Version], bool]:
    return lambda running: running < version


def _same(field: Field) -> Field:
    return field


class Known(NamedTuple):
    """One known difference of lines: *theirs* and *ours* bring a line of either side to what both agree on."""

    tool: str  #: subcommand of inspect-internal
    reason: str
    theirs: Callable[[Field], Field] = _same
    ours: Callable[[Field], Field] = _same
    applies: Callable[[Version], bool] = _always


class Excuse(NamedTuple):
    """One known difference of whole answers, for which *holds* looks at both: ours, theirs."""

    tool: str
    reason: str
    holds: Callable[[Any, Any], bool]
    applies: Callable[[Version], bool] = _always


class Start(NamedTuple):
    """An answer of map-swapfile; ``extent_start`` is ours only: where the first extent starts on its device."""

    physical: int | None
    refusal: str | None = None
    extent_start: int | None = None


def known_differences(tool: str, version: Version) -> list[Known]:
    """Return the differences of lines that are known of one version of *tool*."""
    return [known for known in KNOWN_DIFFERENCES if known.tool == tool and known.applies(version)]


def excuse_for(tool: str, version: Version, ours: object, theirs: object) -> str | None:
    """Return the known reason why two answers of *tool* differ, None if there is none."""
    for excuse in EXCUSES:
        if excuse.tool == tool and excuse.applies(version) and excuse.holds(ours, theirs):
            return excuse.reason
    return None


# Lines of dump-tree and dump-super


def _without_key_offset(field: Field) -> Field:
    """Drop the ``(TYPE 0xOFFSET)`` before an inline reference."""
    first = field[0]
    dropped = isinstance(first, str) and first.startswith("(") and re.fullmatch(r"\(\d+", first)
    return field[2:] if dropped else field


def _owner_ref(field: Field) -> Field:
    return tuple("extent" if word == "textent" else word for word in field) if "textent" in field else field


def _without_names_of_root_flags(field: Field) -> Field:
    if field[0] != "last_snapshot":
        return field
    return tuple(word.partition("(")[0] if isinstance(word, str) else word for word in field)


_TIMES = frozenset({"atime", "ctime", "mtime", "otime", "stime", "rtime"})
_LAST_YEAR = 67_767_976_233_532_799  # seconds after 1970, until which years fit 31 bits


def _without_date_of_late_time(field: Field) -> Field:
    if field[0] not in _TIMES or len(field) < 3:
        return field
    seconds = int(str(field[1]).partition(".")[0]) + (1 << 63)  # as stored, without its sign
    return field[:2] if abs((seconds & (1 << 64) - 1) - (1 << 63)) > _LAST_YEAR else field


def _without_names_of_high_flags(field: Field) -> Field:
    if field[0] != "sequence" or field[2:3] != ("flags",):
        return field
    number, _, _ = str(field[3]).partition("(")
    return (*field[:3], number) if int(number, 16) >> 32 else field


def _tail(field: Field) -> Field:
    return () if field[1:] == ("bytes", "that", "do", "not", "fit") else field


def _super_flag(field: Field) -> Field:
    """Return the line of a superblock's flag that btrfs-progs show as a number with its name."""
    if field[-4:-2] != ("unknown", "flag:"):
        return field
    name = SuperFlag(int(str(field[-2]), 16)).name
    return (*field[:-4], name, field[-1]) if name in SuperFlag.__members__ else field


def _value_cut(field: Field) -> Field:
    return ("data", field[1][:255]) if field[0] == "data" and isinstance(field[1], bytes) else field


def _value_cut_at_nul(field: Field) -> Field:
    cut = _value_cut(field)
    return ("data", cut[1].partition(b"\0")[0]) if cut[0] == "data" and isinstance(cut[1], bytes) else cut


def _blake2(field: Field) -> Field:
    return tuple("(blake2)" if word == "(blake2b)" else word for word in field) if "(blake2b)" in field else field


def _drop(*starts: str) -> Callable[[Field], Field]:
    first_words = {start.partition(" ")[0] for start in starts}

    def drop(field: Field) -> Field:
        return () if field[0] in first_words and " ".join(map(str, field)).startswith(starts) else field

    return drop


def _both(change: Callable[[Field], Field]) -> tuple[Callable[[Field], Field], Callable[[Field], Field]]:
    return change, change


# Lines of tree-stats and list-chunks


def _histogram(field: Field) -> Field:
    return () if field[:2] == ("Seek", "histogram") or (len(field) > 3 and field[1] == "-") else field


def _usage_of_chunk(field: Field) -> Field:
    return (*field[:-1], "-") if re.fullmatch(r"[\d.]+", str(field[-1])) else field


def _end_of_striped_chunk(field: Field) -> Field:
    striped = len(field) == 9 and re.search(r"/RAID(0|10|5|6)$", str(field[2]))
    return (*field[:5], "-", *field[6:]) if striped else field


KNOWN_DIFFERENCES = (
    Known("dump-tree", "xattr values end after 255 bytes", ours=_value_cut),
    Known(
        "dump-tree",
        "xattr values, not being escaped, end at a NUL too",
        ours=_value_cut_at_nul,
        applies=_before(6, 10),
    ),
    Known("dump-tree", "inline references come without their key", ours=_without_key_offset, applies=_before(6, 6)),
    Known("dump-tree", "owner references are misspelt", theirs=_owner_ref),
    Known("dump-tree", "flags of dead subvolumes have no name", *_both(_without_names_of_root_flags)),
    Known("dump-tree", "years beyond 31 bits overflow", *_both(_without_date_of_late_time)),
    Known(
        "dump-tree", "flags of inodes beyond 32 bits, as verity's, have no name", *_both(_without_names_of_high_flags)
    ),
    Known("dump-tree", "bytes that do not fit the item's type are not shown", ours=_tail),
    Known("dump-super", "some flags of superblocks, as that of errors, have no name", theirs=_super_flag),
    Known("dump-tree", "a replacement's stop time is its start time", *_both(_drop("stop time"))),
    Known(
        "dump-tree",
        "device replacements have no body",
        ours=_drop("src devid", "state", "start time", "stop time"),
        applies=_before(6, 9),
    ),
    Known("dump-super", "blake2b is called blake2", ours=_blake2, applies=_before(6, 3, 1)),
    Known(
        "dump-super",
        "metadata_uuid is fsid where there is none",
        *_both(_drop("metadata_uuid")),
        applies=_before(6, 5),
    ),
    Known("tree-stats", "the seek histogram leaves seeks out", *_both(_histogram)),
    Known("tree-stats", "reading takes as long as it takes", *_both(_drop("Total read time"))),
    Known("list-chunks", "PEnd of striped chunks is beyond the device extent", *_both(_end_of_striped_chunk)),
)
USAGE_UNKNOWN = Known("list-chunks", "usage is 0 with a block group tree", *_both(_usage_of_chunk))


# Whole answers


_PATHS_BUFFER = 3800  # of INO_PATHS, as inode-resolve calls it: 4 KiB for paths and pointers to them
_USES_BUFFER = 65536 // 24  # uses that fit what logical-resolve is told to take


def _paths_cut(ours: list[str], theirs: list[str]) -> bool:
    return len("".join(ours)) > _PATHS_BUFFER and set(theirs) < set(ours)


def _uses_cut(ours: list[str], theirs: list[str]) -> bool:
    return len(ours) > _USES_BUFFER and set(theirs) < set(ours)


NOT_MOUNTED = "(not mounted)"  #: stands for the paths in a subvolume that logical-resolve could not reach


def _not_reached(ours: list[str], theirs: list[str]) -> bool:
    reached = set(theirs) - {NOT_MOUNTED}
    return (NOT_MOUNTED in theirs or len("".join(ours)) > _PATHS_BUFFER) and reached < set(ours)


def _accepted_though(*reasons: str) -> Callable[[Start, Start], bool]:
    return lambda ours, theirs: ours.refusal in reasons and theirs.physical is not None


EXCUSES = (
    Excuse("inode-resolve", "only paths that fit the kernel's buffer are shown", _paths_cut),
    Excuse("logical-resolve", "only uses that fit the kernel's buffer are shown", _uses_cut),
    Excuse(
        "logical-resolve (paths)",
        "subvolumes not mounted by themselves, and paths beyond 4 KiB, are left out",
        _not_reached,
    ),
    Excuse(
        "map-swapfile",
        "implicit holes, empty files, shared extents and checksummed data are accepted",
        _accepted_though(
            "file with holes",
            "file is shorter than a sector",
            "file shares extents with another one or a snapshot",
            "file with checksums",
        ),
    ),
    Excuse(
        "map-swapfile",
        "files on several devices are accepted",
        _accepted_though("file stored on multiple devices"),
    ),
    Excuse(
        "map-swapfile",
        "of an extent used from its middle on, its start is shown",
        lambda ours, theirs: ours.extent_start is not None and ours.extent_start == theirs.physical != ours.physical,
    ),
)

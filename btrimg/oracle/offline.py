"""Compare with the tools that need no mount: dump-super, dump-tree and tree-stats of ``btrfs inspect-internal``."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING

from btrimg.oracle.fields import Reading, lines_of
from btrimg.oracle.progs import ToolError
from btrimg.oracle.setting import judging
from btrimg.oracle.survey import some_of, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from btrimg.oracle.fields import Line
    from btrimg.oracle.known import Field
    from btrimg.oracle.setting import Setting
    from btrimg.oracle.survey import Survey
    from btrimg.oracle.tally import Tally

    Named = tuple[str, Line]

_BLOCKS_A_CALL = 256
_STATS_OF_ANY_TREE_SINCE = (6, 19)  # tree-stats -t of 6.2 fails; of versions between, nobody knows

#: Comparisons that this module makes: their units.
UNITS = {
    "dump-super": "superblocks",
    "dump-tree --backups": "listings",
    "dump-tree": "tree blocks",
    "tree-stats": "trees",
}


def dump_super(setting: Setting) -> None:
    """Compare every copy of the superblock of every device, value by value."""
    tally = setting.ledger.open("dump-super", setting.progs.judge, UNITS["dump-super"])
    reading = Reading("dump-super", setting.progs.version)
    tally.whole = 0
    for device in setting.devices:
        with judging(tally):
            words = ("dump-super", "-f", "-a", device)
            theirs = _without_device(lines_of(setting.progs.inspect(*words, any_exit=True)))
            ours = _without_device(setting.btrimg(*words))
            same_lines(tally, reading, f"{device}, ", ours, theirs, lambda field: field[0] == "superblock:")
            found = sum(line.startswith("superblock: ") for line in theirs)
            tally.whole += found
            tally.done(found)
    tally.allow(reading.allowed)


def _without_device(lines: Iterable[str]) -> list[str]:
    """Return *lines* without the name of the device, which btrfs-progs writes raw."""
    return [re.sub(r"^(superblock: bytenr=\d+), device=.*", r"\1", line) for line in lines]


def dump_roots(setting: Setting) -> None:
    """Compare where the root of every tree is, now and in the backup roots, and the totals."""
    tally = setting.ledger.open("dump-tree --backups", setting.progs.judge, UNITS["dump-tree --backups"])
    reading = Reading("dump-tree", setting.progs.version)
    tally.whole = 1
    with judging(tally):
        words = ("dump-tree", "--backups", *setting.devices)
        theirs = list(lines_of(setting.progs.inspect(*words)))
        if len(theirs) < 2:
            raise ToolError("nothing, though it does not fail")
        ours = setting.btrimg(*words)
        same_lines(tally, reading, "", ours[1:], theirs[1:], _begins_listing)  # the first line is the version
        tally.done()


def dump_blocks(setting: Setting, survey: Survey) -> None:
    """Compare tree blocks with all their items, each once however many trees share it."""
    every = survey.blocks()
    blocks = every[spread(len(every), setting.most)].tolist()
    tally = compare_blocks(setting, blocks, len(every))
    if survey.unreadable:
        tally.skip("blocks and items that btrimg cannot read", survey.unreadable)
    if survey.dropped:
        tally.skip("subvolumes whose deletion has begun", survey.dropped)


def compare_blocks(setting: Setting, blocks: Sequence[int], whole: int | None) -> Tally:
    """Compare the tree blocks at the logical addresses *blocks*, in ascending order, of *whole* that there are."""
    tally = setting.ledger.open("dump-tree", setting.progs.judge, UNITS["dump-tree"])
    reading = Reading("dump-tree", setting.progs.version)
    tally.whole = whole
    for at in range(0, len(blocks), _BLOCKS_A_CALL):
        with judging(tally):
            chosen = blocks[at : at + _BLOCKS_A_CALL]
            named = [word for block in chosen for word in ("-b", str(block))]
            words = ("dump-tree", "--csum-headers", "--csum-items", *named, *setting.devices)
            theirs = by_block(lines_of(setting.progs.inspect(*words, any_exit=True)))
            if theirs.keys().isdisjoint(chosen):
                raise ToolError("nothing of these blocks")
            ours = by_block(setting.btrimg(*words))
            for block in chosen:
                mine, their = ours.get(block, []), theirs.get(block, [])
                if bool(mine) is bool(their):
                    same_lines(tally, reading, f"block {block}, ", mine, their, _begins_item)
                else:
                    tally.same(f"block {block}", mine[:1], their[:1])
            tally.done(len(chosen), len(chosen) * setting.image.volume.nodesize)
    tally.allow(reading.allowed)
    return tally


def _begins_listing(field: Field) -> bool:
    return field[:3] == ("btrfs", "root", "backup") or "tree" in field


_BLOCK = re.compile(r"(?:leaf|node) (\d+) (?:items|level) ")


def by_block(lines: Iterable[str]) -> dict[int, list[str]]:
    """Return the lines of a dump by the logical address of the block that they tell of."""
    blocks: dict[int, list[str]] = {}
    here: list[str] = []
    for line in lines:
        begins = _BLOCK.match(line) if line[:1] in ("l", "n") else None
        if begins:
            here = blocks.setdefault(int(begins[1]), [])
        here.append(line)
    return blocks


def _begins_item(field: Field) -> bool:
    return field[0] in ("item", "key") and len(field) > 3


def tree_stats(setting: Setting, device: str, subvolumes: Sequence[int]) -> None:
    """Compare sizes and seeks of the four trees that tree-stats takes by itself, and of some subvolumes.

    *device* is one through which btrfs-progs find all others.
    """
    tally = setting.ledger.open("tree-stats", setting.progs.judge, UNITS["tree-stats"])
    reading = Reading("tree-stats", setting.progs.version)
    tally.whole = 4 + len(subvolumes)
    chosen = some_of(subvolumes, setting.share(100))
    if setting.progs.version < _STATS_OF_ANY_TREE_SINCE:
        tally.skip("subvolumes: tree-stats -t needs btrfs-progs 6.19", len(subvolumes))
        chosen = []
    for trees in ([], *([number] for number in chosen)):
        with judging(tally):
            words = ("tree-stats", "-b", *(word for number in trees for word in ("-t", str(number))))
            theirs = list(lines_of(setting.progs.inspect(*words, device)))
            ours = setting.btrimg(*words, setting.devices[0], *setting.further())
            same_lines(tally, reading, "", ours, theirs, lambda field: field[0] == "Calculating")
            tally.done(len(trees) or 4)
    tally.allow(reading.allowed)


def same_lines(
    tally: Tally,
    reading: Reading,
    where: str,
    ours: Sequence[str],
    theirs: Sequence[str],
    begins: Callable[[Field], bool],
) -> None:
    """Compare lines by their values, group by group; *begins* says which line begins a group and is its name."""
    if ours == theirs and not any("\\" in line for line in ours):  # only an escape can mean something else
        tally.values += len(ours)
        return
    mine, their = (list(_named(side, begins)) for side in (reading.ours(ours), reading.theirs(theirs)))
    for our, other in _paired(mine, their):
        name = (our or other or ("",))[0]
        if tally.same(f"{where}{name}", our and our[1].field, other and other[1].field) and our and other:
            reading.allow(our[1], other[1])


def _named(lines: Iterator[Line], begins: Callable[[Field], bool]) -> Iterator[Named]:
    """Yield each line with the name of its group."""
    name = ""
    for line in lines:
        if begins(line.field):
            name = " ".join(map(str, line.field)).partition(" itemoff ")[0]
        yield name, line


def _paired(ours: Sequence[Named], theirs: Sequence[Named]) -> Iterator[tuple[Named | None, Named | None]]:
    """Yield what stands beside each other; where a line is missing on one side, the next ones still meet."""
    if len(ours) == len(theirs):
        yield from zip(ours, theirs, strict=True)
        return
    mine, their = ([line.field for _, line in side] for side in (ours, theirs))
    for _, first, last, their_first, their_last in SequenceMatcher(None, mine, their, autojunk=False).get_opcodes():
        yield from zip_longest(ours[first:last], theirs[their_first:their_last])

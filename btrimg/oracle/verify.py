"""Compare everything about an image, or about what is below one path, with whoever can judge it here."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple
from btrimg.oracle import chosen, files, kernel, mapping, offline, resolving
from btrimg.oracle.files import FileComparison
from btrimg.oracle.kernel import MountError
from btrimg.oracle.mounting import mountable_first, options_of, why_not_twice
from btrimg.oracle.resolving import Resolving
from btrimg.oracle.survey import Survey, subjects_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.filesystem.inode import Inode
    from btrimg.oracle.chosen import Chosen
    from btrimg.oracle.setting import Setting

_OF_FILES = ("logical-resolve", "logical-resolve (paths)", "inode-resolve", "rootid", "map-swapfile", *files.UNITS)
_UNITS = resolving.UNITS | files.UNITS


class Mounting(NamedTuple):
    """Whether the image may be mounted."""

    refused: str | None  #: why not, before anything is tried
    why_unclean: Callable[[], str | None]  #: asked before the mount; what speaks against it


def verify(setting: Setting, inode: Inode | None, mounting: Mounting) -> None:
    """Make every comparison that can be made, and enter the others in the ledger with the reason.

    With *inode*, only what is about it and what is below it. What the ledger tells of may be hours of work for a large
    image without ``setting.most``.
    """
    image = setting.image
    units = _UNITS if inode is None else {name: _UNITS[name] for name in _OF_FILES}
    try:
        what = _offline(setting, inode)
    except BtrimgError as error:
        setting.ledger.leave_out(units, "", f"btrimg cannot say what there is to compare: {error}")
        return
    cannot = kernel.why_no_mounts() or why_not_twice(image)
    with ExitStack() as stack:
        alone = image.superblock.num_devices == 1
        loops: list[str] = []
        if cannot is None and (mounting.refused is None or not alone):
            try:
                loops = stack.enter_context(kernel.attached(mountable_first(image)))
            except MountError as error:
                cannot = str(error)
        reached = setting.devices if alone else loops
        _by_device(setting, inode, what, reached[0] if reached else None, cannot or "")
        refused = mounting.refused or cannot
        if refused is None:
            unclean = mounting.why_unclean() or setting.progs.why_unclean(loops[0])
            refused = f"not mounted, since its check is not clean: {unclean}" if unclean else None
        if refused is None:
            try:
                top = stack.enter_context(kernel.mounted(loops, options=options_of(image)))
            except MountError as error:
                refused = str(error)
        if refused is None:
            _mounted(setting, what, top)
        else:
            setting.ledger.leave_out(units, "", refused)


def _offline(setting: Setting, inode: Inode | None) -> Chosen:
    """Compare with the tools that read image files, and choose what else to compare."""
    if inode is None:
        offline.dump_super(setting)
        offline.dump_roots(setting)
        survey = Survey(setting.image)
        offline.dump_blocks(setting, survey)
        return chosen.of_image(setting, survey)
    subjects = subjects_below(inode)
    what = chosen.below(setting, subjects)
    blocks = chosen.blocks_of(setting.image, what.subjects)
    complete = len(what.subjects) == len(subjects)
    offline.compare_blocks(setting, blocks, len(blocks) if complete else None)
    return what


def _by_device(setting: Setting, inode: Inode | None, what: Chosen, first: str | None, cannot: str) -> None:
    """Compare with the tools that take one device, and find the others among all block devices."""
    if first is None:
        units = {"map-logical": mapping.UNIT} if inode else {"tree-stats": "trees", "map-logical": mapping.UNIT}
        reason = f"btrfs-progs look for the further devices among block devices only, and {cannot}"
        setting.ledger.leave_out(units, setting.progs.judge, reason)
        return
    if inode is None:
        offline.tree_stats(setting, first, what.subvolumes)
    mapping.map_logical(setting, first, what.extents)


def _mounted(setting: Setting, what: Chosen, top: str) -> None:
    """Compare with the kernel, and the tools that ask it, about the filesystem mounted at *top*."""
    tools = Resolving(setting, top)
    addresses = what.addresses(setting.image.volume.sectorsize, setting.most)
    tools.logical(addresses, int(what.extents.data.sum()))
    tools.inodes(what.subjects, what.inodes)
    tools.roots(what.subjects, what.directories)
    if what.subvolumes:
        tools.subvolumes(what.subvolumes)
        tools.devices()
        tools.chunks()
    tools.swapfiles(what.swapfiles, what.regular)
    shown = FileComparison(setting, top, kernel.judge())
    wholes = {"inodes": what.inodes, "directories": what.directories}
    for name, tally in shown.tallies.items():
        tally.whole = wholes.get(name, what.regular)
    if what.unnamed:
        shown.tallies["inodes"].skip("inodes that hang nowhere", what.unnamed)
    for subject in what.subjects:
        shown.compare(subject)

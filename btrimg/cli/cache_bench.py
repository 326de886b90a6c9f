"""``btrimg cache bench``: the shared cache beside the kernel's mount of the same image."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import FURTHER_DEVICES, JSON, TARGET, TOP_LEVEL, open_inode, open_target, warn
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.cli.unit_options import UNITS, take_units

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image


@command(
    TARGET,
    Option("every", ("--all-files",), "Read every file once, too, through both."),
    Option("no_mount", ("--no-mount",), "Do not mount the image, even as root."),
    *UNITS,
    JSON,
    FURTHER_DEVICES,
)
def bench(target: Target, every: bool, no_mount: bool, as_json: bool, device: tuple[str, ...], **options: Any) -> int:
    """Measure the shared cache and mapped views beside the kernel's mount of the same image.

    \b
      sudo btrimg cache bench disk.img
      sudo btrimg cache bench --all-files disk.img:/snapshots
      btrimg cache bench --no-mount --json disk.img

    Of the files with equal extents by which sharing saves the most, 1, 4, 16 and 64 are read, as many as there are:
    what is in memory then, in the cache and in the mount's page cache. Two of them are mapped, and their page frames
    counted. Then 4 KiB at random, all in memory, and the translation of addresses.

    An image whose check is clean is mounted read-only, on loop devices of its own, for nobody else to see. That needs
    root; without, only the cache is measured. Times depend on the machine, so look at the ratios.

    JSON, one object for each measurement: "name", "what", "unit", "cache", "mount" and "ratio" (cache / mount for
    memory, mount / cache for time, so that it says how many times faster; null without a mount).
    """
    from btrimg.cli.progress import counting
    from btrimg.pagecache.bench import measure
    from btrimg.render.answers import json_line
    from btrimg.render.benched import bench_lines, bench_object

    units = take_units(options)
    clean_up_when_stopped()
    with ExitStack() as stack:
        image = stack.enter_context(open_target(target, device=device))
        tops = [open_inode(image, target, TOP_LEVEL)] if target.path else []
        where = None if no_mount else _mounted(image, stack)
        tick = stack.enter_context(counting("read", "files"))
        found = list(measure(image, tops, where, tick, every=every))
    print("\n".join(map(json_line, map(bench_object, found)) if as_json else bench_lines(found, units.text)))
    return 0


def _mounted(image: Image, stack: ExitStack) -> str | None:
    """Return where the kernel shows *image* until *stack* ends; None, with a warning, if it does not."""
    from btrimg.cli.verify import why_unclean
    from btrimg.oracle import kernel
    from btrimg.oracle.mounting import shown

    paths = tuple(device.path for device in image.volume.devices.values())
    reason = kernel.why_no_mounts()
    if reason is None:
        unclean = why_unclean(paths)
        reason = f"its check is not clean: {unclean}" if unclean else None
    if reason is None:
        kernel.hide_mounts((*paths, *os.get_exec_path()))
        try:
            return stack.enter_context(shown(image))
        except kernel.MountError as error:
            reason = str(error)
    warn(f"nothing is compared with a mount: {reason}")
    return None

"""``btrimg inspect map-swapfile``: where a swap file starts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_inode, open_target

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target


@command(
    TARGET,
    Option("resume_offset", ("-r", "--resume-offset"), "Show the resume offset only."),
    JSON,
    SUBVOLUME,
    *OPENING,
    name="map-swapfile",
)
def map_swapfile(target: Target, resume_offset: bool, as_json: bool, subvolume: int, **opening: Any) -> int:
    """Show where a file starts on its device, if the kernel would take it as a swap file.

    The resume offset is that of /sys/power/resume_offset, in pages of this machine. If the file could not be a swap
    file, the exit code is 1 and the reason is shown: data is copied on write, checksummed, compressed, inline, shared,
    has holes, or lies on several devices or in chunks of another profile than single.

    \b
      btrimg inspect map-swapfile disk.img:/swapfile
      btrimg inspect map-swapfile -r /mnt/swapfile

    JSON: "path", "devid", "physical" (in bytes), "resume_offset", each null where "refusal" says why.
    """
    from btrimg.filesystem.swapfile import map_swapfile
    from btrimg.render import answers

    with open_target(target, **opening) as image:
        inode = open_inode(image, target, subvolume)
        found = map_swapfile(inode)
        path = answers.name(inode.path or b"/")
    pages = None if found.physical is None else found.physical // os.sysconf("SC_PAGESIZE")
    if as_json:
        print(answers.json_line({"path": path, "resume_offset": pages, **found._asdict()}))
    elif found.refusal:
        print(f"btrimg: {found.refusal}", file=sys.stderr)
    elif resume_offset:
        print(pages)
    else:
        print(f"Physical start: {found.physical:12}\nResume offset:  {pages:12}")
    return 1 if found.refusal else 0

"""Who judges an image that btrimg wrote: ``btrimg check --data``, and ``btrfs check`` in both modes.

With BTRIMG_PROGS=DIRECTORY the btrfs-progs there judge too, beside those on the PATH. Only an image of which nobody
complains may be mounted.
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

from btrimg.check.rule import rules
from btrimg.check.run import check
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import ItemType

from . import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS = 600
_REMARK = re.compile(r"^(?:ERROR|WARNING)\b.*", re.MULTILINE | re.IGNORECASE)


def programs(name: str) -> list[str]:
    """Return the program *name* of each btrfs-progs that is to be asked."""
    further = os.environ.get("BTRIMG_PROGS")
    return [name, *([os.path.join(further, name)] if further else [])]


def complaints(devices: Sequence[str]) -> list[str]:
    """Return all that the judges have to say against an image; btrfs-progs need root for several devices."""
    return [*complaints_of_btrimg(devices), *complaints_of_progs(devices)]


def complaints_of_btrimg(devices: Sequence[str]) -> list[str]:
    """Return what ``btrimg check --data`` has to say against an image."""
    found: list[str] = []
    with open_image(devices, warn=found.append) as image:
        found += [f"{finding.rule.code}: {finding.sentence()}" for finding in check(image, list(rules().values()))]
    return found


def complaints_of_progs(devices: Sequence[str], modes: Sequence[str] = ("original", "lowmem")) -> list[str]:
    """Return what ``btrfs check`` has to say in these modes."""
    found: list[str] = []
    with_data = () if _has_parity(devices) else ("--check-data-csum",)  # docs/verification.md
    with ExitStack() as stack:
        # btrfs-progs look for further devices among block devices only
        several = len(devices) > 1
        attached = stack.enter_context(kernel.loop_devices(devices, read_only=True)) if several else devices
        for program in programs("btrfs"):
            for mode in modes:
                said = _btrfs_check(program, mode, attached, with_data)
                if mode == "lowmem" and _is_mute(said) and _has_extrefs(devices):
                    continue  # docs/verification.md
                found += [f"{program} ({mode}): {each}" for each in said]
    return found


def _is_mute(said: Sequence[str]) -> bool:
    """Return whether ``btrfs check`` found faults in trees of files, and told none."""
    told = re.findall(r"^(?:ERROR: (?!cannot scan)|\t|root \d+ ).*", "".join(said), re.MULTILINE)
    return told == ["ERROR: errors found in fs roots"]


def _has_extrefs(devices: Sequence[str]) -> bool:
    with open_image(devices, warn=lambda _: None) as image:
        return any(
            key.type == ItemType.INODE_EXTREF for subvolume in image.subvolumes() for key, _ in subvolume.tree.items()
        )


def _has_parity(devices: Sequence[str]) -> bool:
    with open_image(devices, warn=lambda _: None) as image:
        return any(chunk.profile.parity for chunk in image.volume.chunk_map)


def _btrfs_check(program: str, mode: str, devices: Sequence[str], options: Sequence[str]) -> list[str]:
    done = subprocess.run(
        [program, "check", "--readonly", f"--mode={mode}", *options, devices[0]],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode or "no error found" not in said:
        return [said]
    # It scans all devices of the host, also those that others attach and detach meanwhile.
    return [remark for remark in _REMARK.findall(said) if set(re.findall(r"/dev/\w+", remark)) <= {*devices}]

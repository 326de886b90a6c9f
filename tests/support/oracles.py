"""Find out which oracles this machine has; probed by doing, not by version numbers."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache

import pytest

from . import images, kernel


def require_progs() -> None:
    """Skip the running test unless btrfs-progs are installed; fail it where BTRIMG_REQUIRE_ORACLES=1."""
    _require(_why_no_progs())


def require_kernel() -> None:
    """Skip the running test unless this kernel lets us mount a btrfs; fail it where BTRIMG_REQUIRE_ORACLES=1."""
    _require(_why_no_kernel())


def _require(missing: str | None) -> None:
    if missing and os.environ.get("BTRIMG_REQUIRE_ORACLES") == "1":
        pytest.fail(f"BTRIMG_REQUIRE_ORACLES=1, but {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)


@cache
def _why_no_progs() -> str | None:
    missing = [name for name in ("mkfs.btrfs", "btrfs") if not shutil.which(name)]
    return f"{' and '.join(missing)} not found (package btrfs-progs)" if missing else None


@cache
def _why_no_kernel() -> str | None:
    if os.geteuid():
        return "mounting needs root"
    if no_progs := _why_no_progs():
        return no_progs
    try:
        with tempfile.TemporaryDirectory(prefix="btrimg-probe-") as directory:
            devices = images.new_devices(directory, 1, 128 * images.MIB)
            images.mkfs(devices)
            with kernel.mount(devices) as top:
                kernel.create_subvolume(os.fsencode(top) + b"/probe")
    except (OSError, RuntimeError) as error:
        return f"the kernel does not mount a new btrfs here: {error}"
    return None

"""Many processes that read and map files at random see what they see in the kernel's mount."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.mounted import PATIENCE, mounted, require_fuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import KernelImage

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

SECONDS = float(os.environ.get("BTRIMG_WORKLOAD_SECONDS", "1"))
PROCESSES = 8


@pytest.mark.parametrize("share", ["passthrough", "cache", "none"])
def test_processes_at_random_see_what_the_kernel_shows(share: str, kernel_image: Callable[..., KernelImage]) -> None:
    require_fuse()
    written = kernel_image()
    with mounted(written.devices, "--share", share) as ours, written.mount() as theirs:
        command = [sys.executable, "-m", "support.workload", ours, theirs, str(SECONDS)]
        environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
        running = [
            subprocess.Popen(
                [*command, str(seed)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for seed in range(PROCESSES)
        ]
        for process in running:
            done, said = process.communicate(timeout=SECONDS + PATIENCE)
            assert process.returncode == 0, said
            assert int(done) > 3

"""Which processes a test forks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def forks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of processes that will have been forked."""
    pids: list[int] = []
    fork = os.fork

    def recorded() -> int:
        pid = fork()
        pids.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", recorded)
    return pids

"""What tests of the mount need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.mounted import clean_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def point(tmp_path: Path) -> Iterator[str]:
    """Give a directory to mount at; what is left mounted there is cleared."""
    where = str(tmp_path / "mnt")
    os.mkdir(where)
    yield where
    clean_up(where)

"""The memory that control groups allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from btrimg.mount import limits
from btrimg.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

NONE = str((1 << 63) - 4096)  # as version 1 says it


@pytest.mark.parametrize(
    ("memberships", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "104857600"}, 100 * MIB),
        ("0::/a/b\n", {"a/b/memory.max": "52428800", "a/memory.max": "104857600"}, 50 * MIB),
        ("0::/a\n", {"a/memory.max": "max"}, None),
        ("0::/hidden/from/us\n", {"memory.max": "8388608"}, 8 * MIB),
        ("4:cpu,memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "8388608"}, 8 * MIB),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": NONE, "memory/memory.limit_in_bytes": NONE}, int(NONE)),
        ("4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "8388608"}, None),
    ],
)
def test_the_least_of_all_groups_counts(
    memberships: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    (tmp_path / "self").write_text(memberships)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert limits.memory_limit(str(tmp_path / "self"), str(tmp_path / "groups")) == expected


def test_without_a_name_for_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert limits.memory_limit(str(tmp_path / "none"), str(tmp_path)) is None


@pytest.mark.parametrize(("limit", "size"), [(None, 256), (100 * MIB, 50), (1 << 62, 256)])
def test_a_cache_takes_half_of_what_is_allowed(limit: int | None, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory_limit", lambda: limit)
    assert limits.usual_cache_size() == size * MIB

"""The pages that docs/generate.py writes say what the declarations say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["format.md", "tables.md", "checks.md"])
def test_the_page_is_fresh(generate: Any, name: str) -> None:
    assert (DOCS / name).read_text() == generate.PAGES[name](), "stale: python docs/generate.py"


@pytest.mark.parametrize(
    "row",
    [
        "| 96 | 4 | `nritems` | u32 | slots |",
        "| 2859 | 672 | `super_roots` | [RootBackup](#rootbackup) × 4 |  |",
        "| 48 | … | `stripes` | [Stripe](#stripe) × `num_stripes` |  |",
        "| 0 | 8 | `sec` | s64 | since 1970, negative before |",
        "| 228 | CHUNK_ITEM | CHUNK_TREE | [Chunk](#chunk) |",
        "| 132 | ROOT_ITEM | ROOT_TREE, TREE_LOG | [RootItem](#rootitem) (at least 239 bytes of it) |",
        "| −6 | TREE_LOG |",
        "| 17 | 0x20000 | REMAP_TREE |",
        "| 3 | ZSTD |",
    ],
)
def test_rows_hold_offset_type_and_meaning(row: str) -> None:
    assert row in (DOCS / "format.md").read_text().splitlines()


def test_a_stale_page_fails_the_check_and_is_rewritten(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "HERE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit, match=r"docs/format\.md is stale"):
        generate.main()
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    generate.main()
    assert (tmp_path / "format.md").read_text() == generate.format_page()
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    generate.main()

"""What is derived ahead of time is what the declarations say today."""

from __future__ import annotations

from btrimg.ondisk import generate
from btrimg.ondisk.generated import LAYOUTS
from btrimg.ondisk.record import derive_layout


def test_generated_layouts_are_fresh() -> None:
    assert generate.TARGET.read_text() == generate.source(), "stale: python -m btrimg.ondisk.generate"


def test_every_record_is_kept_and_nothing_else() -> None:
    assert {cls.__name__: derive_layout(cls) for cls in generate.all_records()} == LAYOUTS

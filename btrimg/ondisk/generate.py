"""Write ``generated.py``: ``python -m btrimg.ondisk.generate`` after a change of any Record."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import btrimg.ondisk
from btrimg.ondisk.record import Record, derive_layout

TARGET = Path(__file__).with_name("generated.py")

_HEAD = '''"""Field codes of every Record, derived from the declarations (see record.py).

Do not edit: ``python -m btrimg.ondisk.generate`` writes this file.
"""

from __future__ import annotations

LAYOUTS: dict[str, tuple[tuple[str, str], ...]] = {
'''


def all_records() -> list[type[Record]]:
    """Return every Record of the ondisk package, by module and order of declaration."""
    for module in sorted(info.name for info in pkgutil.iter_modules(btrimg.ondisk.__path__)):
        importlib.import_module(f"btrimg.ondisk.{module}")
    ours = (cls for cls in Record.__subclasses__() if cls.__module__.startswith("btrimg.ondisk."))
    return sorted(ours, key=lambda cls: cls.__module__)


def source() -> str:
    """Return the text that generated.py must have."""
    text = _HEAD
    for cls in sorted(all_records(), key=lambda cls: cls.__name__):
        fields = [f'("{name}", "{code}"),' for name, code in derive_layout(cls)]
        gap = "" if len(fields) == 1 else "\n        "  # as ruff formats it
        end = "" if len(fields) == 1 else "\n    "
        text += f'    "{cls.__name__}": ({gap}{gap.join(fields)}{end}),\n'
    return text + "}\n"


if __name__ == "__main__":
    TARGET.write_text(source())

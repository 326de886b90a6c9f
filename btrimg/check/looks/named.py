"""All looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.check.looks import devices, files, roots, space

if TYPE_CHECKING:
    from btrimg.check.looks.rows import Look

#: By the name of the derived relation or the code of the rule: whether its query may have rows.
LOOKS: dict[str, Look] = {**devices.LOOKS, **space.LOOKS, **roots.LOOKS, **files.LOOKS}

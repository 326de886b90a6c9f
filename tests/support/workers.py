"""Which tests one worker of pytest-xdist runs, so that no image is made twice; more workers are started by ``-n``.

Tests of one file stay together, with the fixtures of their module. Those of a cell of the matrix, whatever their file,
stay with the worker that has made its image; a crafted image needs nothing of the others, and fills what gap is left.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

from .matrix import name_of, variants

_CELLS = frozenset(map(name_of, variants()))
_ALONE = "tests/test_crafted.py"


def unit_of(test: str) -> str:
    """Return the name of what is given to one worker as a whole: the matrix cell, the file, or the test itself."""
    file, _, name = test.partition("::")
    parameter = re.search(r"\[(.*)\]$", name, re.DOTALL)
    if parameter and parameter[1] in _CELLS:
        return parameter[1]
    return test if file == _ALONE else file


class ByImage(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hand out units of tests, those of most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

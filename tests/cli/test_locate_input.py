"""What standard input of ``btrimg locate`` may hold."""

from __future__ import annotations

import io

import pytest

from btrimg.cli import locate
from btrimg.errors import BtrimgError


def test_a_number_of_thousands_of_digits_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n" + "9" * 5000))
    with pytest.raises(BtrimgError, match="is not a size"):
        locate._add(locate.Places([], []), ((locate.STDIN, 0),), locate.parse_place, locate.OWN)

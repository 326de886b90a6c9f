"""A command that is told to stop cleans up first."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def clean_up_on_sigterm() -> None:
    """Let SIGTERM unwind the command, as SIGINT does: what is mounted or half written is left on the way out."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(_signal: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)

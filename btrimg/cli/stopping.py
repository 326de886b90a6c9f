"""A command that is told to stop cleans up first."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn
else:
    import _signal as signal  # what the module signal hands on, after it has made enumerations of it for 4 ms


def clean_up_when_stopped() -> None:
    """Let SIGTERM and SIGHUP unwind the command, as SIGINT does: nothing stays mounted or half written.

    A SIGHUP that is ignored, as under nohup, stays so.
    """
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _stop)


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)

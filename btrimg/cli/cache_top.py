"""``btrimg cache top``: what a mount has in memory, and what sharing saves, as it changes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON
from btrimg.cli.unit_options import UNITS, take_units

if TYPE_CHECKING:
    from btrimg.render.sizes import Units


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise ValueError(f"{text!a} is no number of seconds, 0.1 or more")
    return seconds


@command(
    Argument("mountpoint", "MOUNTPOINT", str, is_path=True),
    Option("interval", ("--interval",), "How often to look.", _seconds, "SECONDS", 1.0),
    Option("once", ("--once",), "Show it once, and end; so it is where the output is no terminal."),
    *UNITS,
    JSON,
)
def top(mountpoint: str, interval: float, once: bool, as_json: bool, **options: Any) -> int:
    """Show live what a mount has in memory, and what sharing saves.

    \b
      btrimg cache top /mnt
      btrimg cache top /mnt --json

    By subvolume: files that were opened, what their pages would take if each file had its own (unshared), their part
    of what they take (proportional), and the difference (saved); then the files that save most. A file counts as a
    user of all that is resident of its content. Ctrl-C ends it.

    JSON, one object: "devices", "mountpoint", "share", "contents", "files", "resident", "saved", "subvolumes" with
    "subvolume", "path", "files", "unshared", "proportional" and "saved", "most_shared" with "path", "size", "resident",
    "sharers" and "saved", and "messages": what went wrong lately.
    """
    from btrimg.mount import statistics, system
    from btrimg.render.answers import json_line
    from btrimg.render.mountuse import mount_use_lines

    point, units = system.find(mountpoint).point, take_units(options)
    if as_json:
        print(json_line(statistics.of_mount(point)))
    elif once or not sys.stdout.isatty():
        print(*mount_use_lines(statistics.of_mount(point), units), sep="\n")
    else:
        _show_live(point, interval, units)
    return 0


def _show_live(point: str, interval: float, units: Units) -> None:
    import time

    from rich.live import Live
    from rich.text import Text

    from btrimg.mount import statistics
    from btrimg.render.mountuse import mount_use_lines

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            lines = mount_use_lines(statistics.of_mount(point), units)
            live.update(Text("\n".join(lines), no_wrap=True), refresh=True)
            time.sleep(interval)

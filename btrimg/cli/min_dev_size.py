"""``btrimg inspect min-dev-size``: how small a device could be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, TARGET, open_target, parse_number
from btrimg.units import format_size

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target


@command(
    TARGET,
    Option("devid", ("--id",), "Of this device.", parse_number, "DEVID", 1),
    JSON,
    *OPENING,
    name="min-dev-size",
)
def min_dev_size(target: Target, devid: int, as_json: bool, **opening: Any) -> int:
    """Show the size to which a device could be shrunk, its chunks moved into the holes between others.

    \b
      btrimg inspect min-dev-size disk.img
      btrimg inspect min-dev-size --id 2 disk1.img -d disk2.img --json | jq .min_size

    "min_size" is in bytes.
    """
    from btrimg.filesystem.shrink import min_device_size
    from btrimg.render.answers import json_line

    with open_target(target, **opening) as image:
        size = min_device_size(image, devid)
    print(json_line({"devid": devid, "min_size": size}) if as_json else f"{size} bytes ({format_size(size)})")
    return 0

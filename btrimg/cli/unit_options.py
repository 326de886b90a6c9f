"""How to write sizes: the options of btrfs-progs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Option

if TYPE_CHECKING:
    from btrimg.render.sizes import Units

UNITS = (
    Option("raw", ("--raw",), "Show bytes as plain numbers."),
    Option("human_readable", ("--human-readable",), "Show fitting units of 1024 (default)."),
    Option("iec", ("--iec",), "Use powers of 1024."),
    Option("si", ("--si",), "Use powers of 1000."),
    Option("kbytes", ("--kbytes",), "Show sizes in KiB, or kB with --si."),
    Option("mbytes", ("--mbytes",), "Show sizes in MiB, or MB with --si."),
    Option("gbytes", ("--gbytes",), "Show sizes in GiB, or GB with --si."),
    Option("tbytes", ("--tbytes",), "Show sizes in TiB, or TB with --si."),
)


def take_units(options: dict[str, Any]) -> Units:
    """Return what the UNITS among *options* say, and take them out."""
    from btrimg.render.sizes import Units

    raw, human_readable, iec, si, *powers = (options.pop(option.name) for option in UNITS)
    power = next((number for number, asked in enumerate(powers, 1) if asked), None)
    return Units(raw and not human_readable, si and not iec, power)

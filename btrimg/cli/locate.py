"""``btrimg locate``: device offset or logical address -> what stands there."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import FORCE, FURTHER_DEVICES, JSON, TARGET, open_target, size_option
from btrimg.errors import CorruptError, NotFoundError
from btrimg.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image


@command(
    TARGET,
    Argument("addresses", "ADDRESS...", parse_size, many=True),
    Option("logical", ("--logical",), "Take ADDRESS as a logical address, not a device offset."),
    Option("devid", ("--devid",), "Look at this device, not at the one that IMAGE is.", int, "N"),
    size_option("length", "--length", "Tell of that many bytes.", 1),
    JSON,
    FURTHER_DEVICES,
    FORCE,
)
def locate(
    target: Target,
    addresses: tuple[int, ...],
    logical: bool,
    devid: int | None,
    length: int,
    as_json: bool,
    device: tuple[str, ...],
    force: bool,
) -> int:
    """Show what stands at ADDRESS of the device IMAGE: the way back from resolve.

    \b
      btrimg locate disk.img 114311168
      btrimg locate disk1.img -d disk2.img --devid 2 1MiB --length 64K
      btrimg locate disk.img --logical 72368128 --json

    A range falls into pieces, which are superblock, tree block, data, parity, free, reserved (the first MiB) or
    unallocated. Of data all files are named that share the bytes, through snapshots and reflinks and by every hard
    link; of "bookend" bytes, which no file reaches, the files that keep their extent. "csum" says of each copy whether
    all sectors, or the whole tree block, are ok, bad, missing or unknown (the device or the checksum cannot be read),
    or have none.

    With --json one object for each piece: kind, length, devid, physical, logical, parity_of {logical, length},
    chunk {logical, length, profile}, copies [{devid, physical, device, role, csum}], extent {logical, length,
    generation}, tree_block {level, generation, owner, trees, first_key, last_key}, bookend, files and kept_by
    [{subvolume, inode, offset, length, kind, compression, paths}], found_by ("extent tree", or "scan" where that cannot
    be read). "offset" is that of the first byte; of a compressed file extent, its start.
    """
    from btrimg.filesystem.locate import Locator
    from btrimg.render.answers import json_line
    from btrimg.render.located import piece_lines, piece_object

    with open_target(target, device=device, force=force) as image:
        locator, paths = Locator(image), paths_in(image)
        number = _devid_of(image, target) if devid is None else devid
        for address in addresses:
            pieces = locator.at_logical(address, length) if logical else locator.on_device(number, address, length)
            for piece in pieces:
                lines = [json_line(piece_object(piece, paths))] if as_json else piece_lines(piece, paths)
                print(*lines, sep="\n")
        return 1 if image.faults else 0


def _devid_of(image: Image, target: Target) -> int:
    for devid, device in image.volume.devices.items():
        if device.path == target.devices[0]:
            return devid
    raise NotFoundError(f"{target.devices[0]} is read as no device of the filesystem; name one by --devid")


def paths_in(image: Image) -> Callable[[int, int], list[bytes]]:
    """Return a function that gives all paths of (subvolume, inode), none where there is no such subvolume."""
    from btrimg.filesystem.namei import paths_of

    @cache
    def paths(subvolume: int, ino: int) -> list[bytes]:
        try:
            return paths_of(image, subvolume, ino)
        except NotFoundError:
            return []
        except CorruptError as error:
            image.report(error)
            return []

    return paths

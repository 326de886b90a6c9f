"""``btrimg locate``: device offset or logical address -> what stands there."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import (
    FORCE,
    FURTHER_DEVICES,
    JSON,
    NO_VERIFY,
    TARGET,
    open_target,
    parse_number,
    size_option,
)
from btrimg.cli.terminal import standard_input
from btrimg.errors import BtrimgError, CorruptError, NotFoundError
from btrimg.filesystem.extents import OFFSET_MAX
from btrimg.named import NamedTuple
from btrimg.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.locate import Locator, Piece

FEW = 200  #: addresses that are looked up one by one, a few milliseconds each; more are worth a scan of all trees
OWN, LOGICAL, STDIN = -1, -2, -3  # in the place of a devid: that of IMAGE; none; all addresses on standard input


class Places(NamedTuple):
    """Addresses that are asked for, and the device of each, or OWN or LOGICAL."""

    devids: list[int]
    addresses: list[int]


_DIGITS = 20  # of the last address there is; int() refuses thousands of them


def parse_place(text: str) -> tuple[int, int]:
    """Return devid and address of PHYSICAL or DEVID:PHYSICAL; STDIN for "-". Raises ValueError with a sentence."""
    if text == "-":
        return STDIN, 0
    devid, colon, physical = text.rpartition(":")
    if colon and not devid.isdecimal():
        raise ValueError(f"{text!a} is no place on a device; write PHYSICAL or DEVID:PHYSICAL")
    return int(devid) if colon else OWN, parse_size(physical)


def parse_logical(text: str) -> tuple[int, int]:
    """Return LOGICAL and the address; STDIN for "-". Raises ValueError with a sentence."""
    return (STDIN, 0) if text == "-" else (LOGICAL, parse_size(text))


@command(
    TARGET,
    Argument("places", "[PHYSICAL]...", parse_place, many=True, optional=True),
    Option("logical", ("--logical",), "A logical address instead; may be repeated.", parse_logical, "N", many=True),
    Option("devid", ("--devid",), "Look at this device, not at the one that IMAGE is.", parse_number, "N"),
    size_option("length", "--length", "Tell of that many bytes.", 1),
    NO_VERIFY._replace(help="Do not compare copies with their checksums."),
    JSON,
    FURTHER_DEVICES,
    FORCE,
)
def locate(
    target: Target,
    places: tuple[tuple[int, int], ...],
    logical: tuple[tuple[int, int], ...],
    devid: int | None,
    length: int,
    no_verify: bool,
    as_json: bool,
    device: tuple[str, ...],
    force: bool,
) -> int:
    """Show what stands at byte PHYSICAL of the device IMAGE: the way back from resolve.

    \b
      btrimg locate disk.img 114311168
      btrimg locate disk1.img -d disk2.img --devid 2 1MiB --length 64K
      btrimg locate disk.img --logical 72368128 --json
      btrimg locate disk1.img -d disk2.img - --json < places

    A range falls into pieces, which are superblock, tree block, data, parity, free, reserved (the first MiB) or
    unallocated. Of data all files are named that share the bytes, through snapshots and reflinks and by every hard
    link; of "bookend" bytes, which no file reaches, the files that keep their extent. "csum" says of each copy whether
    all sectors, or the whole tree block, are ok, bad, missing or unknown (the device or the checksum cannot be read),
    have none, or are unchecked. What only log trees know is named too; for the extent tree it is free.

    PHYSICAL may be DEVID:PHYSICAL. For "-" there, or as --logical -, addresses are read from standard input, separated
    by spaces or lines. Of more than 200 single bytes all trees are scanned once: many take a hundredth of the time so.

    With --json one object for each piece: kind, length, devid, physical, logical, parity_of {logical, length},
    chunk {logical, length, profile}, copies [{devid, physical, device, role, csum}], extent {logical, length,
    generation}, tree_block {level, generation, owner, trees, first_key, last_key}, bookend, files and kept_by
    [{subvolume, inode, offset, length, kind, compression, paths}], found_by ("extent tree", "scan" of all trees, where
    that cannot be read or many bytes are asked for, or "log"). "offset" is that of the first byte; of a compressed file
    extent, its start.
    """
    from btrimg.filesystem.locate import Locator

    if not places and not logical:
        raise BtrimgError("name a byte: PHYSICAL or --logical N; see btrimg locate --help")
    asked = Places([], [])
    _add(asked, places, parse_place, OWN)
    _add(asked, logical, parse_logical, LOGICAL)
    with open_target(target, device=device, force=force) as image:
        if OWN in asked.devids:
            own = _devid_of(image, target) if devid is None else devid
            asked = asked._replace(devids=[own if each == OWN else each for each in asked.devids])
        locator = Locator(image, verify=not no_verify)
        query = _Query(image, locator, paths_in(image), asked, length, as_json)
        many = len(asked.addresses) > FEW and length == 1 and max(asked.addresses) <= OFFSET_MAX
        for chunk in query.scanned(verify=not no_verify) if many else query.looked_up():
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return 1 if image.faults else 0


def _add(asked: Places, more: tuple[tuple[int, int], ...], parse: Callable[[str], tuple[int, int]], plain: int) -> None:
    """Add places to *asked*, those on standard input where that is named; there plain numbers are *plain* ones."""
    for devid, address in more:
        if devid != STDIN:
            asked.devids.append(devid)
            asked.addresses.append(address)
            continue
        words = standard_input("-").read().split()
        short = max(map(len, words), default=0) <= _DIGITS
        if short and all(map(str.isdecimal, words)):  # a tenth of the time that parsing each takes
            asked.devids.extend([plain] * len(words))
            asked.addresses.extend(map(int, words))
            continue
        try:
            _add(asked, tuple(map(parse, words)), parse, plain)
        except ValueError as error:
            raise BtrimgError(f"on standard input, {error}") from None


class _Query(NamedTuple):
    """What is asked, and what answers it."""

    image: Image
    locator: Locator
    paths: Callable[[int, int], list[bytes]]
    asked: Places
    length: int
    as_json: bool

    def looked_up(self) -> Iterator[bytes]:
        """Yield lines of the answers, found one after the other."""
        for number in range(len(self.asked.addresses)):
            for piece in self._pieces(number):
                yield self._lines(piece)

    def scanned(self, *, verify: bool) -> Iterator[bytes]:
        """Yield lines of the answers, found all at once."""
        import numpy as np

        from btrimg.render.located_many import json_chunks
        from btrimg.render.located_parts import Shown
        from btrimg.render.located_text import text_chunks
        from btrimg.render.usage import json_names, printable_names
        from btrimg.tables.locatemany import Asked, ManyLocator
        from btrimg.tables.locatescan import UnsoundError
        from btrimg.volume.devicepieces import NOWHERE

        devids, addresses = (np.array(column, np.int64) for column in self.asked)
        asked = Asked(np.where(devids == LOGICAL, NOWHERE, devids), addresses)
        try:
            text = json_names if self.as_json else printable_names
            many = ManyLocator(self.image, self.locator, asked, verify=verify, text=text)
        except UnsoundError:  # the locator reports it
            yield from self.looked_up()
            return
        shown = Shown(many, self.image, self.paths, lambda at: self._lines(self._piece(at)), text)
        chunks = json_chunks if self.as_json else text_chunks
        for answers in many.answers():
            yield from chunks(shown, answers)

    def _pieces(self, number: int) -> Iterator[Piece]:
        devid, address = self.asked.devids[number], self.asked.addresses[number]
        if devid == LOGICAL:
            return self.locator.at_logical(address, self.length)
        return self.locator.on_device(devid, address, self.length)

    def _piece(self, number: int) -> Piece:
        return next(self._pieces(number))

    def _lines(self, piece: Piece) -> bytes:
        from btrimg.render.answers import json_line
        from btrimg.render.located import piece_lines, piece_object

        lines = [json_line(piece_object(piece, self.paths))] if self.as_json else piece_lines(piece, self.paths)
        return "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace")


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

"""Whether what stands at one place on a device is what was written there."""

from __future__ import annotations

from btrimg.errors import ChecksumError, CorruptError, DeviceError, NotFoundError
from btrimg.named import NamedTuple
from btrimg.trees.block import Block, Pointer
from btrimg.units import MIB, round_down, round_up
from btrimg.volume.superblocks import read_copies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.filesystem.backrefs import Extent
    from btrimg.filesystem.image import Image
    from btrimg.volume.devicemap import DevicePiece

MISSING = "missing"  #: the device is not there, or cannot be read
BAD = "bad"
UNKNOWN = "unknown"  #: the checksum cannot be read
OK = "ok"
NONE = "none"  #: there is no checksum
UNCHECKED = "unchecked"  #: nobody looked


class CopyState(NamedTuple):
    """A place on a device, and whether what stands there is what was written."""

    devid: int
    physical: int
    device: str | None  #: path of the device, None when it is missing
    role: str  #: "data", "mirror N", "P", "Q" or "superblock N"
    csum: str  #: missing, bad, unknown, ok, none or unchecked


def of_copy(
    image: Image, logical: int, length: int, extent: Extent | None, number: int, *, verify: bool = True
) -> CopyState:
    """Return where copy *number* (from 0) of a part of *extent*, or of unused space, lies, and its state.

    Of a tree block the whole block is judged, which is of the generation of *extent* if that has one, of data all
    sectors that the part touches; nothing without *verify*.
    """
    places = image.volume.chunk_map.locate(logical).copies
    role = f"mirror {number + 1}" if len(places) > 1 else "data"
    state = NONE
    if extent is not None and not verify:
        state = UNCHECKED
    elif extent is not None and extent.level is not None:
        state = _block_state(image, Pointer(extent.logical, extent.level, extent.generation), number)
    elif extent is not None:
        size = image.volume.sectorsize
        start, end = round_down(logical, size), round_up(logical + length, size)
        states = {_data_state(image, at, min(at + MIB, end), number) for at in range(start, end, MIB)}
        state = next(each for each in (MISSING, BAD, UNKNOWN, OK, NONE) if each in states)
    return _state(image, *places[number], role, state)


def of_device_piece(image: Image, piece: DevicePiece) -> tuple[CopyState, ...]:
    """Return the state of a superblock; of parity the place only, since it has no checksum; else nothing."""
    if piece.kind == "parity":
        return (_state(image, piece.devid, piece.physical, "PQ"[piece.number], NONE),)
    if piece.kind != "superblock":
        return ()
    device = image.volume.devices.get(piece.devid)
    copies = [copy for copy in read_copies(device) if copy.offset <= piece.physical] if device else []
    if not copies:
        return (_state(image, piece.devid, piece.physical, "superblock", MISSING),)
    last = copies[-1]
    return (_state(image, piece.devid, last.offset, f"superblock {last.mirror}", BAD if last.fault else OK),)


def _state(image: Image, devid: int, physical: int, role: str, csum: str) -> CopyState:
    device = image.volume.devices.get(devid)
    return CopyState(devid, physical, device.path if device else None, role, csum)


def _block_state(image: Image, promise: Pointer, number: int) -> str:
    data = _read(image, promise.logical, image.volume.nodesize, number)
    if data is None:
        return MISSING
    return OK if isinstance(image.blocks.accept(data, promise), Block) else BAD


def _data_state(image: Image, start: int, end: int, number: int) -> str:
    size, csum = image.volume.sectorsize, image.volume.csum
    data = _read(image, start, end - start, number)
    if data is None:
        return MISSING
    states = set()
    for at in range(0, end - start, size):
        try:
            expected = image.csums.lookup(start + at, size)
        except (ChecksumError, NotFoundError):
            continue
        except CorruptError as error:
            image.report(error)
            return UNKNOWN
        states.add(OK if csum.digest(memoryview(data)[at : at + size]) == expected else BAD)
    return BAD if BAD in states else OK if states else NONE


def _read(image: Image, logical: int, length: int, number: int) -> bytes | None:
    """Return copy *number* of some bytes as it stands on its device, None when it cannot be read."""
    volume = image.volume
    parts = []
    try:
        while length:
            mapping = volume.chunk_map.locate(logical)
            size = min(length, mapping.length)
            place = mapping.copies[min(number, len(mapping.copies) - 1)]
            if place.devid not in volume.devices:
                return None
            parts.append(volume.devices[place.devid].pread(size, place.physical))
            logical, length = logical + size, length - size
    except (CorruptError, DeviceError):
        return None
    return b"".join(parts)

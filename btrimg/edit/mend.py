"""Bad copies written anew from good ones, as ``btrfs scrub`` does on a mounted filesystem."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from btrimg.check.rule import rules
from btrimg.check.run import check
from btrimg.errors import BlockError, BtrimgError
from btrimg.filesystem.data import read_logical
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Key
from btrimg.ondisk.constants import STRIPE_LEN, U64_MAX, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem
from btrimg.volume.devicemap import DeviceMap
from btrimg.volume.writer import VolumeWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from btrimg.check.run import Finding
    from btrimg.filesystem.image import Image
    from btrimg.volume.devicemap import DevicePiece
    from btrimg.volume.writer import Sink

_BLOCKS, _DATA, _PARITY = "tree-block-copy", "data-csum", "parity"  # rules of check, in the order of mending


class Mended(NamedTuple):
    """What became of bad copies."""

    bytes: int  #: of devices, written anew
    lost: tuple[str, ...]  #: a sentence for each place of which there is no good copy


def mend(
    image: Image,
    sink: Sink,
    progress: Callable[[int, int], None] = lambda _things, _bytes: None,
    judged: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Mended:
    """Write every bad copy of tree blocks and of data with checksums anew from a good one, and parity from data.

    Copies of data without checksums stay, and parity of rows that hold such: what is right there, nothing tells.
    *progress* is that of a check. What is written of tree blocks is within a ``with judged()``: which of two is the
    good one tells the extent tree, which may be wrong itself; of data, the checksums tell. Raises DeviceError when a
    device cannot be written.
    """
    mender = _Mender(image, sink)
    found = list(check(image, [rules()[code] for code in (_BLOCKS, _DATA, _PARITY)], progress))
    for code in (_BLOCKS, _DATA, _PARITY):
        with judged() if code == _BLOCKS else nullcontext():
            mender.mend(code, (finding for finding in found if finding.rule.code == code))
    sink.sync()
    return Mended(mender.bytes, tuple(mender.lost))


class _Mender:
    def __init__(self, image: Image, sink: Sink) -> None:
        self._image, self._sink, self._writer = image, sink, VolumeWriter(image.volume, sink)
        self._map = DeviceMap(image.volume.chunk_map, image.volume.warn)
        self.bytes = 0
        self.lost: list[str] = []

    def mend(self, code: str, found: Iterable[Finding]) -> None:
        for finding in found:
            if finding.row.get("doubt"):
                self.lost.append(finding.sentence())
                continue
            devid, start, length = (int(finding.row[name]) for name in ("devid", "physical", "length"))
            for piece in self._map.pieces(devid, start, start + length):
                try:
                    if code == _PARITY:
                        self._write_parity(piece)
                    else:
                        for physical, good in self._good(piece, code):
                            self._sink.pwrite(devid, physical, good)
                except BtrimgError as error:
                    self.lost.append(str(error))
                else:
                    self.bytes += piece.length

    def _good(self, piece: DevicePiece, code: str) -> Iterator[tuple[int, bytes]]:
        """Yield (physical, bytes) of what should be there."""
        step = self._image.volume.nodesize if code == _BLOCKS else piece.length
        for at in range(0, piece.length, step):
            logical = (piece.logical or 0) + at
            if code == _BLOCKS:
                yield piece.physical + at, self._good_block(logical)
            else:
                yield piece.physical + at, read_logical(self._image, logical, step, verify=True)

    def _good_block(self, logical: int) -> bytes:
        """Return the copy of a tree block that the extent tree promises."""
        volume = self._image.volume
        found = self._image.tree(TreeId.EXTENT_TREE).floor(Key(logical, ItemType.METADATA_ITEM, U64_MAX))
        if found is not None and found[0].objectid == logical:
            generation = ExtentItem.unpack(found[1]).generation
            for data in volume.candidates(logical, volume.nodesize):
                header = Header.unpack(data)
                right = (logical, generation, volume.csum.digest(memoryview(data)[32:]))
                if (header.bytenr, header.generation, header.csum[: volume.csum.size]) == right:
                    return data
        raise BlockError(logical, "csum", "no copy of it is good")

    def _write_parity(self, piece: DevicePiece) -> None:
        """Write P and Q anew at those bytes of the elements, by writing the data of the first column once more."""
        if piece.chunk is None or piece.logical is None:
            return
        stripe = next(each for each in piece.chunk.stripes if each.devid == piece.devid)
        logical = piece.logical + (piece.physical - stripe.offset) % STRIPE_LEN
        self._writer.write(logical, self._image.volume.read(logical, piece.length))

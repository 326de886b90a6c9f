"""A session of edits on an image: what is overwritten is saved first, what is changed is judged before it counts."""

from __future__ import annotations

from contextlib import contextmanager

from btrimg.errors import BtrimgError, CorruptError, DeviceError, RefusedError, WorseError
from btrimg.filesystem.image import open_image
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.units import MIB
from btrimg.volume.draft import Piece
from btrimg.volume.mounted import refuse_if_in_use
from btrimg.volume.saving import SavingSink, StagedSink
from btrimg.volume.staged import Stage, pieces_of
from btrimg.volume.superblocks import read_copies
from btrimg.write.begin import begin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self, TypeVar

    from btrimg.edit.changed import ItemChange
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.inodes import Timespec
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.device import Device
    from btrimg.volume.staged import StagedDevice
    from btrimg.write.transaction import Transaction

    _Done = TypeVar("_Done")

_FEW = 16 * MIB  # that wait


class Outcome(NamedTuple):
    """What became of an edit."""

    generation: int  #: of the image now
    undo: str | None  #: path of the file that takes it back; None for a dry run
    backup: str | None  #: path of the copy that was made before


class Session:
    """Edits of the image on the devices at *paths* (context manager).

    The image is opened when it is first asked for, the devices are locked by the first edit: DeviceError is raised for
    those that are mounted, or that others write to. *undo* is the path of the undo file, by default beside the first
    device; *backup* that of a copy (a directory, where there are several devices), made before anything is written.
    With *dry_run* nothing is written at all: :meth:`writes` gives what would have been. *force* lets edits pass that
    make the image worse. *now* is the clock, *uuids* gives new uuids; *report* hears of what was bad and got by.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        undo: str | None = None,
        dry_run: bool = False,
        backup: str | None = None,
        force: bool = False,
        now: Timespec,
        uuids: Callable[[], bytes],
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.paths, self.dry_run, self.force = tuple(paths), dry_run, force
        self.uuids = uuids
        #: Whether the transaction under way has items that nobody vouches for: all of the image is checked with them.
        self.doubted = False
        self._undo, self._backup, self._now, self._report = undo, backup, now, report
        self._stage = Stage()
        self._image: Image | None = None
        self._sink: StagedSink | None = None
        self._txn: Transaction | None = None
        self._seen: dict[int, list[bytes]] = {}  # superblocks of the devices when the image was opened
        #: What became of the last edit; who tells of it takes it away.
        self.outcome: Outcome | None = None
        #: What the commits of a dry run would have done to items.
        self.item_changes: list[ItemChange] = []
        self._taken_in: dict[int, StagedDevice] = {}  # devices that the image does not know
        self._committed = False  # anything, so that an undo file is needed for it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End; what was not committed is as if it had never been."""
        try:
            self.abort()
        finally:
            try:
                if self._sink is not None:
                    self._sink.close()
            finally:
                self._sink = self._image = None
                self._stage.close()

    @property
    def image(self) -> Image:
        """Return the image as the last commit left it; raises what opening it does."""
        if self._image is None:
            self._image = open_image(self.paths, replay_log=None, warn=self._report, opener=self._stage.open)
            self._seen = _superblocks_of(self._image.volume.devices)
        return self._image

    @property
    def pending(self) -> Transaction | None:
        """Return the transaction under way, if there is one."""
        return self._txn

    @property
    def sink(self) -> StagedSink:
        """Return where bytes go; raises DeviceError when they cannot, because others use a device."""
        if self._sink is None:
            self._sink = self._locked()
        return self._sink

    def _locked(self) -> StagedSink:
        devices = self._devices()
        if self.dry_run:
            for device in devices.values():
                refuse_if_in_use(device.path)
            return StagedSink(self._stage, devices)
        sink = SavingSink(self._stage, devices, self._undo, self._stage.open(self.paths[0]))
        try:
            if self._seen not in ({}, _superblocks_of(devices)):
                raise DeviceError(f"{self.paths[0]} was changed by another program just now; start again")
            if self._backup is not None:
                from btrimg.edit.backup import back_up

                back_up([device.path for device in devices.values()], self._backup)
        except BaseException:
            sink.close()
            raise
        return sink

    def _devices(self) -> dict[int, StagedDevice]:
        """Return the devices by devid: as the image knows them, or where it cannot be opened as they say themselves."""
        try:
            known = self.image.volume.devices
        except CorruptError:
            return _by_own_claim([self._stage.open(path) for path in self.paths])
        return {devid: self._stage.open(device.path) for devid, device in known.items()} | self._taken_in

    def lost_devices(self) -> list[StagedDevice]:
        """Return the devices without a sound superblock; none where no device has one, or all have."""
        devices = [self._stage.open(path) for path in self.paths]
        lost = [device for device in devices if all(copy.fault for copy in read_copies(device))]
        return lost if len(lost) < len(devices) else []

    def take_in(self, devices: Mapping[int, StagedDevice]) -> None:
        """Let the first edit, and all after it, write to *devices* too, by devid, which the image does not know."""
        if self._sink is not None and devices.keys() - self._sink.devices.keys():
            raise RefusedError("other edits have begun: what has lost its superblocks is repaired before them")
        self._taken_in = dict(devices)
        self._seen |= _superblocks_of(devices)

    # Copy-on-write

    def transaction(self) -> Transaction:
        """Return the transaction under way, begun now if there is none; raises what beginning one does."""
        if self._txn is None:
            blocks = self.image.blocks  # which the judge reads the last state by
            self._txn = begin(self.image, self.sink, now=self._now, uuids=self.uuids, blocks=blocks)
            if not self.force:
                self._txn.before_superblocks.append(self._judge)
            if self.dry_run:
                self._txn.before_superblocks.append(self._note)
        return self._txn

    def commit(self) -> Outcome | None:
        """Make the transaction under way the new state, durable when this returns.

        Return what became of it; without one, of what was done since :attr:`outcome` was taken away.

        Raises WorseError when what it changed is not sound (unless forced), and what the commit raises: then all of it
        is forgotten.
        """
        if self._txn is None:
            return self.outcome
        txn = self._txn
        try:
            doubted = self.doubted and not self.force
            few = self._stage.held < _FEW and not self.sink.partly  # the saving of few bytes is made in one go
            with self._held(doubted or few):
                txn.commit()
                if self.doubted and not self.force:
                    self._refuse_if_worse(moved=True)
        except BaseException:
            self.abort()
            raise
        self._txn, self.doubted = None, False
        self._committed = True
        self.image.follow(txn.superblock)
        return self._outcome()

    def _judge(self, superblock: Superblock) -> None:
        from btrimg.edit.changed import TooManyError
        from btrimg.edit.judge import faults_of_commit

        rebuilt = self._txn.rebuilt if self._txn is not None else ()
        if rebuilt:  # what came and went in them tells nothing
            self.doubted = self.sink.holding = True
        self.sink.save_ahead()
        try:
            faults = faults_of_commit(self.image, superblock, rebuilt)
        except TooManyError:  # all that is read for a check is not in memory at once
            self.doubted = self.sink.holding = True
            return
        if faults:
            raise WorseError(faults)

    def _note(self, superblock: Superblock) -> None:
        from btrimg.edit.changed import Changes

        rebuilt = self._txn.rebuilt if self._txn is not None else ()
        self.item_changes += Changes(self.image, superblock, rebuilt).items()

    def abort(self) -> None:
        """Forget the transaction under way; what it wrote to free space is taken back if nothing is committed yet."""
        under_way, self._txn = self._txn, None
        self.doubted = False
        if self._sink is not None:
            self._sink.forget()
            if isinstance(self._sink, SavingSink) and not self._committed:
                self._sink.roll_back()
        if self._image is not None:
            self._image.blocks.forget()
            if under_way is not None:
                self._image.follow(self._image.superblock)

    # In place

    @contextmanager
    def in_place(self, *, harmless: bool = False) -> Iterator[StagedSink]:
        """Give where bytes go that are written where others stand: they wait until the end of the ``with`` block.

        Raises WorseError when they make the image worse (unless forced): then nothing is written. Of what is *harmless*
        only the superblocks are looked at.
        """
        self._refuse_if_pending()
        try:
            with self._held(not self.force):
                yield self.sink
                if not self.force and self._stage.waits():
                    self._refuse_if_worse(harmless=harmless)
        except BaseException:
            self.abort()
            raise

    def _refuse_if_pending(self) -> None:
        if self._txn is not None:
            raise BtrimgError("a transaction is under way: commit or abort it before anything is written in place")

    def write_pieces(self, pieces: Iterable[Piece]) -> Outcome | None:
        """Write bytes where they stand, durable when this returns; None when there are none. Raises as in_place."""
        self._refuse_if_pending()
        several = list(pieces)
        if not several:
            return None
        harmless = False
        if not self.force:
            from btrimg.edit.worse import is_harmless

            harmless = is_harmless(several)
        with self.in_place(harmless=harmless) as sink:
            for piece in several:
                sink.pwrite(piece.devid, piece.physical, piece.after)
        return self.written()

    def in_order(self, write: Callable[[], _Done]) -> _Done:
        """Do what writes in place through :attr:`sink`, in an order that tells whoever comes after it is cut off.

        It is done twice: what would be written is judged first, and raises WorseError when it makes the image worse
        (unless forced). When it fails in the middle, what it wrote is taken back if nothing was written before.
        """
        self._refuse_if_pending()
        try:
            done = write() if self.force else self._judged(write)
        except BaseException:
            self.abort()
            raise
        self.written()
        return done

    def _judged(self, write: Callable[[], _Done]) -> _Done:
        sink = self.sink
        was, sink.holding = sink.holding, True
        try:
            done = write()
            self._refuse_if_worse()
        finally:
            sink.holding = was
        if self.dry_run:
            return done
        sink.forget()
        self._image = None
        return write()

    @contextmanager
    def _held(self, hold: bool) -> Iterator[None]:
        """Let nothing be written within the ``with`` block, if *hold*: all of it at its end."""
        sink = self.sink
        was, sink.holding = sink.holding, hold or sink.holding
        try:
            yield
        finally:
            sink.holding = was
        sink.sync()

    def _refuse_if_worse(self, *, harmless: bool = False, moved: bool = False) -> None:
        from btrimg.edit.worse import new_faults

        faults = new_faults(self.paths, self._stage.open, harmless=harmless, moved=moved)
        if faults:
            raise WorseError(faults)

    def written(self) -> Outcome:
        """Read the image anew, which was written to through :attr:`sink` itself; return what became of that."""
        self.sink.sync()
        self._committed = True
        self._image = None
        return self._outcome()

    def _outcome(self) -> Outcome:
        """Return what the image is now; of a dry run, what it would be, is kept for what comes after it."""
        if self.dry_run:
            self.sink.keep()
        try:
            generation = self.image.superblock.generation
        except BtrimgError:  # that may be what was asked for
            self._image, generation = None, 0
        self.outcome = Outcome(generation, self.sink.undo_path, self._backup)
        return self.outcome

    @property
    def has_begun(self) -> bool:
        """Return whether there was an edit, so that the devices are locked."""
        return self._sink is not None

    def writes(self) -> Iterator[Piece]:
        """Yield what a dry run would have written, in order."""
        for devid, device in self.sink.devices.items():
            for physical, before, after in pieces_of(device):
                yield Piece(devid, physical, before, after)


def _superblocks_of(devices: Mapping[int, Device]) -> dict[int, list[bytes]]:
    return {
        devid: [
            device.pread(SUPERBLOCK_SIZE, offset)
            for offset in SUPERBLOCK_OFFSETS
            if offset + SUPERBLOCK_SIZE <= device.size
        ]
        for devid, device in devices.items()
    }


def _by_own_claim(devices: Sequence[StagedDevice]) -> dict[int, StagedDevice]:
    """Return *devices* by the devid that the first sound superblock of each names; without one, by a free number."""
    claimed: dict[int, StagedDevice] = {}
    for device in devices:
        claims = (copy.superblock.dev_item.devid for copy in read_copies(device) if copy.superblock and not copy.fault)
        devid = next(claims, None)
        if devid is None or devid in claimed:
            devid = max((*claimed, len(devices))) + 1
        claimed[devid] = device
    return claimed

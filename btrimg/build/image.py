"""A new image of a filesystem that a recipe describes, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.build.builder import Builder
from btrimg.build.filesystem import options_of
from btrimg.errors import OptionError
from btrimg.named import NamedTuple
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.fresh import block_size, fresh_devices
from btrimg.write.mkfs import make_filesystem
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from btrimg.build.recipe import Origin
    from btrimg.build.values import Filesystem, Operation
    from btrimg.volume.fresh import FreshDevices
    from btrimg.write.transaction import Transaction

    Operations = Iterable[tuple[Origin, Operation]]

START_OF_TIME = Timespec(0, 0)  #: the clock where nobody sets it: the wall clock would make every image another one


class Built(NamedTuple):
    """What was made."""

    fsid: bytes
    label: bytes
    sizes: dict[int, int]  #: bytes of the devices by devid
    bytes_used: int  #: logical
    generation: int  #: of the last commit


def build_image(
    filesystem: Filesystem,
    operations: Operations,
    outputs: Sequence[str],
    *,
    directory: bytes = b"",
    now: Timespec = START_OF_TIME,
    latest: int | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _things, _bytes: None,
    warn: Callable[[str], None] = lambda _text: None,
) -> Built:
    """Make *filesystem* with all that *operations* do to it in *outputs*, one for each of its devices.

    Paths of the host go from *directory*; *now* is the clock unless the filesystem has its own, *latest*
    in ns since 1970 what later times of files of the host become. Nothing is left of
    files that could not be completed. Raises OptionError for a filesystem that cannot be, RecipeError for an operation
    that cannot be done, DeviceError for outputs that cannot be written.
    """
    devices = len(filesystem.sizes)
    if len(outputs) != devices:
        raise OptionError(f"the filesystem has {devices} devices, and {len(outputs)} outputs are named: one for each")
    filesystem = _with_sizes(filesystem, outputs)
    uuids = seeded(filesystem.seed)
    options = options_of(filesystem, uuids)
    with fresh_devices(outputs, [device.size for device in options.devices], force=force) as fresh:
        txn = make_filesystem(options, fresh.devices, fresh.sink, now=filesystem.clock or now, uuids=uuids, warn=warn)
        growing = [devid for devid, size in enumerate(filesystem.sizes, 1) if size is None]
        txn.space.lengthen = lambda: _lengthen(txn, fresh, growing)
        with Builder(
            txn,
            directory=directory,
            seed=filesystem.seed,
            compress=filesystem.compress,
            dedupe=filesystem.dedupe,
            latest=latest,
            progress=progress,
            warn=warn,
        ) as builder:
            builder.run(operations)
            txn.commit()
        if filesystem.shrink:
            _shrink(txn, fresh, filesystem.slack)
        superblock = txn.superblock
        sizes = {devid: device.size for devid, device in fresh.devices.items()}
    return Built(options.fsid, options.label, sizes, superblock.bytes_used, superblock.generation)


def _with_sizes(filesystem: Filesystem, outputs: Sequence[str]) -> Filesystem:
    """Let devices whose size nobody said take the block device that they are to stand on."""
    known = zip(filesystem.sizes, outputs, strict=True)
    return filesystem._replace(sizes=tuple(block_size(output) if size is None else size for size, output in known))


def _lengthen(txn: Transaction, fresh: FreshDevices, growing: Sequence[int]) -> bool:
    """Double the devices whose size nobody said; return whether there are any."""
    for devid in growing:
        size = 2 * fresh.devices[devid].size
        fresh.resize(devid, size)
        txn.space.resize(devid, size)
    return bool(growing)


def _shrink(txn: Transaction, fresh: FreshDevices, slack: int) -> None:
    """Cut every device off *slack* bytes behind its last chunk, if there is more."""
    txn.space.lengthen = lambda: False
    sizes = {devid: txn.space.shrink(devid, slack) for devid in fresh.devices}
    txn.commit()
    for devid, size in sizes.items():
        fresh.resize(devid, size)

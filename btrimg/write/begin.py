"""A transaction over an opened image, unless it uses what this engine would not keep right."""

from __future__ import annotations

from btrimg.errors import DeviceError, NotFoundError, UnsupportedError
from btrimg.filesystem.image import device_items
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import DevReplace
from btrimg.ondisk.constants import (
    CompatRo,
    Incompat,
    ItemType,
    QgroupStatusFlag,
    SuperFlag,
    TreeId,
)
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import QgroupStatus
from btrimg.volume.writer import VolumeWriter
from btrimg.write.transaction import Transaction, chunk_tree_uuid_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.inodes import Timespec
    from btrimg.trees.block import BlockReader
    from btrimg.volume.writer import Sink

_UNWRITTEN = {
    Incompat.ZONED: "zoned",
    Incompat.EXTENT_TREE_V2: "extent-tree-v2",
    Incompat.RAID_STRIPE_TREE: "raid-stripe-tree",
    Incompat.SIMPLE_QUOTA: "simple-quota",
    Incompat.REMAP_TREE: "remap-tree",
}
_UNFINISHED = {
    SuperFlag.SEEDING: "it is a seed, which is never written to; btrimg edit IMAGE seed off makes it none",
    SuperFlag.ERROR: "its superblock says that an error was met; run btrimg check",
    SuperFlag.METADUMP: "it is a dump of metadata without the data",
    SuperFlag.METADUMP_V2: "it is a dump of metadata without the data",
    SuperFlag.CHANGING_FSID: "a change of its fsid was interrupted; btrimg edit IMAGE fsid finishes it",
    SuperFlag.CHANGING_FSID_V2: "a change of its fsid was interrupted; btrimg edit IMAGE metadata-uuid does it again",
    SuperFlag.CHANGING_BG_TREE: "a conversion to a block group tree was interrupted; let btrfstune finish it",
    SuperFlag.CHANGING_DATA_CSUM: "a change of its checksums was interrupted; let btrfstune finish it",
    SuperFlag.CHANGING_META_CSUM: "a change of its checksums was interrupted; let btrfstune finish it",
}
_CUT_OFF = 1  # commits that a device is behind when a machine stops while superblocks are written; it lacks nothing
_RUNNING = (1, 4)  # of dev replace: started, suspended


def begin(
    image: Image, sink: Sink, *, now: Timespec, uuids: Callable[[], bytes], blocks: BlockReader | None = None
) -> Transaction:
    """Begin a transaction on *image*, whose devices *sink* writes to; *now* is the clock, *uuids* gives new uuids.

    *blocks* reads tree blocks, by default a reader of its own: who lends that of the image must have it forget what a
    transaction has written that was not committed.

    Quota groups are not kept: as the kernel does when it loses count, they are marked inconsistent, and the next rescan
    counts them anew. A v1 space cache becomes invalid by its generation. Raises UnsupportedError, with a sentence that
    says why, where the image uses what a commit would not keep right, DeviceError when a device is missing or was.
    """
    for why in _obstacles(image):
        raise UnsupportedError(f"the image cannot be written to: {why}")
    devids = dict(device_items(image.tree(TreeId.CHUNK_TREE))).keys()
    missing = sorted(devids - image.volume.devices.keys())
    if missing:
        raise DeviceError(f"device {missing[0]} is missing: give it too (-d), nothing is written without it")
    volume = image.volume
    for devid, lag in sorted(volume.lag.items()):
        if lag > _CUT_OFF:
            raise DeviceError(
                f"device {devid} was away for {lag} commits: a commit would let what it holds pass for new;"
                " mount the filesystem, and btrfs scrub brings the device up to date"
            )
    txn = Transaction(
        volume,
        VolumeWriter(volume, sink),
        chunk_tree_uuid=chunk_tree_uuid_of(volume, image.blocks),
        now=now,
        uuids=uuids,
        blocks=blocks,
    )
    _lose_count(txn)
    return txn


def _obstacles(image: Image) -> Iterator[str]:
    """Yield why a commit would leave something wrong behind."""
    superblock = image.volume.superblock  # of which who begins may have changed what is to be another
    unwritten = [name for bit, name in _UNWRITTEN.items() if superblock.incompat_flags & bit]
    unknown = superblock.incompat_flags & ~sum(Incompat)
    if unwritten or unknown:
        yield f"it uses {' and '.join(unwritten) or f'unknown incompat bits {unknown:#x}'}, which btrimg does not write"
    unknown = superblock.compat_ro_flags & ~sum(CompatRo)
    if unknown:
        yield f"it uses unknown compat_ro bits {unknown:#x}: who does not know them may only read"
    space = CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID
    if superblock.compat_ro_flags & space == CompatRo.FREE_SPACE_TREE:
        yield "its free space tree is not valid; btrimg edit IMAGE feature free-space-tree rebuild makes it so"
    for flag, why in _UNFINISHED.items():
        if superblock.flags & flag:
            yield why
    if superblock.log_root:
        yield "its log tree holds changes made after the last commit; btrimg edit IMAGE log replay commits them"
    if _has(image, TreeId.ROOT_TREE, Key(TreeId.BALANCE, ItemType.TEMPORARY_ITEM, 0)):
        yield "a balance was interrupted; mount it, and let btrfs balance finish or cancel it"
    if any(True for _ in image.root_items(TreeId.TREE_RELOC)):
        yield "a relocation was interrupted; mount it once, and the kernel ends it"
    for payload in _payloads(image, TreeId.DEV_TREE, Key(0, ItemType.DEV_REPLACE, 0)):
        if DevReplace.unpack(payload).replace_state in _RUNNING:
            yield "a device is being replaced; mount it, and let btrfs replace finish or cancel it"


def _payloads(image: Image, tree_id: int, key: Key) -> Iterator[bytes]:
    try:
        yield image.tree(tree_id).get(key)
    except NotFoundError:
        return


def _has(image: Image, tree_id: int, key: Key) -> bool:
    return any(True for _ in _payloads(image, tree_id, key))


def _lose_count(txn: Transaction) -> None:
    """Mark quota groups inconsistent, if there are any that count."""
    if not txn.has_tree(TreeId.QUOTA_TREE):
        return
    key, tree = Key(0, ItemType.QGROUP_STATUS, 0), txn.tree(TreeId.QUOTA_TREE)
    try:
        payload = tree.get(key)
    except NotFoundError:
        return
    status = records_of(QgroupStatus, ItemType.QGROUP_STATUS, payload)[0]
    flags = status.flags | QgroupStatusFlag.INCONSISTENT
    tree.put(key, status.replace(flags=flags).pack()[: len(payload)])
    txn.volume.warn(
        "quota groups are not counted on: they are marked inconsistent, btrfs quota rescan counts them anew"
    )

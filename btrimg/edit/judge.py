"""The check of what a commit has changed, before its superblocks make it count.

Nothing here trusts the engine: what it wrote is read again, and its accounts are added up anew from the items that came
and went. What did not change is not read, so that the time is that of the change and not that of the image.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict

from btrimg.check.itemlaws import Law, laws
from btrimg.edit.linkcounts import wrong_links
from btrimg.errors import CorruptError, DeviceError
from btrimg.filesystem.csums import Csums
from btrimg.ondisk.blocks import Header, Item, Key
from btrimg.ondisk.chunks import BlockGroupItem, Chunk, DevExtent
from btrimg.ondisk.constants import ExtentFlag, FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem, FileExtent
from btrimg.ondisk.items import ITEM_KINDS
from btrimg.trees.block import Block, is_subvolume
from btrimg.trees.tree import Tree
from btrimg.units import MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from btrimg.edit.changed import Changes, ItemChange
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.superblock import Superblock

_EXTENTS = (ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM)
_OWN_NUMBERS = (TreeId.ROOT_TREE_DIR, TreeId.FREE_INO, TreeId.FS_TREE)  # inodes that no law of inodes is about
_TYPE, _ADDRESS = 20, slice(21, 29)  # of a file extent: its type, disk_bytenr
_EXTENT_DATA, _EXTENT_ITEM = int(ItemType.EXTENT_DATA), int(ItemType.EXTENT_ITEM)  # numbers: compared with every key
_DATA, _INLINE = int(ExtentFlag.DATA), int(FileExtentType.INLINE)
_unpack_extent = ExtentItem.STRUCT.unpack_from
_WITH_DATA = (TreeId.ROOT_TREE, TreeId.DATA_RELOC_TREE)  # and subvolumes; the first has space caches
_MOST_BLOCKS = 128 * MIB  # of new tree blocks; what is made of them takes several times as much
_MOST = 20  # findings: one fault can be found a million times


def faults_of_commit(image: Image, superblock: Superblock, rebuilt: Collection[int] = ()) -> list[str]:
    """Return a sentence for each thing that is wrong with what a commit is about to make count, the first few.

    *image* is as it was before, on devices that show what was written; *superblock* is the one to be written, *rebuilt*
    are the trees that are made anew. Raises TooManyError when there is more than should be in memory at once.
    """
    from btrimg.edit.changed import Changes

    try:
        judge = _Judge(image, Changes(image, superblock, rebuilt, most=_MOST_BLOCKS // image.volume.nodesize), rebuilt)
    except CorruptError as error:
        return [str(error)]
    found: list[str] = []
    for sentence in judge.faults():
        found.append(sentence)
        if len(found) == _MOST:
            break
    return found


class _Extent:
    """An item of the extent tree."""

    __slots__ = ("data", "length", "refs")

    def __init__(self, key: Key, payload: bytes, nodesize: int) -> None:
        if len(payload) < ExtentItem.SIZE:
            ExtentItem.unpack(payload)  # which says what is wrong
        self.refs: int
        self.refs, _, flags = _unpack_extent(payload)
        self.data, self.length = False, nodesize
        if key[1] == _EXTENT_ITEM:
            self.data, self.length = bool(flags & _DATA), key[2]


class _Judge:
    def __init__(self, image: Image, changes: Changes, rebuilt: Collection[int]) -> None:
        self._rebuilt = rebuilt
        self._image, self._changes, self._volume = image, changes, image.volume
        self._laws = laws(image.volume.csum.size)
        self._items: dict[int, list[ItemChange]] = defaultdict(list)
        for item in changes.items():
            self._items[item[1][1]].append(item)  # by type
        self._before: dict[int, _Extent] = {}  # by logical address
        self._after: dict[int, _Extent] = {}
        for key_type in _EXTENTS:
            for each in self._items.get(key_type, ()):
                for extents, payload in ((self._before, each.before), (self._after, each.after)):
                    if payload is not None:
                        extents[each[1][0]] = _Extent(each.key, payload, self._volume.nodesize)

    def faults(self) -> Iterator[str]:
        try:
            yield from self._copies()
            yield from self._broken_laws()
            yield from self._tree_blocks()
            yield from self._used()
            yield from self._free()
            yield from self._references()
            yield from wrong_links(self._changes, self._items)
            yield from self._device_extents()
            yield from self._data()
        except (CorruptError, DeviceError) as error:
            yield str(error)

    def _copies(self) -> Iterator[str]:
        """Find copies of new tree blocks that differ, and rows whose parity does not give them."""
        for logical in self._changes.new:
            if len(list(self._volume.candidates(logical, self._volume.nodesize))) > 1:
                yield f"tree block {logical}: its copies differ"

    # Items

    def _broken_laws(self) -> Iterator[str]:
        """Find items that were put and cannot be what their keys say."""
        anything = Law()
        for key_type, items in self._items.items():
            law, kind = self._laws.get(key_type, anything), ITEM_KINDS.get(key_type)
            trees, keys, _, payloads = zip(*items, strict=True)
            homes = {
                tree for tree in set(trees) if kind is None or _home(tree) in kind.trees or _may_hold(tree, key_type)
            }
            if homes.issuperset(trees) and None not in payloads and self._obey(law, keys, payloads):
                continue
            for tree, key, _, after in items:
                if after is None:
                    continue
                if tree not in homes:
                    yield f"{_words(tree, key)} does not belong there"
                elif not self._obey(law, (key,), (after,)):
                    yield f"{_words(tree, key)} with {len(after)} bytes cannot be"

    def _obey(self, law: Law, keys: Sequence[Key], payloads: Sequence[bytes]) -> bool:
        """Return whether items, all of one type, can be what their keys say: many are looked at as one is."""
        sector, (low, high), (first, last) = self._volume.sectorsize, law.objectid, law.offset
        sizes = set(map(len, payloads))
        if min(sizes) < law.least or max(sizes) > law.most or any((size - law.least) % law.step for size in sizes):
            return False
        objectids, (key_type, *_), offsets = zip(*keys, strict=True)
        for name, numbers in (("objectid", objectids), ("offset", offsets)):
            if name in law.aligned and any(number % sector for number in numbers):
                return False
        if min(offsets) < first or max(offsets) > last:
            return False
        strange = min(objectids) < low or max(objectids) > high
        if strange and any(not low <= each <= high for each in set(objectids).difference(_OWN_NUMBERS)):
            return False
        if key_type != _EXTENT_DATA or sizes == {FileExtent.SIZE}:
            return True
        return all(each[_TYPE] == _INLINE for each in payloads if len(each) != FileExtent.SIZE)

    # Accounts

    def _tree_blocks(self) -> Iterator[str]:
        """Find new tree blocks that the extent tree does not know as new, and the other way round."""
        known = {at for at, each in self._after.items() if not each.data and at not in self._before}
        for logical in sorted(self._changes.new.keys() ^ known):
            which = "has no extent item" if logical in self._changes.new else "is allocated, and no tree has it"
            yield f"tree block {logical} {which}"

    def _used(self) -> Iterator[str]:
        """Find block groups that do not count what was allocated and released in them, and the sum of all."""
        groups = self._groups()
        starts = sorted({key.objectid for key in groups})
        change = Counter[int]()
        for extents, sign in ((self._after, 1), (self._before, -1)):
            for logical, extent in extents.items():
                at = bisect_right(starts, logical) - 1
                change[starts[at] if at >= 0 else -1] += sign * extent.length
        for key, (before, after) in groups.items():
            if before is not None and after is not None and after - before != change[key.objectid]:
                yield (
                    f"block group {key.objectid} counts {after} bytes used, {before} before, of which"
                    f" {before + change[key.objectid]} are"
                )
        total = sum((after or 0) - (before or 0) for before, after in groups.values())
        if total != change.total():
            yield f"block groups count {total} bytes more than before, extents {change.total()}"
        counted = self._changes.superblock.bytes_used - self._image.superblock.bytes_used
        if counted != total:
            yield f"the superblock counts {counted} bytes more than before, block groups {total}"

    def _groups(self) -> dict[Key, tuple[int | None, int | None]]:
        """Return the bytes used of changed block groups, before and after, by key."""
        found: dict[Key, tuple[int | None, int | None]] = {}
        for item in self._items.get(ItemType.BLOCK_GROUP_ITEM, ()):
            old = BlockGroupItem.unpack(item.before).used if item.before is not None else None
            new = BlockGroupItem.unpack(item.after).used if item.after is not None else None
            before, after = found.get(item.key, (None, None))  # it may have moved from one tree to another
            found[item.key] = (before if old is None else old, after if new is None else new)
        return found

    def _free(self) -> Iterator[str]:
        """Find out whether free space became less by what is used more."""
        tree = TreeId.FREE_SPACE_TREE
        if tree not in self._changes.roots or tree in self._rebuilt or not self._had(tree):
            return
        free = 0
        for item in self._items.get(ItemType.FREE_SPACE_EXTENT, ()):
            free += item.key.offset * ((item.after is not None) - (item.before is not None))
        for item in self._items.get(ItemType.FREE_SPACE_BITMAP, ()):
            before, after = (int.from_bytes(bitmap or b"", "little").bit_count() for bitmap in item[2:])
            free += (after - before) * self._volume.sectorsize
        expected = 0
        for key, (old, new) in self._groups().items():
            expected += (0 if new is None else key.offset - new) - (0 if old is None else key.offset - old)
        if free != expected:
            yield f"free space grew by {free} bytes, by what block groups count it is {expected}"

    def _had(self, tree_id: int) -> bool:
        return any(True for _ in self._image.root_items(tree_id))

    def _references(self) -> Iterator[str]:
        """Find data extents whose count of references is not that of the file extents that came and went."""
        change = Counter[int]()
        for block in self._changes.new.values():
            change.update(_data_of(block))
        for block in self._freed_leaves():
            change.subtract(_data_of(block))
        data = {at for extents in (self._before, self._after) for at, each in extents.items() if each.data}
        for logical in sorted(data | {at for at, count in change.items() if count}):
            before, after = self._before.get(logical), self._after.get(logical)
            counted = (after.refs if after else 0) - (before.refs if before else 0)
            if counted != change[logical]:
                yield (
                    f"data extent {logical} counts {after.refs if after else 0} references, {counted:+} beside before,"
                    f" and by files it is {change[logical]:+}"
                )

    def _freed_leaves(self) -> Iterator[Block]:
        """Yield leaves that no tree has any more."""
        known = {block.header.bytenr: block for tree in self._changes.trees for block in tree.old}
        for logical, extent in self._before.items():
            if extent.data or logical in self._after:
                continue
            block = known.get(logical)
            if block is None:
                data = self._volume.read(logical, self._volume.nodesize)
                header = Header.unpack(data)
                if header.level:
                    continue
                block = Block(header, data)
            if not block.header.level:
                yield block

    def _device_extents(self) -> Iterator[str]:
        """Find stripes of chunks without a device extent, and the other way round."""
        stripes, extents = Counter[tuple[int, int, int]](), Counter[tuple[int, int, int]]()
        for item in self._items.get(ItemType.CHUNK_ITEM, ()):
            for payload, sign in ((item.after, 1), (item.before, -1)):
                for stripe in Chunk.unpack(payload).stripes if payload is not None else ():
                    stripes[stripe.devid, stripe.offset, item.key.offset] += sign
        for item in self._items.get(ItemType.DEV_EXTENT, ()):
            for payload, sign in ((item.after, 1), (item.before, -1)):
                if payload is not None:
                    extents[item.key.objectid, item.key.offset, DevExtent.unpack(payload).chunk_offset] += sign
        for place in stripes.keys() | extents.keys():
            if stripes[place] != extents[place]:
                devid, physical, logical = place
                yield f"chunk {logical} and the device extent at {physical} of device {devid} contradict each other"

    # Data

    def _data(self) -> Iterator[str]:
        """Find new data that do not have their checksums, in any copy."""
        root = self._changes.roots.get(TreeId.CSUM_TREE)
        new = sorted((at, at + each.length) for at, each in self._after.items() if each.data and at not in self._before)
        if root is None or not new:
            return
        tree = Tree(self._changes.blocks, root)
        volume = self._volume
        size, sector, digest = volume.csum.size, volume.sectorsize, volume.csum.digest
        csums = Csums(tree, size, sector)
        for start, end in self._with_csums(tree, new):
            for at in range(start, end, MIB):
                length = min(MIB, end - at)
                sums = csums.lookup(at, length)
                for data in volume.candidates(at, length):
                    view = memoryview(data)
                    if b"".join([digest(view[each : each + sector]) for each in range(0, length, sector)]) != sums:
                        yield f"data at logical {at}..{at + length} do not have their checksums"
                        break

    def _with_csums(self, tree: Tree, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield the parts of *ranges* that have checksums, neighbours joined."""
        size, sector = self._volume.csum.size, self._volume.sectorsize
        at = end = 0
        for first, last in _joined(ranges):
            key = Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, first)
            before = tree.floor(key)
            start = before[0].offset if before is not None and before[0][:2] == key[:2] else first
            spans = [
                (each.offset, each.offset + len(payload) // size * sector)
                for each, payload in tree.items(key._replace(offset=start), key._replace(offset=last - 1))
            ]
            for span_start, span_end in _joined(spans):
                at, end = max(span_start, first), min(span_end, last)
                if at < end:
                    yield at, end


def _words(tree: int, key: Key) -> str:
    from btrimg.ondisk.keynames import key_words

    return f"tree {tree}: ({key_words(key)})"


def _home(tree: int) -> int:
    """Return the tree that stands for all that hold the same items."""
    return TreeId.FS_TREE if is_subvolume(tree) or tree == TreeId.DATA_RELOC_TREE else tree


def _may_hold(tree: int, key_type: int) -> bool:
    """Return whether old programs put items of that type into a tree where they do not belong."""
    return key_type == ItemType.UNTYPED or tree == TreeId.UUID_TREE


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    start = end = -1
    for first, last in ranges:
        if first != end:
            if end > start:
                yield start, end
            start = first
        end = last
    if end > start:
        yield start, end


def _data_of(block: Block) -> list[int]:
    """Return the data extents that the file extents of a leaf refer to, one for each."""
    owner = block.header.owner
    if block.header.level or not (is_subvolume(owner) or owner in _WITH_DATA):
        return []
    data, size = block.data, FileExtent.SIZE
    starts = [Header.SIZE + slot[3] for slot in block.slots if slot[1] == _EXTENT_DATA and slot[4] == size]
    if starts and (max(starts) + size > len(data) or min(starts) < Header.SIZE + len(block) * Item.SIZE):
        for number in range(len(block)):
            block.payload(number)  # which says what is wrong
    first, last = _ADDRESS.start, _ADDRESS.stop
    found = [int.from_bytes(data[at + first : at + last], "little") for at in starts if data[at + _TYPE]]
    return [logical for logical in found if logical]

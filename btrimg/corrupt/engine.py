"""Apply edits to an opened image, in memory; nothing is written until all of them have been found possible.

Edits are applied in order, each to what those before it have left. An edit changes every copy by itself, so that copies
that differ stay different; then it makes right what follows from it: the checksum of the block, the first keys in the
nodes above, P and Q. Marks say what of that is left as it was.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from btrimg.corrupt import leaf
from btrimg.corrupt.addresses import find_csum, parity_place
from btrimg.corrupt.assign import Assignment
from btrimg.corrupt.finder import Finder
from btrimg.corrupt.places import in_block, in_payload, in_slot, in_superblock, with_array_resized
from btrimg.corrupt.twins import differences, edits_of_twins, with_twins
from btrimg.corrupt.words import parse_edit
from btrimg.errors import BtrimgError, CorruptError, DeviceError, NotFoundError
from btrimg.ondisk.blocks import DiskKey, Header
from btrimg.ondisk.seal import seal, seal_superblock
from btrimg.trees.hunt import hunt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.corrupt.descent import Way
    from btrimg.corrupt.finder import FoundItem, SuperCopy
    from btrimg.corrupt.words import Edit, Marks
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.blocks import Key
    from btrimg.volume.draft import Piece

    Change = Callable[[bytes], bytes]

_OLDER = "older"  #: as the value of a block: an older one, as a lost write leaves it


class Corruptor:
    """Edits one opened image; :meth:`pieces` are the bytes that have changed.

    With *twins* what stands in two places is kept the same: items of the chunk tree, and their copies in superblocks.
    """

    def __init__(self, image: Image, *, twins: bool = False) -> None:
        self._image, self._volume, self._keeps_twins = image, image.volume, twins
        self.finder = Finder(image)
        self._storage, self._descent = self.finder.storage, self.finder.descent

    def pieces(self) -> Iterator[Piece]:
        """Yield the changed bytes of every device, in order."""
        return self._storage.draft.changes()

    def apply(self, words: Iterable[str]) -> None:
        """Apply the edits that *words* say.

        Raises NotFoundError, CorruptError, DeviceError or BtrimgError; the sentence starts with the word.
        """
        for word in words:
            try:
                self.apply_edit(parse_edit(word))
            except ValueError as error:
                raise BtrimgError(f"{word!a}: {error}") from None
            except BtrimgError as error:
                kinds = (kind for kind in (NotFoundError, CorruptError, DeviceError) if isinstance(error, kind))
                raise next(kinds, BtrimgError)(f"{word!a}: {error}") from None

    def apply_edit(self, edit: Edit) -> None:
        """Apply one edit; raises what :meth:`apply` does, and ValueError with a sentence for what makes no sense."""
        assignment = Assignment(edit, self.finder.values)
        kinds = {
            "item": self._edit_item,
            "block": self._edit_block,
            "super": self._edit_superblocks,
            "data": self._edit_data,
            "csum-of": self._edit_csum,
            "cache": self._edit_cache,
        }
        if edit.target.kind == "file":
            raise ValueError("that can only be read; write /PATH:TYPE.OFFSET/FIELD")
        kinds.get(edit.target.kind, self._edit_raw)(edit, assignment)

    # Items

    def _edit_item(self, edit: Edit, assignment: Assignment, *, twins: bool = True) -> None:
        found = self.finder.item(edit.target)
        is_whole = not edit.target.steps or (edit.target.names == ("payload",) and len(edit.target.steps) == 1)
        if not found.present and (not is_whole or assignment.is_none):
            raise NotFoundError("there is no such item (a whole payload, 0x…, would insert one)")

        def change(data: bytes) -> bytes:
            if not found.present:
                return leaf.with_item(data, found.key, assignment.as_bytes(b"", None))
            if is_whole and assignment.is_none:
                return leaf.without_slot(data, found.slot_in(data), may_be_empty=not found.way.above)
            return _changed_item(data, found, edit, assignment)

        before = self._twins_in_leaf(found.way, edit.marks)
        self._change_leaf(found.way, change, edit.marks)
        changed = differences(before, self._twins_in_leaf(found.way, edit.marks)) if twins else {}
        for copy in self.finder.superblocks(edit.marks) if changed else ():
            self._write_superblock(copy, with_array_resized(with_twins(copy.data, copy.devid, changed)), edit.marks)

    def _twins_in_leaf(self, way: Way, marks: Marks) -> dict[Key, bytes]:
        """Return the items of a leaf of the chunk tree, which superblocks may have too; none if they do not follow."""
        is_chunk_tree = (way.above[0][0] if way.above else way.logical) == self._volume.superblock.chunk_root
        follow = is_chunk_tree and self._follows(marks)
        return leaf.readable(self._descent.block(way.logical)) if follow else {}

    def _follows(self, marks: Marks) -> bool:
        """Return whether the other place follows: not when one copy alone is meant."""
        return self._keeps_twins and marks.mirror is None and marks.devid is None

    def _change_leaf(self, way: Way, change: Change, marks: Marks) -> None:
        first = leaf.keys_of(self.finder.copy_of(way.logical, marks))[:1]
        self.change_block(way.logical, (lambda data: leaf.in_order(change(data))) if marks.sort else change, marks)
        new_first = leaf.keys_of(self.finder.copy_of(way.logical, marks))[:1]
        if first != new_first and new_first and not marks.keep_parents:
            self._tell_parents(way, new_first[0], marks)

    def _tell_parents(self, way: Way, first: Key, marks: Marks) -> None:
        """Set the first key of a block in the nodes above it."""
        key = DiskKey(*first).pack()
        for logical, slot in reversed(way.above):

            def change(data: bytes, slot: int = slot) -> bytes:
                at = leaf.slot_start(data, slot)
                return data[:at] + key + data[at + len(key) :]

            self.change_block(logical, change, marks)
            if slot:
                break

    # Tree blocks

    def _edit_block(self, edit: Edit, assignment: Assignment) -> None:
        way, steps, marks = self.finder.block(edit.target), edit.target.steps, edit.marks
        if edit.target.names == ("header", "csum"):
            marks = marks._replace(keep_csum=True)
        if not steps:
            content = self._older(way.logical) if edit.value == _OLDER else assignment.as_bytes(b"", None)
            if len(content) != self._volume.nodesize:
                raise ValueError(f"{len(content)} bytes are no tree block, which has {self._volume.nodesize}")
            placed = leaf.with_address(content, way.logical)
            self.change_block(way.logical, lambda _: placed, marks)
            return

        def change(data: bytes) -> bytes:
            if assignment.is_none and edit.target.names == ("slots",) and isinstance(steps[-1].at, int):
                return leaf.without_slot(data, _slot_number(data, steps[-1].at))
            return assignment.into(data, in_block(data, steps))

        self.change_block(way.logical, change, marks)

    def _older(self, logical: int) -> bytes:
        """Return an older block of the same tree and level that is still on the disk, freed or not.

        One that starts with the same key is preferred, then the newest. Raises NotFoundError when none is left.
        """
        data = self._descent.block(logical)
        header, first = Header.unpack(data), leaf.keys_of(data)[:1]
        best: tuple[tuple[bool, int], bytes] | None = None
        for each in hunt(self._image.blocks, header.owner, self._image.report):
            if each.level == header.level and each.generation < header.generation:
                content = self._descent.block(each.logical)
                rank = (leaf.keys_of(content)[:1] == first, each.generation)
                if best is None or rank > best[0]:
                    best = (rank, content)
        if best is None:
            raise NotFoundError(f"no older block of tree {header.owner} and level {header.level} is left on the disk")
        return best[1]

    def change_block(self, logical: int, change: Change, marks: Marks) -> None:
        """Change the copies of a tree block that *marks* choose, each by itself."""

        def sealed(data: bytes) -> bytes:
            return change(data) if marks.keep_csum else seal(change(data), self._volume.csum)

        self._change_logical(logical, self._volume.nodesize, sealed, marks)

    def _change_logical(self, logical: int, length: int, change: Change, marks: Marks) -> None:
        for copy in self._storage.copies(logical, length) if marks.mirror is None else [marks.mirror]:
            changed = change(self._storage.read(logical, length, copy))
            self._storage.write(logical, changed, copy, parity=not marks.keep_parity)

    # Superblocks and what has an address

    def _edit_superblocks(self, edit: Edit, assignment: Assignment) -> None:
        marks = edit.marks
        if edit.target.names == ("csum",):
            marks = marks._replace(keep_csum=True)

        def change(data: bytes) -> bytes:
            return with_array_resized(assignment.into(data, in_superblock(data, edit.target.steps)))

        primary = next(self.finder.superblocks(marks)).data
        self.change_superblocks(change, marks)
        for twin in edits_of_twins(edit, primary, self._volume.devices) if self._follows(marks) else ():
            with suppress(NotFoundError):  # what is nowhere else needs no change there
                self._edit_item(twin, Assignment(twin, self.finder.values), twins=False)

    def change_superblocks(self, change: Change, marks: Marks) -> None:
        """Change the copies of the superblock that *marks* choose, each by itself."""
        for copy in self.finder.superblocks(marks):
            self._write_superblock(copy, change(copy.data), marks)

    def _write_superblock(self, copy: SuperCopy, changed: bytes, marks: Marks) -> None:
        sealed = changed if marks.keep_csum else seal_superblock(changed)
        self._storage.draft.write(copy.devid, copy.physical, sealed)

    def _edit_data(self, edit: Edit, assignment: Assignment) -> None:
        logical, length = self.finder.values.number(edit.target.key), assignment.length()
        self._change_logical(logical, length, lambda data: assignment.as_bytes(data, length), edit.marks)
        if edit.marks.keep_csum:
            return
        sector, copy = self._volume.sectorsize, edit.marks.mirror or self._storage.copies(logical, length)[0]
        for start in range(logical - logical % sector, logical + length, sector):
            digest = self._volume.csum.digest(self._storage.read(start, sector, copy))

            def change(_old: bytes, digest: bytes = digest) -> bytes:
                return digest

            with suppress(NotFoundError):  # data need not have a checksum
                self._change_csum(start, change, edit.marks)

    def _edit_csum(self, edit: Edit, assignment: Assignment) -> None:
        size = self._volume.csum.size
        self._change_csum(
            self.finder.values.number(edit.target.key), lambda old: assignment.as_bytes(old, size), edit.marks
        )

    def _change_csum(self, logical: int, change: Change, marks: Marks) -> None:
        csum = find_csum(self._volume, self._descent, logical)

        def change_leaf(data: bytes) -> bytes:
            slot = csum.slot_in(data)
            payload = leaf.payload_of(data, slot)
            start, end = csum.span.start, csum.span.end
            return leaf.with_payload(data, slot, payload[:start] + change(payload[start:end]) + payload[end:])

        self.change_block(csum.way.logical, change_leaf, marks._replace(mirror=None))

    def _edit_cache(self, edit: Edit, assignment: Assignment) -> None:
        """Change a space cache, which no checksum tree covers: its pages have crcs of their own."""
        cache, marks = self.finder.cache(edit.target), edit.marks
        span = cache.place(edit.target.steps)
        is_crc = edit.target.names[:1] == ("crcs",)
        for copy in self._storage.copies(*cache.pieces[0]) if marks.mirror is None else [marks.mirror]:
            before = self.finder.read_cache(cache, copy)
            data = assignment.into(before, span)
            if not (marks.keep_csum or is_crc):
                data = cache.sealed(data, before)
            done = 0
            for logical, length in cache.pieces:
                self._storage.write(logical, data[done : done + length], copy, parity=not marks.keep_parity)
                done += length

    def _edit_raw(self, edit: Edit, assignment: Assignment) -> None:
        """Change bytes of a device, or parity: nothing follows from it."""
        values, target = self.finder.values, edit.target
        address, length = values.number(target.key), assignment.length()
        if target.kind == "device":
            devid, physical = values.number(target.head), address
        else:
            devid, physical = parity_place(self._storage, address, target.kind == "parity-q")
        draft = self._storage.draft
        draft.write(devid, physical, assignment.as_bytes(draft.read(devid, physical, length), length))


def _slot_number(data: bytes, at: int) -> int:
    """Return the slot that is meant by *at*, which counts from the end if negative; raise NotFoundError for none."""
    count = leaf.count_of(data)
    if not -count <= at < count:
        raise NotFoundError(f"there is no slot {at}, the block has {count}")
    return at % count


def _changed_item(data: bytes, found: FoundItem, edit: Edit, assignment: Assignment) -> bytes:
    """Return a leaf with a field of an item changed: of its slot, of where its payload lies, or of that itself."""
    slot, steps, names = found.slot_in(data), edit.target.steps, edit.target.names
    if names[:1] == ("slot",):
        return assignment.into(data, in_slot(data, slot, steps[1:]))
    if names == ("shift",):
        return leaf.shifted(data, slot, assignment.as_integer(0, 32))
    return leaf.with_payload(data, slot, changed_payload(found.key, leaf.payload_of(data, slot), edit, assignment))


def changed_payload(key: Key, payload: bytes, edit: Edit, assignment: Assignment) -> bytes:
    """Return the payload of an item with a field changed, or its size."""
    if edit.target.names == ("payload", "size"):
        size = assignment.as_integer(len(payload), 16)
        return payload[:size].ljust(size, b"\0")
    return assignment.into(payload, in_payload(key, payload, edit.target.steps))

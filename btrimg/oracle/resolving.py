"""Compare with the tools of ``btrfs inspect-internal`` that ask the kernel about a mounted filesystem."""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.filesystem.locate import Locator
from btrimg.filesystem.namei import paths_of
from btrimg.filesystem.shrink import min_device_size
from btrimg.filesystem.swapfile import map_swapfile
from btrimg.ondisk.constants import CompatRo
from btrimg.oracle.fields import Reading
from btrimg.oracle.known import NOT_MOUNTED, USAGE_UNKNOWN, Start, excuse_for
from btrimg.oracle.offline import same_lines
from btrimg.oracle.progs import ToolError
from btrimg.oracle.setting import judging
from btrimg.oracle.survey import some_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.inode import Inode
    from btrimg.oracle.setting import Setting
    from btrimg.oracle.survey import Subject
    from btrimg.oracle.tally import Tally

#: Comparisons that this module makes: their units.
UNITS = {
    "logical-resolve": "data extents",
    "logical-resolve (paths)": "data extents",
    "inode-resolve": "inodes",
    "subvolid-resolve": "subvolumes",
    "rootid": "directories",
    "min-dev-size": "devices",
    "list-chunks": "listings",
    "map-swapfile": "regular files",
}
_COULD_NOT = re.compile(r"(?s)inode \d+ subvol .*? could not be accessed: not mounted(?=\n)")
_NO_ENTRY = "No such file or directory"


class Resolving:
    """The comparisons with these tools on one mount, *top*."""

    def __init__(self, setting: Setting, top: str) -> None:
        self._setting, self._top = setting, top
        self._version, self._inspect = setting.progs.version, setting.progs.inspect

    def _open(self, name: str, whole: int | None) -> Tally:
        tally = self._setting.ledger.open(name, self._setting.progs.judge, UNITS[name])
        tally.whole = whole
        return tally

    def _same(self, tally: Tally, where: str, ours: object, theirs: object) -> None:
        """Compare two answers, unless it is known why they differ."""
        reason = None if ours == theirs else excuse_for(tally.name, self._version, ours, theirs)
        if reason:
            tally.allow({reason: 1})
        else:
            tally.same(where, ours, theirs)

    def logical(self, addresses: Sequence[int], whole: int) -> None:
        """Compare who uses the bytes at logical *addresses*: as inodes, by the whole extent too, and as paths."""
        tally, by_path = (self._open(name, whole) for name in ("logical-resolve", "logical-resolve (paths)"))
        locator = Locator(self._setting.image)
        with judging(tally):
            for logical in addresses:
                for flags in (["-P"], ["-P", "-o"]):
                    ours = self._users(locator, logical, ignore_offset="-o" in flags)
                    theirs = self._answer("logical-resolve", *flags, "-s", "65536", str(logical), self._top)
                    self._same(tally, f"{logical} {' '.join(flags)}", ours, theirs)
                tally.done()
        with judging(by_path):
            for logical in some_of(addresses, self._setting.share(4)):
                users = locator.users(logical)
                names = [self._top_name(path) for use in users for path in self._paths(use.subvolume, use.inode)]
                theirs = self._answer("logical-resolve", "-s", "65536", str(logical), self._top)
                self._same(by_path, str(logical), _lines(names), theirs)
                by_path.done()

    def _users(self, locator: Locator, logical: int, *, ignore_offset: bool) -> list[str]:
        try:
            users = locator.users(logical, ignore_offset=ignore_offset)
        except NotFoundError:
            return []
        return sorted(f"inode {use.inode} offset {use.offset} root {use.subvolume}" for use in users)

    def _paths(self, subvolume: int, ino: int) -> list[bytes]:
        with suppress(NotFoundError):
            return paths_of(self._setting.image, subvolume, ino)
        return []

    def _top_name(self, path: bytes) -> str:
        """Return a path as btrfs prints it, which is below the mount point."""
        return self._top + path.decode("latin-1")

    def _answer(self, *words: str) -> list[str]:
        """Return the lines that a tool prints, sorted; none where it finds nothing."""
        try:
            text = _COULD_NOT.sub(NOT_MOUNTED, self._inspect(*words)).removesuffix("\n")
            return sorted(text.split("\n")) if text else []
        except ToolError as error:
            if _NO_ENTRY in str(error):
                return []
            raise

    def inodes(self, subjects: Iterable[Subject], whole: int | None) -> None:
        """Compare the paths of inodes."""
        tally = self._open("inode-resolve", whole)
        tops = {each.id: self._subvolume_top(each.id) for each in self._setting.image.subvolumes()}
        with judging(tally):
            for subject in subjects:
                if subject.ino == self._setting.image.subvolume(subject.subvolume).root.root_dirid:
                    tally.skip("top directories of subvolumes have no name of their own")
                    continue
                ours = _lines(map(self._top_name, self._paths(subject.subvolume, subject.ino)))
                theirs = self._answer("inode-resolve", str(subject.ino), tops[subject.subvolume])
                self._same(tally, f"inode {subject.ino} of subvolume {subject.subvolume}", ours, theirs)
                tally.done()

    def _subvolume_top(self, number: int) -> str:
        path = self._setting.image.path_of_subvolume(number) or b""
        return self._top + path.decode("utf-8", "surrogateescape")

    def subvolumes(self, numbers: Sequence[int]) -> None:
        """Compare the paths of subvolumes."""
        tally = self._open("subvolid-resolve", len(numbers))
        with judging(tally):
            for number in some_of(numbers, self._setting.most):
                path = self._setting.image.path_of_subvolume(number)
                ours = None if path is None else path.removeprefix(b"/").decode("latin-1")
                theirs = self._inspect("subvolid-resolve", str(number), self._top).removesuffix("\n")
                tally.same(f"subvolume {number}", ours, theirs)
                tally.done()

    def roots(self, subjects: Iterable[Subject], whole: int | None) -> None:
        """Compare the subvolumes that directories are in; files btrfs opens for writing, which is denied here."""
        tally = self._open("rootid", whole)
        with judging(tally):
            for subject in subjects:
                inode = self._setting.image.open(subject.path, follow=False)
                if not inode.is_directory:
                    continue
                host = self._top + subject.path.decode("utf-8", "surrogateescape")
                theirs = self._inspect("rootid", host).strip()
                tally.same(subject.path.decode("utf-8", "surrogateescape"), str(inode.subvolume.id), theirs)
                tally.done()

    def devices(self) -> None:
        """Compare how small each device could be made."""
        image = self._setting.image
        devids = sorted(image.volume.devices)
        tally = self._open("min-dev-size", len(devids))
        with judging(tally):
            for devid in devids:
                theirs = re.match(r"(\d+) bytes", self._inspect("min-dev-size", "--id", str(devid), self._top))
                tally.same(f"device {devid}", min_device_size(image, devid), int(theirs[1]) if theirs else None)
                tally.done()

    def chunks(self) -> None:
        """Compare the table of chunks, value by value."""
        tally = self._open("list-chunks", 1)
        image = self._setting.image
        own_tree = image.superblock.compat_ro_flags & CompatRo.BLOCK_GROUP_TREE
        reading = Reading("list-chunks", self._version, *([USAGE_UNKNOWN] if own_tree else []))
        with judging(tally):
            words = ("list-chunks", "--raw")
            try:
                theirs = self._inspect(*words, self._top).removesuffix("\n").split("\n")
            except ToolError as error:
                reason = f"{tally.judge} has no list-chunks" if "unknown token" in str(error) else str(error)
                tally.skip(reason, 0)
                return
            ours = self._setting.btrimg(*words, self._setting.devices[0], *self._setting.further())
            same_lines(tally, reading, "", ours[2:], theirs[2:], lambda _field: True)
            tally.done()
        tally.allow(reading.allowed)

    def swapfiles(self, subjects: Iterable[Subject], whole: int | None) -> None:
        """Compare where files start as swap space, and which cannot be that; how it is put is not compared."""
        tally = self._open("map-swapfile", whole)
        with judging(tally):
            for subject in subjects:
                inode = self._setting.image.open(subject.path, follow=False)
                if not stat.S_ISREG(inode.item.mode):
                    continue
                ours, theirs = _our_start(inode), self._their_start(subject)
                where = subject.path.decode("utf-8", "surrogateescape")
                if ours.physical is None and theirs.physical is None:
                    tally.values += 1
                elif ours.physical != theirs.physical:
                    self._same(tally, where, ours, theirs)
                else:
                    tally.same(where, ours.physical, theirs.physical)
                tally.done()

    def _their_start(self, subject: Subject) -> Start:
        try:
            text = self._inspect("map-swapfile", self._top + subject.path.decode("utf-8", "surrogateescape"))
        except ToolError as error:
            return Start(None, str(error))
        found = re.search(r"Physical start: +(\d+)", text)
        return Start(int(found[1]) if found else None)


def _our_start(inode: Inode) -> Start:
    found = map_swapfile(inode)
    if found.physical is None:
        return Start(None, found.refusal)
    first: FileExtentRow = next(iter(inode.extents()))
    skipped = first.extent.offset if first.extent else 0
    return Start(found.physical, None, found.physical - skipped)


def _lines(names: Iterable[str]) -> list[str]:
    """Return names as lines, sorted: a name may hold a line break."""
    return sorted("\n".join(names).split("\n")) if (names := list(names)) else []

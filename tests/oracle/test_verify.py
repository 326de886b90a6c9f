"""``btrimg verify``: clean where all is right, and not where a tool, the kernel or btrimg says something else."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from random import Random
from threading import Timer
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import kernel as writing
from support import odd
from support.dump_text import installed
from support.images import copy_sparse
from support.matrix import name_of, options_of, variants

from btrimg.cli.verify import printed
from btrimg.filesystem.image import open_image
from btrimg.filesystem.inode import Inode
from btrimg.oracle import files, kernel, mapping, offline, resolving
from btrimg.oracle.files import FileComparison
from btrimg.oracle.progs import Progs, find_progs, run_tool
from btrimg.oracle.setting import Setting
from btrimg.oracle.survey import Survey, subject_of
from btrimg.oracle.tally import Difference, Ledger, Tally
from btrimg.oracle.verify import Mounting, verify

from .fakes import LIES, write_progs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from support.images import KernelImage
    from support.powerloss import CutImage

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

EVERY = {
    *("dump-super", "dump-tree --backups", "dump-tree", "tree-stats", "map-logical", "logical-resolve"),
    *("logical-resolve (paths)", "inode-resolve", "subvolid-resolve", "rootid", "min-dev-size", "list-chunks"),
    *("map-swapfile", "inodes", "directories", "FIEMAP", "contents", "device bytes"),
}
RAID10: dict[str, Any] = {"profile": "raid10", "nodesize": 4096}


class Verified(NamedTuple):
    """What came of a run."""

    tallies: dict[str, Tally]
    differences: list[Difference]

    def not_made(self) -> dict[str, list[str]]:
        """Return the reasons why comparisons were not made."""
        return {name: list(tally.skipped) for name, tally in self.tallies.items() if not tally.compared}


def verified(
    devices: Sequence[str],
    path: bytes | None = None,
    *,
    most: int | None = 6,
    progs: Progs | None = None,
    no_mount: str | None = None,
    unclean: str | None = None,
    btrimg: Callable[..., list[str]] = printed,
) -> Verified:
    differences: list[Difference] = []
    ledger = Ledger(differences.append, lambda _units, _size: None)
    with open_image(list(devices), replay_log=None, warn=lambda _message: None) as image:
        paths = tuple(device.path for device in image.volume.devices.values())
        setting = Setting(image, paths, progs or installed(), btrimg, ledger, most)
        verify(setting, image.open(path) if path else None, Mounting(no_mount, lambda: unclean))
    assert ledger.differences == len(differences)
    return Verified({tally.name: tally for tally in ledger.tallies}, differences)


def assert_nothing_left(devices: Sequence[str]) -> None:
    assert not writing.still_attached(devices), "what is mounted stays attached, too"


@pytest.mark.parametrize("cell", variants(), ids=name_of)
def test_whatever_the_kernel_wrote_all_agree_on(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**options_of(cell))
    found = verified(written.devices)
    assert found.differences == []
    assert set(found.tallies) == EVERY
    assert found.not_made().keys() <= {"list-chunks", "map-logical"}, "tools that old or other packages lack"
    assert all(tally.whole is None or tally.compared <= tally.whole for tally in found.tallies.values())
    assert found.tallies["inodes"].compared >= 6
    assert found.tallies["inodes"].whole == len({(e.subvolume, e.stat.ino) for e in real(written)})
    assert_nothing_left(written.devices)


@pytest.mark.parametrize(
    "options",
    [
        {"mkfs_options": ("--mixed",), "nodesize": 4096, "profile": "dup"},
        {"features": ("^no-holes",)},
        {"features": ("^skinny-metadata",)},
        {"mkfs_options": ("--runtime-features", "quota")},
        {"profile": "raid0", "metadata_profile": "raid1", "devices": 5},
    ],
    ids=["mixed", "holes", "old metadata", "quota", "raid0+raid1"],
)
def test_all_agree_on_every_feature(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    found = verified(kernel_image(**options).devices)
    assert found.differences == []
    assert found.not_made().keys() <= {"list-chunks", "map-logical"}


@pytest.mark.parametrize("make", [odd.quotas, odd.paused], ids=["quota groups", "paused balance"])
def test_all_agree_on_what_is_under_way(make: Callable[[str], Sequence[str]], tmp_path: Path) -> None:
    found = verified(make(str(tmp_path)))
    assert found.differences == []
    assert found.tallies["contents"].compared > 2


def real(written: KernelImage) -> list[Any]:
    return [entry for entry in written.truth.entries.values() if not entry.is_placeholder]


def test_a_terabyte_of_hole_takes_no_time(kernel_image: Callable[..., KernelImage]) -> None:
    found = verified(kernel_image().devices, b"/holes", most=None)
    assert found.differences == []
    assert found.tallies["contents"].compared == found.tallies["contents"].whole
    assert found.tallies["contents"].values > 1 << 40
    assert not found.tallies["contents"].skipped


@pytest.mark.parametrize("path", [b"/reflinks", b"/sub", b"/compressed"])
def test_of_a_path_only_what_is_below_it_is_compared(path: bytes, kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**RAID10)
    found = verified(written.devices, path, most=None)
    assert found.differences == []
    below = {(e.subvolume, e.stat.ino) for e in real(written) if e.path == path or e.path.startswith(path + b"/")}
    assert found.tallies["inodes"].compared >= len(below)
    assert found.tallies["dump-tree"].compared > 1
    assert {"dump-super", "tree-stats", "min-dev-size", "subvolid-resolve", "list-chunks"}.isdisjoint(found.tallies)
    file = next(e.path for e in real(written) if e.path.startswith(path + b"/") and e.content)
    one = verified(written.devices, file, most=None)
    assert one.differences == []
    assert (one.tallies["inodes"].compared, one.tallies["contents"].whole) == (1, 1)


def test_a_log_is_not_replayed(cut_image: Callable[..., CutImage]) -> None:
    """Compare all there is: every unit is compared or skipped for a reason."""
    found = verified(cut_image().devices, most=None)
    assert found.differences == []
    assert found.tallies["inodes"].skipped == {"inodes that hang nowhere": 1}
    for name, tally in found.tallies.items():
        if name not in found.not_made():
            unnamed = 1 if tally.unit in ("regular files", "inodes") and name != "inodes" else 0
            assert tally.compared + tally.skipped.total() + unnamed == tally.whole, name


def test_a_filesystem_without_one_device_is_mounted_degraded(kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(profile="raid1")
    found = verified(written.devices[:-1], most=20)
    assert found.differences == []
    assert found.tallies["contents"].compared > 10
    assert "bytes of copies on missing devices" in found.tallies["device bytes"].skipped


@pytest.mark.parametrize("seed", range(6))
def test_damage_ends_in_differences_or_reasons(seed: int, demo_image: str, tmp_path: Path) -> None:
    """Overwrite bytes of tree blocks, both copies alike; such an image is never mounted."""
    image = copy_sparse([demo_image], str(tmp_path))
    random = Random(seed)
    with open_image(demo_image) as sound:
        blocks = Survey(sound).blocks().tolist()
        damaged = [(block, random.randrange(200, 16000)) for block in random.sample(blocks, seed + 1)]
        places = [place for block, at in damaged for place in sound.volume.chunk_map.locate(block + at).copies]
    with open(image[0], "r+b") as file:
        for place in places:
            file.seek(place.physical)
            file.write(bytes([seed + 1]) * 8)
    found = verified(image, no_mount="it is damaged", most=None)
    assert {"dump-super", "dump-tree --backups", "contents"} <= found.tallies.keys()
    assert found.tallies["contents"].compared == 0


@pytest.fixture
def lying(tmp_path: Path, kernel_image: Callable[..., KernelImage]) -> Progs:
    directory = write_progs(str(tmp_path / "lying"), LIES, image=kernel_image(**RAID10).devices)
    progs = find_progs(directory)
    assert progs
    return progs


def test_each_tool_that_says_something_else_is_heard(lying: Progs, kernel_image: Callable[..., KernelImage]) -> None:
    found = verified(kernel_image(**RAID10).devices, progs=lying)
    told = {name for name, tally in found.tallies.items() if tally.differences}
    tools = {tally.name for tally in found.tallies.values() if tally.judge.startswith("btrfs-progs")}
    assert told == tools - ({"map-logical"} if lying.map_logical is None else set())
    assert len(tools) == 13
    item = next(each for each in found.differences if each.comparison == "dump-tree")
    assert ", item " in item.where, "the key of the item is named"
    assert " key (" in item.where
    assert item.theirs.split(" itemoff ")[1] == "1" + item.ours.split(" itemoff ")[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dump-super", "dump-super -f"),
        ("dump-tree --backups", "dump-tree --backups"),
        ("dump-tree", "dump-tree --csum-headers"),
        ("tree-stats", "tree-stats -b"),
    ],
)
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_what_btrimg_gets_wrong_is_told(
    name: str, words: str, how: str, kernel_image: Callable[..., KernelImage]
) -> None:
    def wrong(*asked: str) -> list[str]:
        lines = printed(*asked)
        if " ".join(asked).startswith(words):
            number = next(at for at, line in enumerate(lines) if line.strip() and line[-1].isdigit() and at > 3)
            lines[number : number + 1] = [lines[number] + "1"] if how == "changed" else []
        return lines

    found = verified(kernel_image().devices, btrimg=wrong, no_mount="not asked for", most=3)
    assert {each.comparison for each in found.differences} == {name}
    first = found.differences[0]
    assert first.ours == (first.theirs + "1" if how == "changed" else "nothing")


def test_the_kernel_is_heard(kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch) -> None:
    """Change one answer of btrimg after the other: each is told by the comparison that is about it, and by no other."""
    written = kernel_image()
    with open_image(written.devices) as image, kernel.attached(written.devices) as loops:
        survey = Survey(image)
        picked = (subject_of(image, *each) for each in survey.pick(60))
        subjects = [subject for subject in picked if subject]

        def heard() -> set[str]:
            differences: list[Difference] = []
            ledger = Ledger(differences.append, lambda _units, _size: None)
            shown = FileComparison(Setting(image, written.devices, installed(), printed, ledger, 60), top, "kernel")
            for subject in subjects:
                shown.compare(subject)
            return {difference.comparison for difference in differences}

        with kernel.mounted(loops) as top:
            assert heard() == set()
            for what, change, expected in _changes():
                with monkeypatch.context() as patch:
                    patch.setattr(Inode, what, change(getattr(Inode, what)))
                    assert heard() == expected, what


def _changes() -> Iterator[tuple[str, Callable[[Any], Any], set[str]]]:
    def xattrs(real: Any) -> Any:
        return lambda inode: {**real(inode), b"user.more": b""}

    def item(real: Any) -> Any:
        return property(lambda inode: real.fget(inode).replace(mtime=real.fget(inode).atime, nlink=77))

    def entries(real: Any) -> Any:
        return lambda inode: list(real(inode))[:-1]

    def extents(real: Any) -> Any:
        return lambda inode: [row._replace(length=row.length + 4096) for row in real(inode)]

    def read(real: Any) -> Any:
        return lambda inode, offset, length: real(inode, offset, length)[:-1] + b"?"

    def resolve(real: Any) -> Any:
        def elsewhere(inode: Any, offset: int) -> Any:
            answer = real(inode, offset)
            moved = tuple(copy._replace(physical=copy.physical + 4096) for copy in answer.copies)
            return answer._replace(copies=moved)

        return elsewhere

    yield "xattrs", xattrs, {"inodes"}
    yield "item", item, {"inodes"}
    yield "entries", entries, {"directories"}
    yield "extents", extents, {"FIEMAP"}
    yield "read", read, {"contents"}
    yield "resolve", resolve, {"device bytes"}


@contextmanager
def no_mounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_arguments: object, **_options: object) -> Any:
        raise AssertionError("it would be mounted")

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "mounted", refuse)
        yield


def test_what_is_not_clean_is_not_mounted(
    kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = kernel_image()
    complaining = find_progs(write_progs(str(tmp_path), {}, check="echo '[1/7] x'; echo 'it is broken' >&2; exit 1"))
    with no_mounts(monkeypatch):
        for found in (
            verified(written.devices, unclean="it is broken", most=1),
            verified(written.devices, progs=complaining, most=1),
        ):
            assert found.differences == []
            reason = "not mounted, since its check is not clean: it is broken"
            assert found.not_made() == {name: [reason] for name in (*files.UNITS, *resolving.UNITS)}


def test_devices_are_recognised_by_any_name(
    kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """btrfs-progs look at all block devices, and of those that show one file name which they like."""
    written = kernel_image(**RAID10)
    with kernel.attached(written.devices) as others:
        other = dict(zip(written.devices, others, strict=True))

        def by_other_names(tool: str, *words: str, any_exit: bool = False) -> str:
            text = run_tool(tool, *words, any_exit=any_exit)
            return re.sub(r"/dev/(loop\d+)", lambda name: other[writing.backing_file(name[1])], text)

        monkeypatch.setattr(mapping, "run_tool", by_other_names)
        found = verified(written.devices, b"/reflinks", most=None)
    assert found.differences == []
    assert found.tallies["map-logical"].compared > 10


def test_what_is_left_is_gone_even_if_somebody_else_looked_at_it(kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**RAID10)
    with kernel.attached(written.devices) as loops:
        closer = Timer(0.3, os.close, [os.open(loops[0], os.O_RDONLY)])  # as btrfs-progs of another process do
        closer.start()
    left = writing.attached_now() & set(written.devices)
    closer.join()
    assert left == set()


def test_a_copy_of_what_is_mounted_is_not_mounted(
    kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = kernel_image()
    with written.mount(), no_mounts(monkeypatch):
        found = verified(written.devices, most=1)
    assert "is mounted" in found.not_made()["contents"][0]


@pytest.mark.parametrize(
    ("where", "what"),
    [(offline, "dump_blocks"), (mapping, "map_logical"), (FileComparison, "compare")],
    ids=["read", "attached", "mounted"],
)
def test_nothing_stays_attached_after_an_interruption(
    where: Any, what: str, kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    written = kernel_image(**RAID10)
    monkeypatch.setattr(where, what, interrupt)
    with pytest.raises(KeyboardInterrupt):
        verified(written.devices, most=2)
    assert_nothing_left(written.devices)
    with written.mount() as top:
        assert writing.subvolume_id(top) == 5

"""Everything that the kernel wrote, read back: all profiles, node sizes, checksums, compressions and features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.compare import compare
from support.images import make_image, mkfs, new_devices
from support.matrix import name_of, options_of, variants
from support.populate import populate
from support.truth import record

from btrimg.filesystem.image import open_image
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from support.images import KernelImage

pytestmark = [pytest.mark.kernel, pytest.mark.progs]


def _fail(message: str) -> None:
    raise AssertionError(message)


@pytest.mark.parametrize("cell", variants(), ids=name_of)
def test_everything_the_kernel_shows_is_read_back(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**options_of(cell))
    with open_image(written.devices, warn=_fail) as image:
        assert len(written.truth.entries) > 1400
        compare(image, written.truth)


@pytest.mark.parametrize(
    "options",
    [
        {"mkfs_options": ("--mixed",), "nodesize": 4096, "profile": "dup"},
        {"features": ("^no-holes",)},
        {"features": ("^skinny-metadata",)},
        {"mkfs_options": ("--runtime-features", "^free-space-tree")},
        {"mkfs_options": ("--runtime-features", "quota")},
        {"profile": "raid0", "metadata_profile": "raid1", "devices": 5},
        {"profile": "dup", "metadata_profile": "raid1", "devices": 3},
    ],
    ids=["mixed", "holes", "old metadata", "space cache", "quota", "raid0+raid1", "dup+raid1"],
)
def test_every_feature_is_read_back(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**options)
    with open_image(written.devices, warn=_fail) as image:
        compare(image, written.truth)


def test_a_default_subvolume_is_found(kernel_image: Callable[..., KernelImage]) -> None:
    name = next(s.path for s in kernel_image().truth.subvolumes.values() if s.path.count(b"/") == 1 and s.path != b"/")
    written = kernel_image(default_subvolume=name[1:].decode())
    with open_image(written.devices, warn=_fail) as image:
        assert image.default_subvolume() == written.default_subvolume != kernel.TOP_LEVEL
        compare(image, written.truth)
    with open_image(kernel_image().devices, warn=_fail) as image:
        assert image.default_subvolume() == kernel.TOP_LEVEL


def test_subvolumes_have_the_kernels_ids_parents_uuids_times_and_flags(
    kernel_image: Callable[..., KernelImage],
) -> None:
    written = kernel_image()
    with open_image(written.devices, warn=_fail) as image:
        found = {subvolume.id: subvolume for subvolume in image.subvolumes() if subvolume.root.refs}
        assert set(found) == set(written.truth.subvolumes)
        for number, (path, info) in written.truth.subvolumes.items():
            root = found[number].root
            parent = image.parent_of(number)
            assert (image.path_of_subvolume(number) or b"/") == path
            assert (parent.subvolume, parent.name) == (info.parent, info.name) if parent else info.parent == 0
            assert (root.uuid, root.parent_uuid, root.received_uuid) == (
                info.uuid,
                info.parent_uuid,
                info.received_uuid,
            )
            assert (root.generation, root.flags & 1, found[number].read_only) == (
                info.generation,
                info.flags & 1,
                bool(info.flags & 1),
            )
            assert (root.ctransid, root.otransid, root.stransid, root.rtransid) == info[9:13]
            assert tuple(t.sec * 10**9 + t.nsec for t in (root.ctime, root.otime, root.stime, root.rtime)) == info[13:]


def test_a_new_metadata_uuid_and_profiles_converted_halfway_are_read_back(tmp_path: Path) -> None:
    """``btrfstune -m`` sets METADATA_UUID; a balance that stops halfway leaves several profiles in one filesystem."""
    images = new_devices(str(tmp_path), 4, 256 * MIB)
    mkfs(images, "raid0", "raid1")
    with kernel.mount(images) as top:
        populate(top)
        kernel.run("btrfs", "balance", "start", "-dconvert=raid10,limit=1", "-mconvert=raid1c3", "--force", top)
    with kernel.loop_devices(images) as devices:
        kernel.run("btrfstune", "-m", devices[0])
    with kernel.mount(images, read_only=True) as top:
        truth = record(top)
    with open_image(images[::-1], warn=_fail) as image:
        assert image.superblock.metadata_uuid != image.superblock.fsid
        assert len({chunk.profile.name for chunk in image.volume.chunk_map}) >= 3
        compare(image, truth)


def test_devices_that_grew_are_read_in_any_order(tmp_path: Path) -> None:
    written = make_image(str(tmp_path / "image"), profile="raid1c3")
    for device in written.devices:
        with open(device, "ab") as file:
            file.truncate(file.tell() + 64 * MIB)
    with open_image(
        [written.devices[2], written.devices[0], written.devices[3], written.devices[1]], warn=_fail
    ) as image:
        compare(image, written.truth)

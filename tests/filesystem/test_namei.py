"""Lookup of paths: symlinks, parents, and subvolumes that are where their ROOT_REF says."""

from __future__ import annotations

import pytest
from support.demo import DEEP, FILES, INLINE, TOP, VM, VM_MONDAY, add_name, retarget
from support.forge import edit_leaf

from btrimg.errors import NotFoundError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import DiskKey
from btrimg.ondisk.constants import U64_MAX, FileType, ItemType, TreeId

LINK = b"/files/deep/er/symlink"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (b"/files/inline.txt", b"/files/inline.txt"),
        (b"/../files/./deep//hardlink.txt", b"/files/deep/hardlink.txt"),
        (b"../../inline.txt", b"/files/inline.txt"),
        (b"../er/../hardlink.txt", b"/files/deep/hardlink.txt"),
    ],
)
def test_an_absolute_symlink_starts_at_the_top_and_another_beside_it(target: bytes, found: bytes, forged: str) -> None:
    retarget(forged, target)
    with open_image(forged) as image:
        assert image.open(LINK).path == found
        assert image.open(LINK).ino == INLINE
        assert image.open(LINK, follow=False).target() == target


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/files/deep/../inline.txt", b"/files/inline.txt"),
        (b"/files/deep/er/../../inline.txt", b"/files/inline.txt"),
        (b"/../../files/./deep/..", b"/files"),
        (b"/vm/../files/inline.txt", b"/files/inline.txt"),
        (b"/vm/..", b""),
        (b"//files//deep/", b"/files/deep"),
    ],
)
def test_two_dots_lead_up_as_far_as_the_top(path: bytes, found: bytes, demo_image: str) -> None:
    with open_image(demo_image) as image:
        assert image.open(path).path == found


def test_forty_symlinks_are_followed_and_no_more(forged: str) -> None:
    retarget(forged, b".")
    with open_image(forged) as image:
        assert image.open(b"/files/deep/er" + b"/symlink" * 40).path == b"/files/deep/er"
        with pytest.raises(NotFoundError, match="too many symbolic links"):
            image.open(b"/files/deep/er" + b"/symlink" * 41)


@pytest.mark.parametrize(
    ("seen_from", "directory", "name"),
    [
        (TreeId.FS_TREE, FILES, b"vm"),
        (TreeId.FS_TREE, DEEP, b"vm"),
        (TreeId.FS_TREE, TOP, b"other"),
        (VM_MONDAY, TOP, b"vm"),
    ],
    ids=["directory", "deeper-directory", "name", "subvolume"],
)
def test_a_subvolume_hangs_where_its_reference_says_and_elsewhere_is_empty(
    seen_from: int, directory: int, name: bytes, forged: str
) -> None:
    location = DiskKey(VM, ItemType.ROOT_ITEM, U64_MAX)
    edit_leaf(
        forged,
        seen_from,
        lambda items: add_name(items, directory, 99, VM, name, FileType.DIR, location=location),
    )
    where = {FILES: b"/files/", DEEP: b"/files/deep/", TOP: b"/"}[directory]
    with open_image(forged) as image:
        found = image.open(where + name, subvolume=seen_from)
        assert found.is_placeholder
        assert list(found.entries()) == []
        with pytest.raises(NotFoundError, match=r"there is no '.*/disk\.raw'"):
            image.open(where + name + b"/disk.raw", subvolume=seen_from)
        assert image.open(b"/vm/disk.raw").subvolume.id == VM
        assert not image.open(b"/vm").is_placeholder

"""Access control lists by the rules of the kernel, which judges them in tests/edit/test_as_kernel.py."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from btrimg.build import acls
from btrimg.errors import RefusedError

perms = some.integers(0, 7)
ids = some.integers(0, (1 << 32) - 2)
modes = some.integers(0, 0o7777)


def packed(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@some.composite
def lists(draw: some.DrawFn) -> bytes:
    """Return a list that the kernel takes."""
    nobody = 0xFFFF_FFFF
    users = draw(some.lists(some.tuples(some.just(2), perms, ids), max_size=2))
    groups = draw(some.lists(some.tuples(some.just(8), perms, ids), max_size=2))
    has_mask = draw(some.booleans()) or bool(users or groups)
    mask = [(16, draw(perms), nobody)] if has_mask else []
    own, group, other = ((tag, draw(perms), nobody) for tag in (1, 4, 32))
    return packed(own, *users, group, *groups, *mask, other)


@given(lists(), modes, modes)
def test_lists_and_permissions_go_together(payload: bytes, asked: int, said: int) -> None:
    mode, access = acls.inherited(payload, asked)
    assert mode & ~asked == 0, "nobody may more than was asked for"
    assert mode & 0o7000 == asked & 0o7000
    if access is not None:
        assert acls.mode_of(access, asked) == (mode, True)
        changed = acls.with_mode(access, said)
        assert acls.mode_of(changed, 0)[0] == said & 0o777
        assert acls.with_mode(changed, said) == changed
    assert (access is None) == (len(acls.parse(payload)) == 3)


@pytest.mark.parametrize(
    "payload",
    [
        b"\2\0",
        struct.pack("<I", 3),
        packed((1, 7, 0)) + b"\0",
        packed((1, 7, 0), (4, 7, 0)),
        packed((4, 7, 0), (1, 7, 0), (32, 7, 0)),
        packed((1, 7, 0), (2, 7, 5), (4, 7, 0), (32, 7, 0)),
        packed((1, 8, 0), (4, 7, 0), (32, 7, 0)),
        packed((1, 7, 0), (2, 7, 0xFFFF_FFFF), (4, 7, 0), (16, 7, 0), (32, 7, 0)),
        packed((1, 7, 0), (1, 7, 0), (4, 7, 0), (32, 7, 0)),
    ],
)
def test_what_is_no_list_is_refused(payload: bytes) -> None:
    with pytest.raises(RefusedError, match="is no access control list"):
        acls.parse(payload)

"""The table of profiles and its formula."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import CorruptError
from btrimg.ondisk.constants import STRIPE_LEN, BlockGroup
from btrimg.volume.profiles import (
    PROFILES,
    Profile,
    data_columns,
    profile_of,
    stripe_index,
    stripe_index_and_offset,
)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[Profile, int]:
    profile = draw(st.sampled_from(list(PROFILES.values())))
    most = min(profile.max_stripes, 13)
    columns = st.integers(
        (profile.min_stripes - profile.parity) // profile.copies, (most - profile.parity) // profile.copies
    )
    return profile, draw(columns) * profile.copies + profile.parity


@given(shapes(), st.integers(1, 40))
def test_data_and_parity_fill_every_element_of_every_stripe_once(shape: tuple[Profile, int], rows: int) -> None:
    profile, width = shape
    columns = data_columns(width, profile)
    used = Counter(
        stripe_index_and_offset(element * STRIPE_LEN, width, profile, copy)
        for element in range(rows * columns)
        for copy in range(profile.copies)
    )
    used.update(
        (stripe_index(row, columns + i, width, profile), row * STRIPE_LEN)
        for row in range(rows)
        for i in range(profile.parity)
    )
    assert used == Counter((stripe, row * STRIPE_LEN) for stripe in range(width) for row in range(rows))


@given(shapes(), st.lists(st.integers(0, 1 << 50), min_size=1))
def test_an_array_of_offsets_is_mapped_as_each_of_them(shape: tuple[Profile, int], offsets: list[int]) -> None:
    profile, width = shape
    for copy in range(profile.copies):
        index, within = stripe_index_and_offset(np.array(offsets, np.int64), width, profile, copy)
        each = [stripe_index_and_offset(offset, width, profile, copy) for offset in offsets]
        assert list(zip(index.tolist(), within.tolist(), strict=True)) == each


@pytest.mark.parametrize("bit", [BlockGroup.RAID5, BlockGroup.RAID6])
def test_parity_moves_one_stripe_to_the_right_each_row_and_comes_round(bit: BlockGroup) -> None:
    profile = PROFILES[bit]
    at = [[stripe_index(row, 5 - profile.parity + i, 5, profile) for i in range(profile.parity)] for row in range(6)]
    assert at == (
        [[4], [0], [1], [2], [3], [4]] if profile.parity == 1 else [[3, 4], [4, 0], [0, 1], [1, 2], [2, 3], [3, 4]]
    )


def test_the_copies_of_a_raid10_column_are_neighbours() -> None:
    profile = PROFILES[BlockGroup.RAID10]
    places = [[stripe_index_and_offset(n * STRIPE_LEN + 7, 6, profile, copy) for copy in (0, 1)] for n in range(4)]
    assert places == [
        [(0, 7), (1, 7)],
        [(2, 7), (3, 7)],
        [(4, 7), (5, 7)],
        [(0, STRIPE_LEN + 7), (1, STRIPE_LEN + 7)],
    ]


@pytest.mark.parametrize(("bit", "profile"), PROFILES.items(), ids=lambda each: getattr(each, "name", str(each)))
def test_flags_name_their_profile_whatever_the_block_group_holds(bit: int, profile: Profile) -> None:
    assert profile_of(bit | BlockGroup.DATA | BlockGroup.METADATA) is profile
    assert profile.min_stripes - profile.parity >= profile.copies


@pytest.mark.parametrize("flags", [BlockGroup.RAID0 | BlockGroup.DUP, 0x7F8, 1 << 13 | BlockGroup.RAID1, 1 << 63])
def test_two_profiles_and_unknown_bits_are_refused(flags: int) -> None:
    with pytest.raises(CorruptError, match=f"{flags:#x}"):
        profile_of(flags)

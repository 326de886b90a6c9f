"""Quota groups are counted as the kernel counts them, and as their definition says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import odd

from btrimg.check.quotas import Charges, Quotas, count_groups
from btrimg.check.rule import rule
from btrimg.check.run import check
from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from pathlib import Path

EVERY_COUNT = rule("qgroup-count")._replace(
    query="select id, qgroups.rfer, qgroups.excl, qgroup_counts.rfer as counted_rfer,"
    " qgroup_counts.excl as counted_excl from qgroups left join qgroup_counts using (id) order by id"
)
SUBVOLUMES = (5, 256, 257, 300)
GROUPS = (1 << 48 | 100, 1 << 48 | 101, 2 << 48 | 7)


@pytest.mark.kernel
def test_counts_are_those_of_the_kernel(tmp_path: Path) -> None:
    with open_image(odd.quotas(str(tmp_path))) as image:
        rows = [finding.row for finding in check(image, [EVERY_COUNT])]
    assert [row["id"] for row in rows] == [5, 256, 257, 258, 1 << 48 | 100, 2 << 48 | 7]
    for row in rows:
        assert row["rfer"] >= row["excl"] > 0
        assert (row["counted_rfer"], row["counted_excl"]) == (row["rfer"], row["excl"])


extents = st.lists(st.tuples(st.integers(1, 1 << 40), st.sets(st.sampled_from(SUBVOLUMES))), max_size=20)
pairs = st.sets(
    st.tuples(st.sampled_from(SUBVOLUMES + GROUPS), st.sampled_from(GROUPS)).filter(lambda p: p[0] >> 48 < p[1] >> 48)
)


@given(extents, pairs)
def test_counts_are_those_of_the_definition(extents: list[tuple[int, set[int]]], pairs: set[tuple[int, int]]) -> None:
    users = {
        subvolume: np.array([number for number, (_, whose) in enumerate(extents) if subvolume in whose], np.int64)
        for subvolume in SUBVOLUMES
    }
    told = Quotas(None, [*SUBVOLUMES, *GROUPS], [*pairs, *((group, member) for member, group in pairs)])
    counted = count_groups(told, Charges(np.array([length for length, _ in extents], np.int64), users))

    def members(group: int) -> set[int]:
        below = {member for member, above in pairs if above == group}
        return ({group} & set(SUBVOLUMES)).union(*map(members, below))

    for group, rfer, excl in counted:
        inside = members(group)
        assert rfer == sum(length for length, whose in extents if whose & inside)
        assert excl == sum(length for length, whose in extents if whose & inside and whose <= inside)

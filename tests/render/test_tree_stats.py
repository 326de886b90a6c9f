"""Statistics of trees as text: the histogram, whose lines leave no seek out."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from btrimg.render.tree_stats import lines, stats_object
from btrimg.trees.stats import TreeStats

STATS = TreeStats(4096, (9, 2, 1), 100, ((4096, 3), (8192, 1)), 3, ((8192, 2), (16384, 1)), 1 << 20, 9 << 20)


def histogram(stats: TreeStats) -> list[tuple[int, int, int, str]]:
    found = (re.fullmatch(r"\t\t *(\d+) - *(\d+): *(\d+) ([#|]+)", line) for line in lines(stats, str, 0))
    return [(int(each[1]), int(each[2]), int(each[3]), each[4]) for each in found if each]


def test_sums_and_means() -> None:
    values = stats_object(STATS)
    assert values["size"] == 12 * 4096
    assert (values["total_seeks"], values["forward_seeks"], values["backward_seeks"]) == (4, 3, 1)
    assert values["average_seek"] == (3 * 4096 + 8192) // 4
    assert (values["clusters"], values["average_cluster"]) == (3, (2 * 8192 + 16384) // 3)
    assert (values["smallest_cluster"], values["largest_cluster"], values["spread"]) == (8192, 16384, 8 << 20)
    assert list(lines(STATS, str, 61.25))[-6:] == [
        "\tTotal read time: 61 s 250000 us",
        "\tLevels: 3",
        "\tTotal nodes: 12",
        "\t\tOn level 0:        9",
        "\t\tOn level 1:        2  (avg fanout 4)",
        "\t\tOn level 2:        1  (avg fanout 2)",
    ]


def test_few_seeks_make_no_histogram() -> None:
    assert histogram(STATS._replace(seeks=((4096, 19),))) == []
    assert histogram(STATS._replace(seeks=((4096, 20),))) == [(4096, 4096, 20, "#" * 20)]


def test_rare_distances_are_put_together() -> None:
    seeks = ((1, 1), (2, 1), (3, 2), (4, 10), (5, 3), (6, 1), (7, 2), (8, 1))
    assert histogram(STATS._replace(seeks=seeks)) == [
        (1, 3, 4, "####"),
        (4, 4, 10, "#" * 10),
        (5, 5, 3, "###"),
        (6, 7, 3, "###"),
        (8, 8, 1, "#"),
    ]


@given(st.dictionaries(st.integers(1, 1 << 40), st.integers(1, 60), min_size=20, max_size=80))
def test_every_seek_is_in_one_line(seeks: dict[int, int]) -> None:
    pairs = tuple(sorted(seeks.items()))
    drawn = histogram(STATS._replace(seeks=pairs))
    assert [sum(count for at, count in pairs if first <= at <= last) for first, last, *_ in drawn] == [
        count for _, _, count, _ in drawn
    ]
    assert sum(count for _, _, count, _ in drawn) == sum(seeks.values())

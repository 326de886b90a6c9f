"""Paths of many inodes, from names that need not make a tree."""

from __future__ import annotations

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.leafrows import Names
from btrimg.filesystem.treepaths import every_path_of, paths_of

TOP = 256


def paths(links: list[tuple[int, int, bytes]], wanted: list[int], prefix: bytes = b"/sv") -> list[bytes | None]:
    """Return the path of every inode *wanted*, from (inode, parent, name) in key order behind that of the top."""
    rows = [(TOP, TOP, b".."), *links]
    inode, parent, name = zip(*rows, strict=True)
    # The rows of another subvolume stand between: the ones that count are given by number.
    names = Names(
        np.repeat(np.array(inode, np.uint64), 2),
        np.repeat(np.array(parent, np.uint64), 2),
        strings.of_list([value for pair in zip(name, [b"other"] * len(name), strict=True) for value in pair]),
    )
    number, found = paths_of(np.array(wanted, np.uint64), names, np.arange(0, 2 * len(rows), 2), TOP, prefix)
    return [found.decode(n) if n >= 0 else None for n in number.tolist()]


def test_paths_go_down_from_the_top() -> None:
    links = [(257, TOP, b"a"), (258, 257, b"b"), (259, 258, b"c\xff\n"), (260, TOP, b"d")]
    assert paths(links, [259, 257, 260]) == [b"/sv/a/b/c\xff\n", b"/sv/a", b"/sv/d"]
    assert paths(links, [258], prefix=b"") == [b"/a/b"]


def test_the_first_of_several_names_counts() -> None:
    assert paths([(257, TOP, b"a"), (258, 257, b"first"), (258, TOP, b"second")], [258]) == [b"/sv/a/first"]


def test_what_hangs_nowhere_has_no_path() -> None:
    links = [(257, TOP, b"a"), (258, 999, b"lost"), (259, 258, b"below"), (260, 257, b"found")]
    assert paths(links, [258, 259, 260, 261]) == [None, None, b"/sv/a/found", None]


def test_directories_in_a_ring_have_no_path_and_end() -> None:
    links = [(257, 259, b"a"), (258, 257, b"b"), (259, 258, b"c"), (260, 259, b"file"), (261, 261, b"self")]
    assert paths(links, [257, 260, 261]) == [None, None, None]


def test_paths_of_64_kib_are_left_out_and_the_rest_is_not() -> None:
    deep = [(257 + depth, TOP + depth, b"n" * 255) for depth in range(300)]
    found = paths(deep, [257 + depth for depth in range(300)], prefix=b"")
    assert [path is not None for path in found] == [256 * (depth + 1) <= 65535 for depth in range(300)]
    assert found[200] == (b"/" + b"n" * 255) * 201


def test_every_name_gives_a_path() -> None:
    """Also one in a directory where no first name stands, and none of what hangs nowhere."""
    links = [(257, TOP, b"a"), (258, TOP, b"only-links"), (259, 257, b"first"), (259, 258, b"second")]
    links += [(260, 999, b"lost"), (260, 258, b"found"), (261, 999, b"nowhere")]
    inode, parent, name = zip((TOP, TOP, b".."), *links, strict=True)
    names = Names(np.array(inode, np.uint64), np.array(parent, np.uint64), strings.of_list(name))
    wanted = np.array([258, 259, 260, 261, 262], np.uint64)
    count, found = every_path_of(wanted, names, np.arange(len(inode)), TOP, b"/sv")
    assert count.tolist() == [1, 2, 1, 0, 0]
    assert found.to_list() == [b"/sv/only-links", b"/sv/a/first", b"/sv/only-links/second", b"/sv/only-links/found"]


def test_without_names_there_are_no_paths() -> None:
    none = np.empty(0, np.uint64)
    number, found = paths_of(
        np.array([257], np.uint64), Names(none, none, strings.EMPTY), np.empty(0, np.int64), TOP, b""
    )
    assert (number.tolist(), found.rows) == ([-1], 0)

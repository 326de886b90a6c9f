"""What the files and directories below a path use, as ``btrfs filesystem du`` and compsize count it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btrimg.filesystem import namei, strings
from btrimg.filesystem.treepaths import find, paths_of
from btrimg.tables.usage import TYPES
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.inode import Inode
    from btrimg.filesystem.leafrows import Names
    from btrimg.filesystem.strings import Strings
    from btrimg.tables.usage import Usage

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Bools = NDArray[np.bool_]

_S_IFMT = 0o170000


class Tree(NamedTuple):
    """Regular files and directories below a path, each once, and what they use; row 0 is the path itself.

    A file with several names stands under the first that lies below the path, in key order.
    """

    paths: Strings  #: from the top-level subvolume
    subvolume: Ints  #: index into ``Usage.subvolumes``
    inode: Unsigned
    directory: Bools
    parent: Ints  #: row of the directory; -1 for row 0
    links: Ints  #: names below the path
    row_of_use: Ints  #: by row of ``Usage.uses``: the file's row here, -1 for a file elsewhere


class Compressed(NamedTuple):
    """What compsize says of one type of extents, in bytes."""

    disk: int
    uncompressed: int
    referenced: int


class Compression(NamedTuple):
    """What compsize says of files; a file with several names counts once for each, its extents once."""

    files: int
    extents: int
    references: int
    inline: int
    types: dict[str, Compressed]  #: by name in TYPES, those that occur

    @property
    def total(self) -> Compressed:
        """Return the sums over all types."""
        return Compressed(*map(sum, zip((0, 0, 0), *self.types.values(), strict=True)))


class _Place(NamedTuple):
    """A directory of a subvolume, below which all inodes of the same subvolume are looked for."""

    subvolume: int
    top: int
    path: bytes


def tree_below(usage: Usage, top: Inode) -> Tree:
    """Return the tree below the directory *top*, across subvolumes, or the regular file *top* itself."""
    number = usage.subvolumes.index(top.subvolume.id)
    path = usage.census.path_of(number) or b""
    path += namei.path_in_subvolume(top.image, top.subvolume, top.ino) or b""
    first = _Place(number, top.ino, path)
    if not top.is_directory:
        return _with_uses(usage, _top_row(first, directory=False))
    tree = _part(usage, first)
    for place in _places_below(usage, first):
        tree = _hang(tree, _part(usage, place), _entry_of(usage, top, place))
    return _with_uses(usage, tree)


def _places_below(usage: Usage, first: _Place) -> Iterator[_Place]:
    """Yield the top directories of the subvolumes below *first*, those that hold others before these."""
    found = []
    for number, subvolume in enumerate(usage.census.subvolumes):
        path = usage.census.path_of(number)
        if number != first.subvolume and path is not None and path.startswith(first.path + b"/"):
            found.append(_Place(number, subvolume.root.root_dirid, path))
    yield from sorted(found, key=lambda place: place.path)


def _part(usage: Usage, place: _Place) -> Tree:
    """Return the tree of one subvolume below *place*."""
    number, top, path = place
    inodes = usage.census.inodes_of(number)
    names, rows = usage.census.names_of(number)
    kind = inodes.mode & _S_IFMT
    if top != usage.census.subvolumes[number].root.root_dirid:
        rows = _names_below(names, rows, inodes.inode[kind == stat.S_IFDIR], top)
    wanted = ((kind == stat.S_IFDIR) | (kind == stat.S_IFREG)) & (inodes.inode != top)
    inode, directory = inodes.inode[wanted], (kind == stat.S_IFDIR)[wanted]
    path_number, paths = paths_of(inode, names, rows, top, path)
    named = path_number >= 0
    inode, directory = inode[named], directory[named]
    parent = names.parent[rows[np.searchsorted(names.inode[rows], inode)]]
    head = _top_row(place, directory=True)
    links = usage.links_of(number)
    below = (links.parent == top) | (find(inode[directory], links.parent) >= 0)
    linked = find(inode, links.inode[below])
    return Tree(
        paths=strings.concatenate([head.paths, paths]),
        subvolume=np.full(1 + len(inode), number, np.int64),
        inode=np.append(head.inode, inode),
        directory=np.append(head.directory, directory),
        parent=np.append(head.parent, 1 + find(inode, parent)),  # 0, the top, where it is none of them
        links=np.append(head.links, np.bincount(linked[linked >= 0], minlength=len(inode))),
        row_of_use=head.row_of_use,
    )


def _names_below(names: Names, rows: Ints, directories: Unsigned, top: int) -> Ints:
    """Return those of *rows* whose directory is *top* or one of *directories* below it."""
    found = paths_of(directories, names, rows, top, b"")[0] >= 0
    parent = names.parent[rows]
    kept: Ints = rows[(parent == top) | (find(directories[found], parent) >= 0)]
    return kept


def _top_row(place: _Place, *, directory: bool) -> Tree:
    return Tree(
        paths=strings.of_list([place.path or b"/"]),
        subvolume=np.array([place.subvolume]),
        inode=np.array([place.top], np.uint64),
        directory=np.array([directory]),
        parent=np.array([-1]),
        links=np.array([1]),
        row_of_use=np.empty(0, np.int64),
    )


def _entry_of(usage: Usage, top: Inode, place: _Place) -> tuple[int, int]:
    """Return subvolume, an index, and ino of the directory that holds a subvolume."""
    entry = top.image.parent_of(usage.subvolumes[place.subvolume])
    return (usage.subvolumes.index(entry.subvolume), entry.dirid) if entry else (-1, 0)


def _hang(tree: Tree, part: Tree, entry: tuple[int, int]) -> Tree:
    """Return *tree* with *part* in its directory *entry*."""
    rows = len(tree.inode)
    above = np.flatnonzero((tree.subvolume == entry[0]) & (tree.inode == np.uint64(entry[1])))
    parent = np.append(above[:1] if len(above) else [-1], part.parent[1:] + rows)
    joined = [np.concatenate(pair) for pair in zip(tree[1:], part._replace(parent=parent)[1:], strict=True)]
    return Tree(strings.concatenate([tree.paths, part.paths]), *joined)


def _with_uses(usage: Usage, tree: Tree) -> Tree:
    """Fill in whose the uses are."""
    whose = np.full(len(usage.uses.inode), -1, np.int64)
    files = np.flatnonzero(~tree.directory)
    for number in np.unique(tree.subvolume).tolist():
        first, end = np.searchsorted(usage.uses.subvolume, (number, number + 1)).tolist()
        rows = files[tree.subvolume[files] == number]
        found = find(tree.inode[rows], usage.uses.inode[first:end])
        whose[first:end] = np.where(found >= 0, np.append(rows, -1)[found], -1)
    return tree._replace(row_of_use=whose)


def totals(usage: Usage, tree: Tree) -> tuple[Ints, Ints]:
    """Return total and exclusive bytes of every row, those of a directory with all that is below it."""
    chosen = tree.row_of_use >= 0
    rows, length = tree.row_of_use[chosen], usage.uses.length[chosen]
    total, exclusive = np.zeros((2, len(tree.inode)), np.int64)
    np.add.at(total, rows, length)
    np.add.at(exclusive, rows, np.where(usage.uses.shared[chosen], 0, length))
    depth = _depths(tree)
    for level in range(int(depth.max()), 0, -1):
        here = np.flatnonzero(depth == level)
        for column in (total, exclusive):
            np.add.at(column, tree.parent[here], column[here])
    return total, exclusive


def _depths(tree: Tree) -> Ints:
    """Return how many directories lie above every row."""
    depth = np.zeros(len(tree.inode), np.int64)
    level = np.flatnonzero(tree.parent < 0)
    by_parent = np.argsort(tree.parent, kind="stable")
    ordered = tree.parent[by_parent]
    while len(level):
        start, end = np.searchsorted(ordered, level, "left"), np.searchsorted(ordered, level, "right")
        below = by_parent[ranges(start, end - start)]
        depth[below] = depth[level[0]] + 1
        level = below
    return depth


def compression_of(usage: Usage, tree: Tree) -> Compression:
    """Return what compsize says of the files of *tree*: an extent counts as what its first use is."""
    chosen = np.flatnonzero(tree.row_of_use >= 0)
    uses, weight = usage.uses, tree.links[tree.row_of_use[chosen]]
    extent, first = np.unique(uses.extent[chosen], return_index=True)
    kind, head_kind = uses.type[chosen], uses.type[chosen][first]
    sums = np.zeros((3, len(TYPES)), np.int64)  # disk, uncompressed, referenced
    np.add.at(sums[0], head_kind, usage.extents.length[extent])
    np.add.at(sums[1], head_kind, usage.extents.ram_bytes[extent])
    np.add.at(sums[2], kind, uses.length[chosen] * weight)
    inline = 0
    files = np.flatnonzero(~tree.directory)
    for number in np.unique(tree.subvolume).tolist():
        rows = files[tree.subvolume[files] == number]
        table = usage.inlines_of(number)
        found = find(tree.inode[rows], table.inode)
        table = type(table)._make(column[found >= 0] for column in table)
        links = tree.links[rows[found[found >= 0]]]
        inline += int(links.sum())
        for row, size in zip(sums, (table.stored, table.ram_bytes, table.ram_bytes), strict=True):
            np.add.at(row, table.type, size * links)
    types = {name: Compressed(*column) for name, column in zip(TYPES, sums.T.tolist(), strict=True) if any(column)}
    return Compression(int(tree.links[files].sum()), len(extent), int(weight.sum()), inline, types)

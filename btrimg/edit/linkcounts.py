"""The check of what inodes count as their links, after a commit that changed the counts or the names."""

from __future__ import annotations

from btrimg.errors import NotFoundError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, ItemType
from btrimg.ondisk.inodes import InodeExtref, InodeItem, InodeRef
from btrimg.trees.block import is_subvolume
from btrimg.trees.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from btrimg.edit.changed import Changes, ItemChange
    from btrimg.filesystem.image import Image

_INODE_ITEM = int(ItemType.INODE_ITEM)  # a number: many keys have it
_NLINK = InodeItem.places()["nlink"].start
_HEADS = {int(ItemType.INODE_REF): InodeRef.SIZE, int(ItemType.INODE_EXTREF): InodeExtref.SIZE}  # before each name


def wrong_links(changes: Changes, items: Mapping[int, Sequence[ItemChange]]) -> Iterator[str]:
    """Yield a sentence for each inode that counts more or fewer links than it has names, and did not so before.

    *items* are what changed, by type. Raises BlockError when a tree cannot be read.
    """
    odd: dict[tuple[int, int], int] = {}  # links that came, less the names that did, by tree and inode
    for tree, key, before, after in items.get(_INODE_ITEM, ()):
        odd[tree, key[0]] = _links_in(after) - _links_in(before)
    for key_type, head in _HEADS.items():
        for tree, key, before, after in items.get(key_type, ()):
            inode = tree, key[0]
            odd[inode] = odd.get(inode, 0) - _names_in(after, head) + _names_in(before, head)
    for (tree_id, ino), difference in odd.items():
        if difference and is_subvolume(tree_id):
            # Not wrong yet: it may be put right by that, or have its names in a leaf that a snapshot shares.
            links, names = _counts(Tree(changes.blocks, changes.roots[tree_id]), ino)
            if links != names and not any(_differ(tree, ino) for tree in _before(changes.image, tree_id)):
                yield f"inode {ino} of subvolume {tree_id} has {links} links, but {names} names"


def _before(image: Image, tree_id: int) -> list[Tree]:
    """Return what a tree of files was made of: itself, or what a new snapshot may be one of."""
    try:
        return [image.tree(tree_id)]
    except NotFoundError:
        return [subvolume.tree for subvolume in image.subvolumes()]


def _differ(tree: Tree, ino: int) -> bool:
    links, names = _counts(tree, ino)
    return links != names


def _counts(tree: Tree, ino: int) -> tuple[int, int]:
    """Return how many links an inode counts, none where it is not there, and how many names it has."""
    links = names = 0
    for key, payload in tree.items(Key(ino, _INODE_ITEM, 0), Key(ino, ItemType.INODE_EXTREF, U64_MAX)):
        if key[1] == _INODE_ITEM:
            links = _links_in(payload)
        elif key[1] in _HEADS:
            names += _names_in(payload, _HEADS[key[1]])
    return links, names


def _links_in(inode: bytes | None) -> int:
    """Return what an inode item counts, 0 where there is none or it is too short to say."""
    if inode is None or len(inode) < InodeItem.SIZE:
        return 0
    links: int = InodeItem.STRUCT.unpack_from(inode)[_NLINK]
    return links


def _names_in(references: bytes | None, head: int) -> int:
    """Return how many names an INODE_REF or INODE_EXTREF has: each after a *head* that ends with its length."""
    at = count = 0
    while references and at + head <= len(references):
        at += head
        at += references[at - 2] | references[at - 1] << 8
        count += 1
    return count

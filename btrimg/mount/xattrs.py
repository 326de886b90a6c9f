"""Names that no file of the image has an extended attribute of: who asks for those can be told not to ask again.

``ls -l`` asks for two of each file, and the kernel keeps no answer for it. If it hears that a filesystem does not
support a name, instead of that this file has none of it, it asks no more, and so do other programs. So when names were
asked for in vain, all leaves are looked through, once, by one of the processes that read data.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from btrimg.errors import CorruptError
from btrimg.filesystem.forest import item_roots
from btrimg.mount.channel import RefusedRequest
from btrimg.mount.listing import names_in
from btrimg.mount.wire import GetxattrOut
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.scan import Forest

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.errors import BtrimgError
    from btrimg.filesystem.image import Image

NAMES_XATTR = b"btrimg.xattrs"  #: of the top of the hidden mount: all names there are, each with a NUL after it
_PATIENCE = 1.0  #: seconds that looking for them may take; nobody else is answered by that process meanwhile
_IN_VAIN = 32  #: questions, before it is worth it
_LABEL = b"security.selinux"
_ACLS = frozenset((b"system.posix_acl_access", b"system.posix_acl_default"))
_NAMESPACES = (b"security.", b"trusted.", b"user.", b"btrfs.")


def all_names(image: Image) -> bytes:
    """Return the names of all extended attributes, each with a NUL after it.

    Raises CorruptError when some cannot be read, and RefusedRequest when it takes too long.
    """
    end = time.monotonic() + _PATIENCE
    roots = [root.at for root in item_roots(image) if root.id >= TreeId.FIRST_FREE or root.id in _FILE_TREES]
    names: set[bytes] = set()
    for batch in Forest(image.blocks, roots, _refuse).leaves():
        found = batch.of_type(ItemType.XATTR_ITEM)
        for at, size in zip(found.position.tolist(), found.size.tolist(), strict=True):
            names.update(name for name, _, _, _ in names_in(batch.data[at : at + size].tobytes()))
        if time.monotonic() > end:
            raise RefusedRequest(errno.EFBIG)
    return b"".join(name + b"\0" for name in sorted(names))


_FILE_TREES = (TreeId.FS_TREE, TreeId.TREE_LOG)


def _refuse(error: BtrimgError) -> None:
    raise CorruptError(str(error))


class Absent:
    """Knows which names no file has, once they have been asked for in vain often, if *ask* is able to tell.

    *ask* returns what ``all_names`` does, and may raise OSError. Where the kernel obeys access control lists itself
    (*obeyed*), it must not hear that there are none.
    """

    def __init__(self, ask: Callable[[], bytes] | None, *, obeyed: bool) -> None:
        self._ask, self._in_vain = ask, 0
        self._names: frozenset[bytes] | None = None  # all that there are
        self._never = {_LABEL} if obeyed else {_LABEL, *_ACLS}

    def __contains__(self, name: bytes) -> bool:
        """Return whether it is known that no file has an extended attribute of that *name*."""
        return self._names is not None and name not in self._names

    def errno(self, name: bytes) -> int:
        """Return the error for a *name* that a file does not have, which may be no name that btrfs has a place for."""
        if name in _NAMESPACES:
            return errno.EINVAL
        if not name.startswith(_NAMESPACES) and name not in _ACLS:
            return errno.EOPNOTSUPP
        if name in self:
            return errno.EOPNOTSUPP if name in self._never else errno.ENODATA
        self._in_vain += 1
        if self._in_vain == _IN_VAIN and self._ask is not None:
            threading.Thread(target=self._learn, args=(self._ask,), daemon=True).start()
        return errno.ENODATA

    def _learn(self, ask: Callable[[], bytes]) -> None:
        with suppress(OSError):  # else it stays unknown
            self._names = frozenset(ask().split(b"\0"))


def ask_hidden(top: int) -> bytes:
    """Return what the hidden mount, of whose top *top* is a descriptor, says of all names; raises OSError."""
    return os.getxattr(f"/proc/self/fd/{top}", NAMES_XATTR)


def as_much(value: bytes, size: int) -> bytes:
    """Answer GETXATTR or LISTXATTR: *value*, or its length if *size* is 0.

    Raises RefusedRequest when it is longer than *size*.
    """
    if not size:
        return GetxattrOut(len(value), 0).pack()
    if len(value) > size:
        raise RefusedRequest(errno.ERANGE)
    return value

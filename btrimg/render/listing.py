"""Inodes as lines of ``ls`` and pages of ``stat``."""

from __future__ import annotations

import stat

from btrimg.ondisk.constants import InodeFlag
from btrimg.render import answers
from btrimg.render.names import flag_names, flags_text
from btrimg.render.text import printable, utc
from btrimg.volume.superblocks import uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.inodes import Timespec

    Paint = Callable[[str, Inode], str]  # colours a name by what it names

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def type_of(mode: int) -> str:
    """Return the kind of file that *mode* says."""
    return TYPES.get(stat.S_IFMT(mode), "unknown")


def device_number(rdev: int) -> tuple[int, int]:
    """Return (major, minor) of a special file; the disk holds the kernel's own dev_t (include/linux/kdev_t.h)."""
    return rdev >> 20, rdev & 0xFFFFF


def plain(text: str, _inode: Inode) -> str:
    """Return *text* as it is: the painter where no colours are shown."""
    return text


def _shown(name: bytes, inode: Inode, paint: Paint = plain) -> str:
    text = paint(printable(name), inode)
    return f"{text} -> {printable(inode.target())}" if stat.S_ISLNK(inode.item.mode) else text


def short_line(name: bytes, inode: Inode, paint: Paint = plain) -> str:
    """Return one line of ``ls``."""
    return paint(printable(name), inode)


def long_line(name: bytes, inode: Inode, paint: Paint = plain) -> str:
    """Return one line of ``ls -l``: mode, links, uid, gid, size or device, mtime, subvolume, inode, name."""
    item = inode.item
    special = stat.S_ISCHR(item.mode) or stat.S_ISBLK(item.mode)
    size = "{}, {}".format(*device_number(item.rdev)) if special else str(item.size)
    return (
        f"{stat.filemode(item.mode)} {item.nlink:>4} {item.uid:>5} {item.gid:>5} {size:>12} {utc(item.mtime)[:19]} "
        f"{inode.subvolume.id:>5} {inode.ino:>7} {_shown(name, inode, paint)}"
    )


def _identity(inode: Inode) -> dict[str, Any]:
    item = inode.item
    return {
        "path": answers.name(inode.path or b"/"),
        "subvolume": inode.subvolume.id,
        "inode": inode.ino,
        "type": type_of(item.mode),
        "mode": item.mode,
        "nlink": item.nlink,
        "uid": item.uid,
        "gid": item.gid,
        "size": item.size,
    }


def _target(inode: Inode) -> str | None:
    return answers.name(inode.target()) if stat.S_ISLNK(inode.item.mode) else None


def json_line(name: bytes, inode: Inode, _paint: Paint = plain) -> str:
    """Return one line of ``ls --json``."""
    fields = {"name": answers.name(name)} | _identity(inode)
    return answers.json_line(fields | {"mtime": _time(inode.item.mtime), "target": _target(inode)})


def _time(time: Timespec) -> dict[str, int]:
    return {"sec": time.sec, "nsec": time.nsec}


def stat_dict(inode: Inode) -> dict[str, Any]:
    """Return all that an inode says, for JSON; xattr values as hex."""
    item = inode.item
    return _identity(inode) | {
        "nbytes": item.nbytes,
        "rdev": list(device_number(item.rdev)),
        "generation": item.generation,
        "transid": item.transid,
        "sequence": item.sequence,
        "flags": item.flags,
        "flag_names": flag_names(item.flags, InodeFlag),
        "atime": _time(item.atime),
        "mtime": _time(item.mtime),
        "ctime": _time(item.ctime),
        "otime": _time(item.otime),
        "target": _target(inode),
        "links": [{"parent": link.parent, "name": answers.name(link.name)} for link in inode.links()],
        "xattrs": {answers.name(key): value.hex() for key, value in inode.xattrs().items()},
        "root": _root(inode) if inode.is_subvolume else None,
    }


def _root(inode: Inode) -> dict[str, Any]:
    """Return what the root item says of the subvolume whose top directory *inode* is."""
    image, subvolume = inode.image, inode.subvolume
    root, parent = subvolume.root, image.parent_of(subvolume.id)
    uuids = (root.uuid, root.parent_uuid, root.received_uuid) if subvolume.has_tail else (bytes(16),) * 3
    names = ("uuid", "parent_uuid", "received_uuid")
    return {
        "parent": parent.subvolume if parent else None,
        "generation": root.generation,
        "flags": root.flags,
        "read_only": subvolume.read_only,
        "default": image.default_subvolume() == subvolume.id,
        **{name: uuid_text(uuid) if any(uuid) else None for name, uuid in zip(names, uuids, strict=True)},
    }


def stat_text(inode: Inode) -> str:
    """Return all that an inode says, for a person."""
    item = inode.item
    facts: list[tuple[str, object]] = [
        ("path", _shown(inode.path or b"/", inode)),
        ("inode", f"{inode.ino} of subvolume {inode.subvolume.id}"),
        ("type", type_of(item.mode)),
        ("mode", f"{stat.filemode(item.mode)} ({stat.S_IMODE(item.mode):04o})"),
        ("links", item.nlink),
        ("owner", f"{item.uid}:{item.gid}"),
        ("size", f"{item.size} ({item.nbytes} in extents)"),
    ]
    if stat.S_ISCHR(item.mode) or stat.S_ISBLK(item.mode):
        facts.append(("device", "{}, {}".format(*device_number(item.rdev))))
    facts += [
        ("accessed", utc(item.atime)),
        ("modified", utc(item.mtime)),
        ("changed", utc(item.ctime)),
        ("created", utc(item.otime)),
        ("generation", f"{item.generation}, changed in {item.transid}"),
        ("flags", flags_text(item.flags, InodeFlag)),
    ]
    if inode.is_subvolume:
        facts += [
            (label.replace("_", " "), "none" if value is None else value) for label, value in _root(inode).items()
        ]
    facts += [("name", f"{printable(link.name)} in inode {link.parent}") for link in inode.links()]
    facts += [("xattr", f"{printable(key)} = {printable(value[:64])}") for key, value in inode.xattrs().items()]
    return "\n".join(f"{label + ':':<14} {value}" for label, value in facts)

"""A directory of btrfs-progs that lie: each tool is the real one, with something done to what it prints."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys

from support.dump_text import installed

#: For sed, by subcommand: one value of each answer is changed.
LIES = {
    "dump-super": r"s/^nodesize\t*/&9/",
    "dump-tree --backups": r"s/^\(uuid tree key .* level \)0/\17/",
    "dump-tree --csum": r"s/ itemoff \([0-9]*\) itemsize/ itemoff 1\1 itemsize/",
    "tree-stats": r"s/Total size: /&9/",
    "map-logical": r"s/ physical / physical 1/",
    "logical-resolve -P": r"s/ offset / offset 1/",
    "logical-resolve -s": r"s/$/x/",
    "inode-resolve": r"s/$/x/",
    "subvolid-resolve": r"s/^/x/",
    "rootid": r"s/^/9/",
    "min-dev-size": r"s/^/9/",
    "list-chunks": r"3s/ [0-9.]*$/ 99.99/",
    "map-swapfile": "",
}

_BTRFS = """#!/bin/bash
ask() {{ {btrfs} "$@"; }}
case "$*" in
{cases}
esac
exec {btrfs} "$@"
"""
_LIE = """*"inspect-internal {words}"*) ask "$@" | sed -e {lie}; exit ${{PIPESTATUS[0]}};;"""
_MAP = """#!/bin/bash
{map_logical} "$@" | sed -e {lie}; exit ${{PIPESTATUS[0]}}
"""


def write_progs(directory: str, lies: dict[str, str], *, image: tuple[str, ...] = (), check: str = "") -> str:
    """Write the tools into *directory*, return it; *check* is what ``btrfs check`` does, if not what it should.

    Where btrfs cannot list chunks, ours does it for the devices *image*.
    """
    os.makedirs(directory, exist_ok=True)
    cases = [_LIE.format(words=words, lie=shlex.quote(lie)) for words, lie in lies.items() if words not in _APART]
    if "list-chunks" in lies:
        command = [sys.executable, "-m", "btrimg", "inspect", "list-chunks", "--raw", image[0]]
        command += [word for device in image[1:] for word in ("-d", device)]
        cases.append(f'*"list-chunks"*) {shlex.join(command)} | sed -e {shlex.quote(lies["list-chunks"])}; exit;;')
    if "map-swapfile" in lies:
        cases.append('*"map-swapfile"*) echo "Physical start:     12345"; exit;;')
    if check:
        cases.append(f"check*) {check};;")
    progs = installed()
    _write(directory, "btrfs", _BTRFS.format(btrfs=shlex.quote(progs.btrfs), cases="\n".join(cases)))
    if progs.map_logical:
        lie = shlex.quote(lies.get("map-logical", ""))
        _write(directory, "btrfs-map-logical", _MAP.format(map_logical=shlex.quote(progs.map_logical), lie=lie))
    return directory


_APART = ("map-logical", "list-chunks", "map-swapfile")


def _write(directory: str, name: str, text: str) -> None:
    path = os.path.join(directory, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, stat.S_IRWXU)
    assert shutil.which(name, path=directory)

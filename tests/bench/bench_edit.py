"""Race edits against the kernel: ``PYTHONPATH=tests python -m bench.bench_edit IMAGE [DIRECTORY]``, as root.

Goals: `edit put` of a file of 1 MiB takes at most 1.5 times what the kernel takes to attach, mount, copy, unmount and
detach; a script of 10,000 small puts no longer than `cp -r` with a sync, on a filesystem that is mounted already. IMAGE
is copied into DIRECTORY, by default where large temporary files go: all is written to the copy.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile

from . import peers

FILES, MOST = 10_000, 8192  # so many, of up to so many bytes
ROUNDS = 5
_BY_MOUNT = """
device=$(losetup --find --show "$1") && mount -o noatime "$device" "$2" && {}
umount "$2"; losetup --detach "$device"
"""
_TIMED = """{
start=$(date +%s%N) && cp -r "$3" "$2/$4" && sync -f "$2" && end=$(date +%s%N) && echo "$(((end - start) / 1000))e-6"
}"""
_PROGRAM = [peers.PROGRAM, "edit"]


def main(corpus: str, directory: str | None = None) -> None:
    """Print ratios."""
    with tempfile.TemporaryDirectory(dir=directory or "/var/tmp") as top:
        image, mega, mount = (os.path.join(top, name) for name in ("image", "mega", "mount"))
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", corpus, image], check=True)
        os.mkdir(mount)
        noise = random.Random("btrimg edit")
        with open(mega, "wb") as file:
            file.write(noise.randbytes(1 << 20))
        many = _many(top, noise)
        subprocess.run(["sync", "-f", top], check=True)  # or the first syncs of either side write all that
        one = _kernel(image, mount, 'cp "$3" "$2"', mega)
        peers.compare("edit put, 1 MiB", _edit(top, image, "put", mega, "/"), "attach, mount, cp, umount, detach", one)
        pairs = []
        for number in range(ROUNDS):
            edit = _edit(top, image, "--script", _script(top, f"ours-{number}"))
            kernel = _kernel(image, mount, _TIMED, many, f"theirs-{number}")
            pairs.append((peers.seconds(edit), float(subprocess.check_output(kernel))))
        peers.report("edit --script, 10,000 puts", "cp -r and sync, on a mount that is there", pairs)


def _many(top: str, noise: random.Random) -> str:
    """Write many small files into a directory; return its path."""
    many = os.path.join(top, "many")
    os.mkdir(many)
    for number in range(FILES):
        with open(os.path.join(many, f"{number:05}"), "wb") as file:
            file.write(noise.randbytes(noise.randrange(MOST)))
    return many


def _script(top: str, name: str) -> str:
    """Write a script that puts them one by one into a new directory of the image; return its path."""
    path = os.path.join(top, f"{name}.toml")
    puts = [f'    {{put = "/{name}/{number:05}", from = "many/{number:05}"}},\n' for number in range(FILES)]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(["do = [\n", f'    {{mkdir = "/{name}"}},\n', *puts, "]\n"])
    return path


def _edit(top: str, image: str, *words: str) -> list[str]:
    """Return an edit, and the removal of its undo file, as one command."""
    undo = os.path.join(top, "undo")
    return ["sh", "-c", 'undo=$1; shift; "$@" && rm "$undo"', "sh", undo, *_PROGRAM, image, "--undo", undo, *words]


def _kernel(image: str, mount: str, command: str, *words: str) -> list[str]:
    return ["sh", "-c", _BY_MOUNT.format(command), "sh", image, mount, *words]


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Race the image builder: ``PYTHONPATH=tests python -m bench.bench_build [DIRECTORY]``.

Goals: a directory of 50,000 files and 1 GiB, cached, takes at most half of the time of ``mkfs.btrfs --rootdir``, with
zstd at most 1/1.2; no more than 200 MB of memory. BTRIMG_PROGS names a directory with another btrfs-progs than the one
on the PATH. All goes below DIRECTORY, by default where temporary files go: one in memory leaves the disk out of it.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile

from . import peers

FILES, SIZE = 50_000, 1 << 30
_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def make_source(top: str, *, files: int = FILES, size: int = SIZE) -> None:
    """Fill a directory with *files* files of *size* bytes together: most are small; a third is noise, the rest text."""
    rng = random.Random("btrimg bench")
    words = b"extent page cache shared inode tree leaf key chunk stripe device offset snapshot the of and\n".split(b" ")
    pools = (rng.randbytes(4 << 20), b" ".join(rng.choices(words, k=1 << 19)))
    shares = [rng.lognormvariate(8.2, 1.9) for _ in range(files)]
    scale, directories = size / sum(shares), [top]
    os.makedirs(top)
    for number, share in enumerate(shares):
        if number % 20 == 0:
            parent = rng.choice(directories[-400:])
            depth = parent.count("/") - top.count("/")
            directories.append(os.path.join(parent if depth < 7 else top, f"dir{number // 20:04}"))
            os.mkdir(directories[-1])
        pool = pools[number % 3 > 0]
        content = b"%08d\n" % number
        start, left = rng.randrange(len(pool) // 2), int(share * scale) - len(content)
        with open(os.path.join(directories[-1], f"file-{number:05}"), "wb") as file:
            file.write(content)
            while left > 0:
                left -= file.write(pool[start : start + left])
                start = 0


def main(directory: str | None = None) -> None:
    """Print ratios."""
    with tempfile.TemporaryDirectory(dir=directory) as top:
        source, image = os.path.join(top, "source"), os.path.join(top, "image")
        make_source(source)
        _race(source, image)


def _race(source: str, image: str) -> None:
    ours = [peers.PROGRAM, "build", "--from-dir", source, "-o", image, "--force"]
    mkfs = os.path.join(os.environ.get("BTRIMG_PROGS", ""), "mkfs.btrfs")
    theirs = _shell(image, f'truncate -s {4 * SIZE} "$2" && {mkfs} -q --rootdir "$1" "$2" 2>&1', source)
    peers.compare("build", ours, "mkfs.btrfs --rootdir", theirs, rounds=3)
    compressed = [*ours, "--compress", "zstd:3"]
    help_of_mkfs = subprocess.run([mkfs, "--help"], capture_output=True, text=True, check=False)
    if "--compress" in help_of_mkfs.stdout + help_of_mkfs.stderr:
        with_zstd = _shell(
            image, f'truncate -s {4 * SIZE} "$2" && {mkfs} -q --compress zstd:3 --rootdir "$1" "$2"', source
        )
        peers.compare("build --compress zstd:3", compressed, "mkfs.btrfs --compress zstd:3", with_zstd, rounds=3)
    if shutil.which("mkfs.erofs"):
        peers.compare("build", ours, "mkfs.erofs", _shell(image, 'mkfs.erofs --quiet "$2" "$1"', source), rounds=3)
    peaks = [
        int(subprocess.run([sys.executable, "-c", _PEAK, *command], check=True, capture_output=True, text=True).stdout)
        for command in (ours, compressed, theirs)
    ]
    print("build: RSS {} MiB at most, with zstd {} MiB; mkfs.btrfs: {} MiB".format(*(peak >> 10 for peak in peaks)))


def _shell(image: str, script: str, source: str) -> list[str]:
    """Return the command that makes *image* of $1, *source*, by a script that calls it $2."""
    return ["sh", "-c", f'rm -f "$2" && {script}', "sh", source, image]


if __name__ == "__main__":
    main(*sys.argv[1:])

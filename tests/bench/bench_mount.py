"""Hold ``btrimg mount`` against the kernel's mount of the same image: ``make bench-mount``, as root.

The image has a system tree of this host, so that programs run in it, and snapshots of it, as containers have. Memory
is what the page cache grows by, without what the kernel's loop device keeps of the image itself. That is also what the
kernel's mount reads from when it reads a reflink; so reading files is measured a second time with a loop device that
keeps nothing (direct I/O), as a disk does.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from support import images, kernel
from support.mounted import mounted, servers

from btrimg.mount.system import top_mount
from btrimg.volume.cachestat import cached_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Runs = dict[str, tuple[bool, Callable[[str], float]]]  # by name: whether cold, and what is timed

MIB = 1 << 20
CONTAINERS = 8
SYSTEM = ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/python3", "/usr/lib/python3.11", "/etc/ld.so.cache")
#: What a container runs: an interpreter with libraries, that waits.
PROGRAM = ("/usr/bin/python3", "-c", "import ssl, sqlite3, json, asyncio, decimal; print(1, flush=True); input()")
LARGE, SMALL, DIRECTORIES, FILES = 512 * MIB, 4000, 1000, 99


class Side(NamedTuple):
    """One of the two mounts."""

    name: str
    top: str


def main() -> None:
    """Make the image, mount it twice, and print what each measurement came to, on both sides."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        devices = images.new_devices(directory, 1, 6 << 30)
        images.mkfs(devices, "single", "dup")
        with kernel.mount(devices) as top:
            fill(top)
        with (
            mounted(devices, "--allow-other", "--share", "passthrough") as ours,
            kernel.mount(devices, read_only=True) as theirs,
        ):
            sides = Side("btrimg", ours), Side("kernel", theirs)
            memory_of_containers(devices[0], sides)
            speeds(sides)


def fill(top: str) -> None:
    """Write a system tree, a large file, many small ones, a reflink, and snapshots; and 100,000 names."""
    base = f"{top}/base"
    kernel.create_subvolume(os.fsencode(base))
    for path in filter(os.path.exists, SYSTEM):
        os.makedirs(os.path.dirname(base + path), exist_ok=True)
        kernel.run("cp", "-a", path, base + path)
    for name, target in (("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib/x86_64-linux-gnu")):
        os.symlink(target, f"{base}/{name}")
    noise = random.Random(1)
    with open(f"{base}/large", "wb") as file:
        for _ in range(LARGE // MIB):
            file.write(noise.randbytes(MIB))
    kernel.clone(f"{base}/large", f"{base}/reflink")
    os.mkdir(f"{base}/small")
    for number in range(SMALL):
        with open(f"{base}/small/{number}", "wb") as file:
            file.write(noise.randbytes(noise.randrange(1, 9000)))
    for number in range(DIRECTORIES):
        os.makedirs(f"{top}/tree/{number % 10}/{number}")
        for file_number in range(FILES):
            os.mknod(f"{top}/tree/{number % 10}/{number}/file-{file_number}")
    for number in range(CONTAINERS):
        kernel.create_snapshot(os.fsencode(base), b"%s/c%d" % (os.fsencode(top), number), read_only=True)


def drop_caches() -> None:
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def page_cache() -> int:
    """Return the bytes in the page cache."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Cached:"))


@contextmanager
def containers(side: Side, count: int) -> Iterator[None]:
    """Have the program run in so many snapshots, each in a root of its own, at the same time."""
    running = []
    try:
        for number in range(count):
            command = ["chroot", f"{side.top}/c{number}", *PROGRAM]
            running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != b"1\n":
                sys.exit("a program does not run in the image: is this Debian with python3?")
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()


def memory_of_containers(image: str, sides: tuple[Side, ...]) -> None:
    """Print what the page cache grows by, with one container and with all of them."""
    print(f"page cache for {CONTAINERS} containers, each with its own snapshot, running Python with some libraries:")
    for side in sides:
        one, all_of_them = (min(growth(image, side, count) for _ in range(3)) / MIB for count in (1, CONTAINERS))
        print(f"  {side.name:7} one {one:6.1f} MiB, {CONTAINERS} of them {all_of_them:6.1f} MiB", flush=True)


def growth(image: str, side: Side, count: int) -> int:
    """Return what the page cache grows by, cold; others on the machine may add to it."""
    drop_caches()
    before = page_cache() - cached(image)
    with containers(side, count):
        return page_cache() - cached(image) - before


def cached(image: str) -> int:
    """Return what the loop device has left of the image in the page cache."""
    with open(image, "rb") as file:
        return cached_bytes(file.fileno())


def speeds(sides: tuple[Side, ...]) -> None:
    """Print times of both sides, and the processor time of ours."""
    large: Runs = {
        "512 MiB cold": (True, lambda top: read(f"{top}/base/large")),
        "the same, warm": (False, lambda top: read(f"{top}/base/large")),
        "its first reflink, read after it": (False, lambda top: read(f"{top}/base/reflink")),
    }
    others: Runs = {
        f"{SMALL} small files cold": (True, lambda top: small(f"{top}/base/small")),
        f"{SMALL} small files warm": (False, lambda top: small(f"{top}/base/small")),
        f"{SMALL} small files of a snapshot": (False, lambda top: small(f"{top}/c0/small")),
        "find over 100,000 names cold": (True, lambda top: find(f"{top}/tree")),
        "the same, warm": (False, lambda top: find(f"{top}/tree")),
        "find over a system cold": (True, lambda top: find(f"{top}/base")),
        "ls -lR of it cold": (True, lambda top: list_long(f"{top}/base")),
    }
    server = in_turns(sides, large)["512 MiB cold"]
    in_turns(sides, others)
    print(f"server's processor time for 1 GiB cold: {server * (1 << 30) / LARGE:.2f} s")
    print("where the kernel's loop device keeps nothing of the image:")
    read_directly(sides[1].top)
    in_turns(sides, large)


def in_turns(sides: tuple[Side, ...], runs: Runs) -> dict[str, float]:
    """Print medians of rounds in turns, and how the first side compares; return its servers' mean processor times."""
    ours, rounds = sides[0].top, 3
    found: dict[tuple[str, str], list[float]] = {}
    server = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for side in sides:
            for name, (cold, run) in runs.items():
                if cold:
                    drop_caches()
                before = processor_time(ours)
                found.setdefault((name, side.name), []).append(run(side.top))
                if side.top == ours:
                    server[name] += (processor_time(ours) - before) / rounds
    for name in runs:
        mine, theirs = (median(found[name, side.name]) for side in sides)
        print(f"  {name}: {mine * 1000:.1f} ms, kernel {theirs * 1000:.1f} ms, {mine / theirs:.2f}x", flush=True)
    return server


def read_directly(top: str) -> None:
    """Have the loop device below a mount read its image around the page cache."""
    mount = top_mount(top)
    assert mount is not None
    kernel.run("losetup", "--direct-io=on", mount.source)


def processor_time(top: str) -> float:
    """Return the processor time of all who serve a mount, in seconds."""
    total = 0
    for process in servers(top):
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def read(path: str) -> float:
    start = time.perf_counter()
    room = bytearray(MIB)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(room):
            pass
    return time.perf_counter() - start


def small(directory: str) -> float:
    start = time.perf_counter()
    for number in range(SMALL):
        descriptor = os.open(f"{directory}/{number}", os.O_RDONLY)
        os.read(descriptor, 16384)
        os.close(descriptor)
    return time.perf_counter() - start


def find(directory: str) -> float:
    start = time.perf_counter()
    subprocess.run(["find", directory], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def list_long(directory: str) -> float:
    start = time.perf_counter()
    subprocess.run(["ls", "-lR", directory], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""The ``btrimg`` program: a table of commands, each imported when it is asked for."""

from __future__ import annotations

import gc
import os
import sys
from io import RawIOBase

from btrimg.cli.command import load_from
from btrimg.cli.terminal import say, sentence
from btrimg.errors import BtrimgError, CorruptError, NotFoundError, WorseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import NoReturn

    from btrimg.cli.command import Command
else:
    import _signal as signal  # what the module signal hands on, after it has made enumerations of it for 4 ms

COMMANDS = {  # words: (module and attribute, one line of help)
    ("resolve",): ("resolve:resolve", "Show where a byte of a file lies on every device."),
    ("extents",): ("extents:extents", "List file extents: of a file, a directory or the whole image."),
    ("du",): ("du:du", "Show what files use alone and share, by path, compression or subvolume."),
    ("ls",): ("ls:ls", "List a directory."),
    ("stat",): ("stat:stat", "Show all that an inode says."),
    ("cat",): ("cat:cat", "Write a file's bytes, verified, to standard output."),
    ("export",): ("export:export", "Copy files out of an image, to a directory or a tar archive."),
    ("check",): ("check:check", "Judge the whole image, as btrfs check does."),
    ("verify",): ("verify:verify", "Compare with btrfs-progs and the kernel."),
    ("sql",): ("sql:sql", "Query the whole image as tables."),
    ("export-tables",): ("sql:export_tables", "Write the tables to Parquet files."),
    ("build",): ("build:build", "Make an image, of a recipe, a directory or tar archives."),
    ("mount",): ("mount:mount", "Mount an image, files of equal extents sharing memory."),
    ("umount",): ("mount:umount", "Unmount what mount has mounted."),
    ("mkfs",): ("mkfs:mkfs", "Make an empty filesystem."),
    ("recipe",): ("recipe:recipe", "Write the recipe of an image that is there."),
    ("edit",): ("edit:edit", "Change an image that is there: files, subvolumes, fields; undo brings it back."),
    ("undo",): ("undo:undo", "Bring back what an edit has overwritten, byte for byte."),
    ("shell",): ("shell:shell", "Look at an image and change it, line by line."),
    ("corrupt",): ("corrupt:corrupt", "Change any field of an image, for tests of what reads it."),
    ("locate",): ("locate:locate", "Show what stands at a byte of a device, and whose it is."),
    ("cache", "census"): ("cache_census:census", "Count which pages could be shared, and why others could not."),
    ("cache", "estimate"): ("cache_estimate:estimate", "Compute what sharing pages saves, under every scheme."),
    ("cache", "replay"): ("cache_replay:replay", "Replay recorded accesses under schemes and policies."),
    ("cache", "top"): ("cache_top:top", "Show live what a mount shares."),
    ("cache", "record"): ("cache_record:record", "Record what a command reads, for cache replay."),
    ("cache", "bench"): ("cache_bench:bench", "Measure the cache beside a mount of the image."),
    ("inspect", "dump-super"): ("dump_super:dump_super", "Show superblocks."),
    ("inspect", "dump-tree"): ("dump_tree:dump_tree", "Show the items of trees."),
    ("inspect", "list-chunks"): ("list_chunks:list_chunks", "Show where chunks lie, and how full they are."),
    ("inspect", "logical-resolve"): ("logical_resolve:logical_resolve", "Show the files at a logical address."),
    ("inspect", "inode-resolve"): ("inode_resolve:inode_resolve", "Show every path of an inode."),
    ("inspect", "subvolid-resolve"): ("subvolid_resolve:subvolid_resolve", "Show the path of a subvolume."),
    ("inspect", "rootid"): ("rootid:rootid", "Show the id of the subvolume that holds a file."),
    ("inspect", "min-dev-size"): ("min_dev_size:min_dev_size", "Show how small a device could be made."),
    ("inspect", "tree-stats"): ("tree_stats:tree_stats", "Show sizes and seeks of trees."),
    ("inspect", "map-swapfile"): ("map_swapfile:map_swapfile", "Show where a swap file starts, if it could be one."),
    ("inspect", "find-root"): ("find_root:find_root", "Find the roots of a tree among all tree blocks."),
}


def load(words: tuple[str, ...]) -> Command:
    """Import and return the command called by *words*."""
    return load_from(COMMANDS, words)


def run(words: Sequence[str]) -> int:
    """Run the command that *words* say; return its exit code."""
    for count in (1, 2):
        name = tuple(words[:count])
        if name in COMMANDS:
            command = load(name)
            arguments = command.parse(words[count:])
            if arguments is not None:
                return command.run(**arguments)
    from btrimg.cli.click_group import run_with_click

    return run_with_click(words)


def code_of(error: Exception) -> int:
    """Return the exit code of an expected failure: 1 where something is not there or not right, else 2."""
    return 1 if isinstance(error, NotFoundError | CorruptError | WorseError) else 2


def main() -> NoReturn:
    """Run the program; turn every expected failure into one sentence and an exit code."""
    interrupts = _noted_interrupts()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads cost 50 ms on a busy machine, and are not used
    gc.set_threshold(100_000)  # what is made at start-up stays: looking for garbage in it costs 2 ms
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may not be UTF-8
    if isinstance(sys.stdout.buffer, RawIOBase):
        from btrimg.cli.unbuffered import whole_output

        sys.stdout = whole_output(sys.stdout)
    try:
        try:
            code = run(sys.argv[1:])
        finally:
            sys.stdout.flush()  # what was written before a failure counts
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again at exit
        code = 141
    except KeyboardInterrupt:
        code = 130
    except ImportError:
        if not interrupts:
            raise
        code = 130  # numpy makes that of a KeyboardInterrupt that meets it while it is imported
    except (BtrimgError, OSError, MemoryError) as error:
        say("", "red", sentence(error))
        code = code_of(error)
    sys.stderr.flush()
    os._exit(code)  # all is written and closed; taking down the interpreter would cost 6 ms, half of a resolve


def _noted_interrupts() -> list[int]:
    """Return a list that has the signal for each Ctrl-C from now on, which raises KeyboardInterrupt as ever."""
    interrupts: list[int] = []

    def note(number: int, _frame: object) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, note)
    return interrupts


def _open_closed_streams() -> None:
    """Have the null device in the place of standard streams that were closed, of which Python makes None.

    An image would get their descriptors, and be written to by whoever takes these for standard output. Standard input
    stays None: who asked for what is in it is told, and gets nothing that is empty.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)  # each gets the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for as long as the process is)

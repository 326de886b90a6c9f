"""``btrimg cache replay``: what sharing makes of accesses that were recorded."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from btrimg.cli.cache_estimate import parse_plot
from btrimg.cli.cache_options import DOMAINS, SCHEME_NAMES, domains_of, parse_scheme
from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import (
    JSON,
    OPENING,
    TARGET,
    TOP_LEVEL,
    open_inode,
    open_target,
    parse_subvolume,
    refuse_image,
)
from btrimg.cli.terminal import standard_input
from btrimg.cli.unit_options import UNITS, take_units
from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple
from btrimg.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from btrimg.cli.cache_options import NamedDomain
    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image
    from btrimg.pagecache.accesses import Skipped
    from btrimg.pagecache.readahead import Fetched
    from btrimg.pagecache.streams import Streams
    from btrimg.pagecache.tracefiles import Found
    from btrimg.render.replayed import Answer
    from btrimg.render.sizes import Units

POLICY_NAMES = ("lru", "clock", "s3-fifo", "two-list", "belady")
_PAGE = 4096


def parse_policy(text: str) -> str:
    """Return the name of a policy of eviction; raise ValueError with a sentence that lists them."""
    if text not in POLICY_NAMES:
        raise ValueError(f"{text!a} is no policy; there are {', '.join(POLICY_NAMES)}")
    return text


def parse_budget(text: str) -> int:
    """Return a size of cache in pages; raise ValueError with a sentence."""
    size = parse_size(text)
    if size < _PAGE:
        raise ValueError(f"{text!a} is less than a page of {_PAGE} bytes")
    return size // _PAGE


def parse_device(text: str) -> int:
    """Return MAJOR:MINOR as one number; raise ValueError with a sentence."""
    major, colon, minor = text.partition(":")
    if not (colon and major.isdecimal() and minor.isdecimal() and int(minor) < 1 << 20 and int(major) < 1 << 12):
        raise ValueError(f"{text!a} is no device; write MAJOR:MINOR, as /proc/self/mountinfo does")
    return int(major) << 20 | int(minor)


@command(
    TARGET,
    Argument("traces", "TRACE", str, many=True, is_path=True, optional=True),
    Option("root", ("--root",), "Where IMAGE[:PATH] was mounted when the trace was made.", str, "DIR", "/"),
    Option("directory", ("--directory",), "The working directory of the first process.", str, "DIR"),
    Option(
        "trace_device", ("--trace-device",), "The device of the trace that is the image.", parse_device, "MAJOR:MINOR"
    ),
    Option(
        "trace_subvolume", ("--trace-subvolume",), "The subvolume of the trace's inode numbers.", parse_subvolume, "ID"
    ),
    Option("together", ("--together",), "Replay all traces at the same time, not one after the other."),
    Option("everything", ("--read-everything",), "Read every file whole, instead of what a trace says."),
    Option(
        "schemes", ("--scheme",), "Scheme of sharing; may be repeated (default all).", parse_scheme, "NAME", (), True
    ),
    Option(
        "policies", ("--policy",), "Policy of eviction; may be repeated (default lru).", parse_policy, "NAME", (), True
    ),
    Option(
        "budgets",
        ("--budget",),
        "Size of a cache; may be repeated. Default: 1/16 to 1/2 of what today's kernel would hold.",
        parse_budget,
        "SIZE",
        (),
        many=True,
    ),
    DOMAINS,
    Option("holes", ("--holes",), "Count pages of holes, too: the kernel fills one with zeros for each."),
    Option("compare", ("--compare",), "Read all pages of equal checksums and compare them, however many there are."),
    Option("readahead", ("--readahead",), "Show what readahead brings in along file, device and extent."),
    Option("plot", ("--plot",), "Draw memory over time and miss ratios.", parse_plot, "FILE.svg|png", is_path=True),
    Option(
        "export",
        ("--export-keys",),
        "Write the page accesses under the one --scheme for libCacheSim: FILE.csv as CSV, else as oracleGeneral.",
        str,
        "FILE",
        is_path=True,
    ),
    *UNITS,
    JSON,
    *OPENING,
)
def replay(target: Target, traces: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Replay recorded accesses to files of an image under schemes of sharing and policies of eviction.

    \b
      btrimg cache replay disk.img trace --root /mnt/disk
      btrimg cache replay disk.img:/web web.log --root /srv/web --policy lru --policy s3-fifo --budget 64M
      btrimg cache replay disk.img --read-everything --scheme inode --scheme extent --plot memory.svg
      btrimg cache replay disk.img trace --scheme extent --export-keys keys.oracleGeneral

    A trace is an iolog of fio (version 2 or 3), the text of strace -f (best with -y and -ttt), that of tracepoints
    mm_filemap_* (trace_pipe, trace-cmd report, perf script), or CSV whose first line names the columns: path (or inode
    and subvolume), offset, length, and if wanted time, process, kind (read, fault, fill, write). "-" is standard input.
    `btrimg cache record` makes one. Paths in it are looked up below --root; what is left out is counted by reason. From
    strace, a mapping counts as read from end to end; old kernels tell only what was brought in, which counts as read.

    Twice is what is in memory more than once, by extents. Lookups and translations are counted piece by piece, a piece
    being pages whose keys follow each other. Index is what one entry of 8 bytes for each page takes, "or pointers" what
    it takes if each file keeps its own entries. LRU's miss ratios are in the JSON and in the plot. --plot needs
    matplotlib (pip install 'btrimg[plot]'). Of what readahead brings in, wasted is what nobody read, foreign what is
    not of the file that was read.

    JSON, sizes in bytes: "accesses", "left_out" and "skipped" by reason, "page_accesses", "holes"; for each of
    "schemes" "scheme", "in_memory", "duplicates", "refused" (page accesses by reason), "costs", "over_time",
    "miss_ratios" of LRU by size of "cache", and "caches": "policy", "budget", "reads" and "faults" ("accesses", "hits",
    "hit_ratio"), "misses", "evictions", "sharers_of_evicted" (sum over evictions of files that used the page since it
    came), "hits_over_time". "readahead", if asked for: "space", "asked", "ahead", "wasted", "foreign".
    """
    units, plot, export = take_units(options), options.pop("plot"), options.pop("export")
    schemes = tuple(dict.fromkeys(options.pop("schemes"))) or SCHEME_NAMES
    asked = _Asked._make(options.pop(name) for name in _Asked._fields)
    policies, budgets = tuple(dict.fromkeys(options.pop("policies"))) or ("lru",), options.pop("budgets")
    if export and len(schemes) > 1:
        raise BtrimgError("--export-keys writes the keys of one scheme: say which with --scheme")
    if export:
        refuse_image((*target.devices, *options["device"]), export)
    if bool(traces) == asked.everything:
        raise BtrimgError("name a trace, or ask for --read-everything")
    with open_target(target._replace(path=None), **options) as image:
        streams, found, skipped = _streams(image, target, traces, asked)
        answer = _answer(streams, found, skipped, schemes, policies, budgets)
        if asked.readahead:
            answer = answer._replace(fetched=_fetched(streams))
        if export:
            _export(streams, schemes[0], export)
        _show(answer, plot, units, as_json=as_json)
        return 1 if image.faults else 0


class _Asked(NamedTuple):
    """What the options say about traces and how to read them."""

    root: str
    directory: str | None
    trace_device: int | None
    trace_subvolume: int | None
    together: bool
    everything: bool
    domains: Sequence[NamedDomain]
    holes: bool
    compare: bool
    readahead: bool


def _streams(
    image: Image, target: Target, traces: Sequence[str], asked: _Asked
) -> tuple[Streams, Found, list[tuple[str, str, Skipped]]]:
    """Return the page accesses of *traces*, what was left out of them, and the lines that were skipped."""
    from btrimg.cli.progress import counting
    from btrimg.pagecache.filerows import of_image
    from btrimg.pagecache.streams import Streams, everything
    from btrimg.pagecache.tracefiles import Found, Mounted, reads_of
    from btrimg.pagecache.traces import Trace

    skipped = list[tuple[str, str, "Skipped"]]()
    trusted = domains_of(asked.domains, [image])
    with counting("reading file extents", "images") as progress:
        tops = [open_inode(image, target, TOP_LEVEL)] if asked.everything and target.path else []
        rows = of_image(image, tops)
        progress(1, int(rows.files.size.sum()))
    if asked.everything:
        reads = everything(rows)
        found = Found(reads, len(reads.file), {})
    else:
        mounted = Mounted(_absolute(asked.root), target.path or b"/", asked.trace_device, asked.trace_subvolume)
        directory = None if asked.directory is None else _absolute(asked.directory)
        with ExitStack() as stack, counting("reading traces", "accesses") as progress:
            opened = [Trace(_open(name, stack), directory) for name in traces]
            found = reads_of(
                image, rows, opened, mounted, together=asked.together, progress=lambda count: progress(count, 0)
            )
        for name, trace in zip(traces, opened, strict=True):
            skipped += [(name, reason, lines) for reason, lines in trace.skipped.items()]
    return Streams(rows, found.reads, trusted, holes=asked.holes, compare=asked.compare), found, skipped


def _absolute(path: str) -> bytes:
    return os.path.abspath(os.fsencode(path))


def _open(name: str, stack: ExitStack) -> BinaryIO:
    if name == "-":
        return standard_input("-").buffer
    return stack.enter_context(open(name, "rb"))


def _answer(
    streams: Streams,
    found: Found,
    skipped: list[tuple[str, str, Skipped]],
    schemes: Sequence[str],
    policies: Sequence[str],
    budgets: Sequence[int],
) -> Answer:
    from btrimg.cli.progress import counting
    from btrimg.pagecache.replay import Replay, default_budgets
    from btrimg.render.replayed import Answer

    replayed = Replay(streams)
    sizes = sorted(set(budgets)) or default_budgets(replayed.of_files)
    with counting("replaying", "page accesses") as progress:
        rows = [replayed.run(scheme, policies, sizes, lambda count: progress(count, 0)) for scheme in schemes]
    return Answer(found.accesses, found.left_out, skipped, streams.pages, streams.holes, rows, ())


def _fetched(streams: Streams) -> list[Fetched]:
    from btrimg.cli.progress import counting
    from btrimg.pagecache.readahead import SPACES, read_ahead

    with counting("reading ahead", "accesses") as progress:
        return [read_ahead(streams, space, lambda count: progress(count, 0)) for space in SPACES]


def _export(streams: Streams, scheme: str, name: str) -> None:
    """Write the page accesses under *scheme* to a file of the host."""
    from btrimg.pagecache import exported

    write = exported.csv if name.endswith(".csv") else exported.oracle_general
    time = streams.per_access(streams.reads.time)
    with open(name, "wb") as file:
        for piece in write(streams.numbered(scheme).stream, time):
            file.write(piece)


def _show(answer: Answer, plot: str | None, units: Units, *, as_json: bool) -> None:
    from btrimg.render import replayed
    from btrimg.render.answers import json_line

    if plot:
        from btrimg.render.plot_replay import memory_and_misses

        drawn = memory_and_misses(answer, os.path.splitext(plot)[1][1:])
        with open(plot, "wb") as file:
            file.write(drawn)
    lines = [json_line(replayed.replay_object(answer))] if as_json else replayed.replay_lines(answer, units.text)
    print("\n".join(lines))

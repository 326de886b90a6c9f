"""``btrimg verify``: hold btrimg's answers against the real tools and the kernel."""

from __future__ import annotations

import os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from btrimg.cli.command import Option, command
from btrimg.cli.parameters import FURTHER_DEVICES, JSON, SUBVOLUME, TARGET, open_inode, open_target
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.errors import BtrimgError, UnsupportedError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target
    from btrimg.oracle.progs import Progs
    from btrimg.oracle.tally import Difference, Ledger

_SAMPLE = 300
_SHOWN = 20  # differences in text


def sample_size(text: str) -> int:
    """Return how many units to compare; raises ValueError."""
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} is no number of things to compare, such as {_SAMPLE}")
    return int(text)


@command(
    TARGET,
    Option("sample", ("--sample",), "Compare so many of each kind, spread evenly.", sample_size, "N", _SAMPLE),
    Option("everything", ("--all",), "Compare all of each kind; for hours, if the image is large."),
    Option("no_mount", ("--no-mount",), "Do not mount the image, even as root."),
    Option("progs", ("--progs",), "Take btrfs-progs from this directory.", str, "DIR", is_path=True),
    JSON,
    SUBVOLUME,
    FURTHER_DEVICES,
)
def verify(
    target: Target,
    sample: int,
    everything: bool,
    no_mount: bool,
    progs: str | None,
    as_json: bool,
    subvolume: int,
    device: tuple[str, ...],
) -> int:
    """Compare btrimg's answers with those of btrfs-progs and of the kernel, value by value.

    Of an IMAGE, dump-super, dump-tree, tree-stats and btrfs-map-logical are compared. As root an image whose check is
    clean is mounted, read-only, for nobody else to see and without a replay of its log; then logical-resolve,
    inode-resolve, subvolid-resolve, rootid, min-dev-size, list-chunks, map-swapfile, the fields of inodes, directories,
    FIEMAP, file contents and the bytes at every resolved device offset are compared, too. Of IMAGE:PATH, what is about
    that file, or about everything below that directory.

    \b
      btrimg verify disk.img
      sudo btrimg verify --all disk1.img -d disk2.img
      btrimg verify disk.img:/var/lib --progs ~/btrfs-progs --json

    The table shows how much of what there is was compared, what was skipped and why, and in how many places a known
    error of this version of btrfs-progs was allowed for. The exit code is 1 when something differs, and 2 when nothing
    can be compared.

    JSON, one object per comparison: "comparison", "judge", "unit", "compared" units of "whole" (null if not known),
    "values", "differences", "skipped" and "allowed" (lists of "reason" and "count", null for all). Before it one object
    per difference: "comparison", "where", "btrimg", "judge".
    """
    from btrimg.cli.progress import counting
    from btrimg.oracle import kernel
    from btrimg.oracle.setting import Setting
    from btrimg.oracle.tally import Ledger
    from btrimg.oracle.verify import Mounting
    from btrimg.oracle.verify import verify as run

    tools, told = _progs(progs), _Told(as_json, [])
    refused = "--no-mount" if no_mount else kernel.why_no_mounts()
    if refused is None:
        kernel.hide_mounts((*target.devices, *device, progs or "", *os.get_exec_path()))
    clean_up_when_stopped()
    with open_target(target, device=device) as image, counting("verified", "units", printing=as_json) as tick:
        inode = open_inode(image, target, subvolume) if target.path else None
        paths = tuple(device.path for device in image.volume.devices.values())
        ledger = Ledger(told.difference, tick)
        setting = Setting(image, paths, tools, printed, ledger, None if everything else sample)
        run(setting, inode, Mounting(refused, lambda: why_unclean(paths)))
    told.result(ledger)
    if not any(tally.compared for tally in ledger.tallies):
        return 2
    return 1 if ledger.differences else 0


class _Told(NamedTuple):
    """What is said of the comparisons: of differences at once as JSON, at the end and of the first ones as text."""

    as_json: bool
    shown: list[Difference]

    def difference(self, difference: Difference) -> None:
        from btrimg.render.answers import json_line
        from btrimg.render.verified import difference_object

        if self.as_json:
            print(json_line(difference_object(difference)))
        elif len(self.shown) < _SHOWN:
            self.shown.append(difference)

    def result(self, ledger: Ledger) -> None:
        from btrimg.render import verified
        from btrimg.render.answers import json_line

        if self.as_json:
            for tally in ledger.tallies:
                print(json_line(verified.tally_object(tally)))
            return
        lines = (*verified.table_lines(ledger.tallies), *verified.difference_lines(self.shown, ledger.differences))
        print(*lines, sep="\n")


def _progs(directory: str | None) -> Progs:
    from btrimg.oracle.progs import find_progs

    found = find_progs(directory or os.environ.get("PATH", os.defpath))
    if found is None:
        raise UnsupportedError(
            f"there is no program btrfs in {directory or 'PATH'}: install btrfs-progs, or name its directory by --progs"
        )
    return found


def printed(*words: str) -> list[str]:
    """Return the lines that ``btrimg inspect WORDS`` prints; what it complains of has been said when it was opened."""
    _, out = _run(("inspect", words[0]), *words[1:])
    return out.removesuffix("\n").split("\n")


def why_unclean(devices: tuple[str, ...]) -> str | None:
    """Return the first thing that ``btrimg check`` finds, None if it finds no error."""
    code, out = _run(("check",), devices[0], *(word for device in devices[1:] for word in ("-d", device)))
    return out.partition("\n")[0] if code else None


def _run(name: tuple[str, ...], *words: str) -> tuple[int, str]:
    from btrimg.cli.main import load

    asked = load(name)
    arguments = asked.parse(words)
    if arguments is None:
        raise BtrimgError(f"cannot run {' '.join((*name, *words))}")
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()):
        code = asked.run(**arguments)
    return code, out.getvalue()

"""``btrimg undo``: bring back what an edit has overwritten."""

from __future__ import annotations

import os
from contextlib import ExitStack

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import FURTHER_DEVICES, JSON, CannotOpenError
from btrimg.errors import CorruptError, RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from btrimg.volume.device import Device
    from btrimg.volume.restore import UndoFile


@command(
    Argument("image", "IMAGE", str, is_path=True),
    Argument("file", "FILE", str, is_path=True),
    Option("dry_run", ("--dry-run",), "Write nothing; show what would be brought back."),
    Option("force", ("--force",), "Undo although the image was changed after the edit."),
    JSON,
    FURTHER_DEVICES,
)
def undo(image: str, file: str, dry_run: bool, force: bool, as_json: bool, device: tuple[str, ...]) -> int:
    """Bring back, byte for byte, what an edit has overwritten: all edits of the session that made FILE.

    \b
      btrimg undo disk.img disk.img.undo
      btrimg undo disk1.img edit.undo -d disk2.img --dry-run

    Also after the edit was killed, or the machine stopped in it, and after the same of an undo. An image that was
    changed since is refused: of several edits undo the last one first. FILE is kept.

    JSON, one object: "undone" and "bytes", without holes; with --dry-run one for each range: "devid", "physical",
    "length", "was" ("data", "zeros" or "hole").
    """
    from btrimg.volume.device import Device
    from btrimg.volume.restore import UndoFile
    from btrimg.volume.undofile import UndoReader

    with ExitStack() as stack:
        try:
            reader = stack.enter_context(UndoReader(file))
        except CorruptError as error:
            raise CannotOpenError(str(error)) from None
        known = UndoFile(reader)
        devices = known.assign([stack.enter_context(Device(path)) for path in (image, *device)])
        is_done = known.progress.undone and known.is_restored(devices)
        if not is_done and not force:
            if known.progress.undone:
                raise RefusedError(f"{file} was undone already, and the image was changed after that")
            known.require_unchanged(devices)
        if dry_run:
            _show(known, devices, as_json=as_json)
            return 0
        if not is_done:
            _restore(known, devices)
    _tell(known, is_done=is_done, as_json=as_json)
    return 0


def _restore(known: UndoFile, devices: Mapping[int, Device]) -> None:
    from btrimg.cli.progress import counting
    from btrimg.volume.sink import DeviceSink

    with DeviceSink(devices) as sink, counting("restoring", "ranges") as progress:
        known.restore(sink, lambda length: progress(1, length))


def _show(known: UndoFile, devices: Mapping[int, Device], *, as_json: bool) -> None:
    from btrimg.render.answers import json_line
    from btrimg.render.text import printable

    for devid, found in known.found.items():
        if not found.is_block and devices[devid].size != found.size and not as_json:
            print(f"device {devid} ({printable(os.fsencode(devices[devid].path))}) gets back its {found.size} bytes")
    for record, differs in known.differences(devices):
        if differs and as_json:
            place = {"devid": record.devid, "physical": record.physical, "length": record.length}
            print(json_line(place | {"was": record.kind.name.lower()}))
        elif differs:
            end = record.physical + record.length
            print(f"device {record.devid} {record.physical}..{end}: {record.length} bytes, {record.kind.name.lower()}")


def _tell(known: UndoFile, *, is_done: bool, as_json: bool) -> None:
    from btrimg.render.answers import json_line
    from btrimg.units import format_size

    if as_json:
        print(json_line({"undone": not is_done, "bytes": 0 if is_done else known.saved}))
    elif is_done:
        print("it was undone already: the image is as it was before the edit")
    else:
        holes = ", and what was put into holes is gone" if known.has_holes else ""
        print(f"undone: {format_size(known.saved)} are as before the edit{holes}")

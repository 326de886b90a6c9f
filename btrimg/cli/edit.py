"""``btrimg edit``: change an image that is there."""

from __future__ import annotations

import os
import sys
import time

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.edit_parameters import parse_time
from btrimg.cli.parameters import FURTHER_DEVICES, JSON, parse_target, source_date_epoch, warn
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.cli.terminal import say, standard_input
from btrimg.cli.verbs import VERBS, Context
from btrimg.errors import BtrimgError
from btrimg.ondisk.inodes import Timespec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from btrimg.cli.command import Command
    from btrimg.edit.session import Outcome, Session

_NS = 10**9
_FILES = ("undo", "backup")
#: How an image is changed.
CHANGING = (
    Option("undo", ("--undo",), "Save what is overwritten here.  [default: IMAGE.undo]", str, "FILE", is_path=True),
    Option("backup", ("--backup",), "Copy the image here first.", str, "FILE", is_path=True),
    Option("now", ("--now",), "Time of the changes.  [default: SOURCE_DATE_EPOCH, or the clock]", parse_time, "TIME"),
    Option("force", ("--force",), "Commit although btrimg check finds more faults than before."),
    FURTHER_DEVICES,
)


DRY_RUN = Option("dry_run", ("--dry-run",), "Write nothing; show every write that would be made.")


@command(
    Argument("image", "IMAGE", str, is_path=True),
    Option("script", ("--script",), "Do what this recipe says, - for stdin, in one commit.", str, "FILE", is_path=True),
    DRY_RUN,
    JSON,
    *CHANGING,
    verbs=VERBS,
)
def edit(
    image: str,
    script: str | None,
    dry_run: bool,
    as_json: bool,
    verb: Command | None,
    given: dict[str, Any],
    **changing: Any,
) -> int:
    """Change an image that is there, by one VERB, or by all that a script says, in one commit: it is done whole or not.

    \b
      btrimg edit disk.img put notes.txt /home/notes.txt
      btrimg edit disk.img rm -r /var/cache --dry-run
      btrimg edit disk.img snapshot -r /home /before
      btrimg edit disk.img --script changes.toml --backup disk.bak
      btrimg undo disk.img disk.img.undo

    What is overwritten is saved first, in a file beside the image, with which `btrimg undo` brings back every byte.
    Before the superblocks are written, what has changed is checked. Images that are mounted, or that others write to,
    are refused. `btrimg edit IMAGE VERB --help` says more of a verb; docs/editing.md is the manual.

    PATH is absolute from the top-level subvolume, and leads across subvolumes and symbolic links. A script is a
    recipe without [filesystem], in the words of docs/recipes.md.
    """
    clean_up_when_stopped()
    if (verb is None) == (script is None):
        raise BtrimgError("say what to do: either a VERB, or --script FILE; `btrimg edit --help` lists the verbs")

    context = context_of(image, dry_run=dry_run, as_json=as_json, **changing)
    try:
        if verb is not None:
            code = verb.run(context, **given)
        else:
            code = _do_script(context, str(script))
        if context.is_open and not code:
            outcome = context.commit()
            if dry_run:
                show_writes(context.session, as_json=as_json)
            else:
                show_outcome(outcome, as_json=as_json)
    finally:
        context.close()
    return code


def context_of(
    image: str,
    *,
    undo: str | None,
    backup: str | None,
    now: Timespec | None,
    force: bool,
    device: tuple[str, ...],
    dry_run: bool = False,
    as_json: bool = False,
) -> Context:
    """Return what verbs work on; the image is opened when the first of them needs it."""
    paths, epoch = (*_devices(image, one_of_several=bool(device)), *device), source_date_epoch()

    def begin() -> Session:
        from btrimg.edit.session import Session

        return Session(
            paths,
            undo=undo,
            dry_run=dry_run,
            backup=backup,
            force=force,
            now=now or Timespec(*divmod(time.time_ns() if epoch is None else epoch * _NS, _NS)),
            uuids=_uuids(context, reproducible=not (now is None and epoch is None)),
            report=warn,
        )

    context = Context(begin, as_json=as_json)
    return context


def _devices(image: str, *, one_of_several: bool) -> tuple[str, ...]:
    if one_of_several and os.path.exists(image) and not os.path.isdir(image):  # it may have lost its superblocks
        return (image,)
    try:
        target = parse_target(image)
    except ValueError as error:
        raise BtrimgError(str(error)) from None
    if target.path is not None:
        raise BtrimgError("name an image, not a file in it; what to change comes after the verb")
    return target.devices


def _uuids(context: Context, *, reproducible: bool) -> Callable[[], bytes]:
    """Return a source of new uuids: random ones, or such as follow from the state of the image."""
    source: list[Callable[[], bytes]] = []

    def next_uuid() -> bytes:
        from btrimg.write.uuids import seeded

        if not source:
            superblock = context.session.image.superblock
            state = b"edit %b %d" % (superblock.fsid, superblock.generation)
            source.append(seeded(state if reproducible else os.urandom(32)))
        return source[0]()

    return next_uuid


def _do_script(context: Context, path: str) -> int:
    from btrimg.build.recipe import load_recipe, parse_recipe
    from btrimg.cli.progress import counting

    if path == "-":
        recipe = parse_recipe(standard_input("--script -").buffer.read(), "stdin", is_edit=True)
    else:
        recipe = load_recipe(path, is_edit=True)
    with counting("editing", "things") as progress:
        context.files.run(recipe, progress)
    return 0


def show_outcome(outcome: Outcome | None, *, as_json: bool) -> None:
    """Tell what was committed, on stderr or as a line of JSON."""
    if outcome is None:
        return
    if as_json:
        from btrimg.render.answers import json_line, name

        files = {key: path and name(os.fsencode(path)) for key, path in zip(_FILES, outcome[1:], strict=True)}
        print(json_line({"generation": outcome.generation, **files}))
    elif outcome.undo is not None and sys.stderr.isatty():
        say("", "green", f"generation {outcome.generation}; {outcome.undo} takes it back (btrimg undo)")


def show_writes(session: Session, *, as_json: bool) -> None:
    """Tell what a dry run would have written."""
    from btrimg.render import planned

    write_lines, item_lines = planned.write_lines, planned.item_lines
    for item in session.item_changes:
        print(planned.item_json(item)) if as_json else print("\n".join(item_lines(item)))
    for write in planned.planned_writes(session.image.volume, session.sink.devices):
        print(planned.write_json(write)) if as_json else print("\n".join(write_lines(write)))

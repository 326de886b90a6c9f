"""``btrimg recipe``: write the recipe of an image."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON, OPENING, open_target, parse_target, refuse_image
from btrimg.cli.progress import counting
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.errors import BtrimgError
from btrimg.volume.replacing import create_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.cli.parameters import Target


@command(
    Argument("target", "IMAGE", parse_target, is_path=True),
    Option(
        "output", ("-o", "--output"), "Write the recipe here, long contents into FILE.data/ beside it.", str, "FILE"
    ),
    Option("overwrite", ("--overwrite",), "Replace FILE and FILE.data/ if they are there."),
    JSON,
    *OPENING,
)
def recipe(target: Target, output: str | None, overwrite: bool, as_json: bool, **opening: Any) -> int:
    """Write the recipe that builds an image with the same files and the same sharing as IMAGE.

    \b
      btrimg recipe disk.img
      btrimg recipe disk.img -o disk.toml && btrimg build disk.toml -o again.img

    Without -o it is printed, with all contents in it. What docs/recipes.md has no words for is left out: inode numbers,
    where extents lie, quota groups, how subvolumes were received. The recipe names the uuids of IMAGE: take them out to
    mount both at once. JSON, one object, with -o: "recipe", "entries", "contents" (null when there are none). What
    cannot be read is named in a warning and left out, contents by a hole; the exit code is then 1.
    """
    from btrimg.build.describe import recipe_of

    if output is None:
        if as_json:
            raise BtrimgError("--json tells of the file that -o writes: give -o too")
        with open_target(target, **opening) as image:
            with counting("describing", "entries", printing=True) as progress:
                written = recipe_of(image, None, "", lambda count: progress(count, 0))
            sys.stdout.buffer.write(written.text.encode())  # TOML is UTF-8, whatever the terminal is
            return 1 if image.faults else 0
    clean_up_when_stopped()
    contents = f"{output}.data"
    with open_target(target, **opening) as image:
        for path in (output, contents):
            refuse_image((device.path for device in image.volume.devices.values()), path)
        with (
            counting("describing", "entries") as progress,
            _fresh(output, contents, overwrite=overwrite) as (file, folder),
        ):
            written = recipe_of(image, folder, os.path.basename(contents), lambda count: progress(count, 0))
            file.write(written.text)
        if as_json:
            there = contents if os.path.isdir(contents) else None
            print(json.dumps({"recipe": output, "entries": written.entries, "contents": there}))
        return 1 if image.faults else 0


@contextmanager
def _fresh(output: str, contents: str, *, overwrite: bool) -> Iterator[tuple[TextIO, str]]:
    """Give a file and a directory to write to, which become *output* and, if anything is in it, *contents* at the end.

    When that fails, they go, and what was there stays. Raises BtrimgError.
    """
    for path in (output, contents):
        if os.path.lexists(path) and not overwrite:
            raise BtrimgError(f"{path} exists: --overwrite replaces it")
    if os.path.isdir(output):
        raise BtrimgError(f"{output} is a directory; name a file")
    if os.path.exists(output) and not os.path.isfile(output):
        raise BtrimgError(f"{output} is no file that could be replaced; name another")
    partial, folder = f"{output}.partial", f"{contents}.partial"
    with ExitStack() as stack:
        try:
            made: list[tuple[str, Any]] = []
            stack.callback(_remove_all, made)
            create_files([partial], made)
            file = stack.enter_context(open(made[0][1], "w", encoding="utf-8"))
            made.extend(zip([folder], map(os.mkdir, [folder]), strict=True))  # in one step, as create_files says why
            yield file, folder
            file.close()
            if overwrite:
                _remove(contents)
            if os.listdir(folder):
                os.rename(folder, contents)
            os.rename(partial, output)
        except FileExistsError as error:
            raise BtrimgError(f"{error.filename} exists: another program writes it, or was killed; remove it") from None
        except OSError as error:
            raise BtrimgError(f"cannot write {error.filename or output}: {error.strerror}") from None


def _remove_all(made: list[tuple[str, Any]]) -> None:
    for path, _ in made:
        _remove(path)


def _remove(path: str) -> None:
    """Remove a file, or a directory with all in it, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)

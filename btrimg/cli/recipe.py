"""``btrimg recipe``: write the recipe of an image."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON, OPENING, open_target, parse_target
from btrimg.cli.progress import counting
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
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
    cannot be read is named in a warning and left out; the exit code is then 1.
    """
    from btrimg.build.describe import recipe_of

    if as_json and output is None:
        raise BtrimgError("--json tells of the file that -o writes: give -o too")
    with open_target(target, **opening) as image:
        with counting("describing", "entries", printing=output is None) as progress:
            if output is None:
                written = recipe_of(image, None, "", lambda count: progress(count, 0))
                print(written.text, end="")
                return 1 if image.faults else 0
            contents = f"{output}.data"
            _make_room(output, contents, overwrite=overwrite)
            try:
                written = recipe_of(image, contents, os.path.basename(contents), lambda count: progress(count, 0))
                with open(output, "x", encoding="utf-8") as file:
                    file.write(written.text)
            except OSError as error:
                raise BtrimgError(f"cannot write {error.filename or output}: {error.strerror}") from None
        if not os.listdir(contents):
            os.rmdir(contents)
        there = contents if os.path.isdir(contents) else None
        if as_json:
            print(json.dumps({"recipe": output, "entries": written.entries, "contents": there}))
        return 1 if image.faults else 0


def _make_room(output: str, contents: str, *, overwrite: bool) -> None:
    """Make the directory for contents, where nothing is in the way; raise BtrimgError."""
    for path in (output, contents):
        if os.path.lexists(path) and not overwrite:
            raise BtrimgError(f"{path} exists: --overwrite replaces it")
    try:
        shutil.rmtree(contents, ignore_errors=True)
        if os.path.lexists(output):
            os.unlink(output)
        os.mkdir(contents)
    except OSError as error:
        raise BtrimgError(f"cannot write {error.filename}: {error.strerror}") from None

"""``btrimg sql`` and ``btrimg export-tables``: the image as tables."""

from __future__ import annotations

import os
import sys
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import (
    FORCE,
    FURTHER_DEVICES,
    JSON,
    TARGET,
    open_target,
    refuse_image,
    size_option,
    take_directory,
)
from btrimg.cli.progress import counting
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.cli.terminal import standard_input
from btrimg.errors import BtrimgError
from btrimg.volume.replacing import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.cli.parameters import Target
    from btrimg.tables.database import Limits

MEMORY = size_option(
    "memory",
    "--memory",
    "Take about this much memory, and files in TMPDIR for more; without it, half of what there is.",
)
FORMATS = ("table", "json", "csv", "parquet")
_MOST_MEMORY = 1 << 60  # that DuckDB takes for a number


def output_format(text: str) -> str:
    """Return a name of FORMATS; raises ValueError."""
    if text not in FORMATS:
        raise ValueError(f"{text!a} is none of {', '.join(FORMATS)}")
    return text


@command(
    TARGET,
    Argument("query", "[QUERY]", str, optional=True),
    Option(
        "form", ("--format",), "Write table, json (an object a line), csv or parquet.", output_format, "FORMAT", "table"
    ),
    Option("output", ("--output",), "Write here, not to standard output; parquet must.", str, "FILE", is_path=True),
    Option("schema", ("--schema",), "Show the tables and their columns; takes no query."),
    MEMORY,
    JSON,
    FURTHER_DEVICES,
    FORCE,
)
def sql(
    target: Target,
    query: str | None,
    form: str,
    output: str | None,
    schema: bool,
    memory: int | None,
    as_json: bool,
    **opening: Any,
) -> int:
    """Answer a query in SQL about the whole image; without QUERY, or with -, it is read from standard input.

    \b
      btrimg sql disk.img --schema
      btrimg sql disk.img "select holds, sum(used) from block_groups group by holds"
      btrimg sql disk.img --format parquet --output files.parquet "from inodes"

    The tables show the last commit; docs/tables.md describes them. The SQL is DuckDB's, and can read nothing else. What
    cannot be read is named in a warning and skipped; the exit code is then 1.
    """
    if output is not None:
        clean_up_when_stopped()
        refuse_image((*target.devices, *opening["device"]), output)
    if schema:
        from btrimg.render.rows import schema_lines

        return _write(schema_lines(), output)
    form = "json" if as_json else form
    if form == "parquet" and output is None:
        raise BtrimgError("--format parquet needs --output FILE")
    text = standard_input("sql").read() if query in (None, "-") else str(query)
    from btrimg.render import rows
    from btrimg.tables import query as engine

    with open_target(target, **opening) as image:
        with counting("reading", "tree blocks") as progress:
            if form == "parquet":
                with replacing([str(output)], force=True) as [path]:
                    os.unlink(path)  # where a file is, DuckDB would write another one beside it first, as we do
                    engine.query_to_parquet(image, text, path, _limits(memory), progress)
            else:
                answer = engine.query(image, text, _limits(memory), progress)
        if form != "parquet":
            render = {"table": rows.table_lines, "json": rows.json_lines, "csv": rows.csv_lines}[form]
            _write(render(*answer) if answer.columns else iter(()), output)
        return 1 if image.faults else 0


def _write(lines: Iterator[str], output: str | None) -> int:
    if output is None:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return 0
    is_special = os.path.exists(output) and not os.path.isfile(output)
    written = nullcontext([output]) if is_special else replacing([output], force=True)
    with written as [path], open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return 0


def _limits(memory: int | None) -> Limits:
    """Return what a query may take; temporary files go where there is room for large ones, which /tmp may lack."""
    from btrimg.tables.database import Limits

    if memory is None:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    directory = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108  # what is made there is private
    return Limits(min(memory, _MOST_MEMORY), directory if os.path.isdir(directory) else None)


@command(
    TARGET,
    Argument("directory", "DIRECTORY", str, is_path=True),
    MEMORY,
    FURTHER_DEVICES,
    FORCE,
    name="export-tables",
)
def export_tables(target: Target, directory: str, memory: int | None, **opening: Any) -> int:
    """Write every table of "btrimg sql" to a Parquet file in DIRECTORY, which must be new or empty.

    \b
      btrimg export-tables disk1.img fleet/disk1
      btrimg export-tables disk2.img fleet/disk2
      duckdb -c "select image, count(*) from 'fleet/*/inodes.parquet' group by image"

    Each has a first column "image", the path of the image as it was given. What cannot be read is named in a warning
    and skipped; the exit code is then 1.
    """
    from btrimg.tables import query as engine

    clean_up_when_stopped()
    with _filling(directory), open_target(target, **opening) as image, counting("exporting", "tables") as progress:
        with closing(engine.export_tables(image, directory, _label(target), _limits(memory))) as done:
            for name in done:
                progress(1, os.path.getsize(os.path.join(directory, f"{name}.parquet")))
        return 1 if image.faults else 0


@contextmanager
def _filling(directory: str) -> Iterator[None]:
    """Make a directory, or take an empty one; when what fills it fails, it is as before: part of an export misleads."""
    from btrimg.tables.schema import RELATIONS

    is_new = not os.path.lexists(directory)
    take_directory(directory)
    try:
        yield
    except BaseException:
        for name in RELATIONS:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, f"{name}.parquet"))
        if is_new:
            with suppress(OSError):
                os.rmdir(directory)
        raise


def _label(target: Target) -> str:
    """Return the first device's path, bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(target.devices[0]).decode("utf-8", "backslashreplace")

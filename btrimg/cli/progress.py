"""Progress on stderr for whatever may take over a second; nothing where stderr is no terminal, or fills with output."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def counting(
    what: str, things: str, *, printing: bool = False, forking: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """Show how many *things* and bytes are done; call the result with what to add to each.

    With *printing* the caller writes to stdout meanwhile: on a terminal that shows progress by itself, and the two
    would write over each other. With *forking* the caller forks before the first is done; to show needs a thread, so
    nothing is shown until then.
    """
    if not sys.stderr.isatty() or (printing and sys.stdout.isatty()):
        yield lambda _things, _bytes: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    count = size = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = progress.add_task(what)

    def add(more_things: int, more_bytes: int) -> None:
        nonlocal count, size
        count, size = count + more_things, size + more_bytes
        progress.update(task, description=f"{what}: {count} {things}, {decimal(size)}")
        progress.start()

    if not forking:
        progress.start()
    try:
        yield add
    finally:
        progress.stop()

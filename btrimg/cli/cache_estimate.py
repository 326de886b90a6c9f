"""``btrimg cache estimate``: what sharing saves, before anything is read."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from btrimg.cli.cache_options import DOMAINS, TARGETS, domains_of, open_all
from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING
from btrimg.cli.unit_options import UNITS, take_units

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image
    from btrimg.pagecache.comparing import Source


def parse_plot(text: str) -> str:
    """Return the name of a file that a plot can be written to; raise ValueError with a sentence."""
    if not text.endswith((".svg", ".png")):
        raise ValueError(f"{text!a} ends neither in .svg nor in .png")
    return text


@command(
    TARGETS,
    DOMAINS,
    Option("holes", ("--holes",), "Count pages of holes, too: the kernel fills one with zeros for each."),
    Option("compare", ("--compare",), "Read all pages of equal checksums and compare them, however many there are."),
    Option("attributed", ("--by-sharer",), "Show whose the pages are under extent, and what each sharer's end frees."),
    Option("plot", ("--plot",), "Draw memory over the number of sharers.", parse_plot, "FILE.svg|png", is_path=True),
    *UNITS,
    JSON,
    *OPENING,
)
def estimate(targets: tuple[Target, ...], plot: str | None, as_json: bool, **options: Any) -> int:
    """Compute what sharing the pages of files saves when all files are read whole, under every scheme.

    \b
      btrimg cache estimate disk.img
      btrimg cache estimate disk.img:/web disk.img:/web-old --plot saved.svg
      btrimg cache estimate redis-7.2.4.img redis-7.2.5.img
      btrimg cache estimate --domain a=/snap1,/snap2 disk.img

    With one argument the sharers are the subvolumes there, in order of id; with several, each argument is one, and a
    file counts for the first that holds it. Unshared is what all of them take if each reader has its own pages, shared
    what remains under a scheme, saved the difference. Below is how much is in memory when the first N have read all
    their files. Extents of different filesystems are never equal; only by content can they share.

    Sizes are whole pages of 4096 bytes. Pages of equal checksums are read and compared where they are few, or with
    --compare: checksums of 4 and 8 bytes are equal by chance, too. With trust domains their cost is shown: what would
    be saved besides if all subvolumes trusted each other. Schemes are explained in docs/page-sharing.md. --plot needs
    matplotlib (pip install 'btrimg[plot]'). What cannot be read is named in a warning; the exit code is then 1.

    --by-sharer shows for each sharer, under extent, the pages that it uses, those that it is the first to bring in, its
    proportional part (each page divided by the number of its sharers), and what its end frees: pages of nobody else.

    JSON, in bytes: "sharers", "files", "unshared", "holes" (left out), and as "schemes" for each "scheme", "what",
    "shared", "saved", "saved_percent", "refused" by reason, "curve" over N and, with domains, "domains_cost";
    "posted" has what that scheme reads "wrong" by defect and "unchecked" by checksums, "equal_checksums" how many
    "bytes" are shared by content for their checksum, whether all were "compared", and how many are "different".
    With --by-sharer, "shares" has for each "sharer" its "used", "first", "proportional" and "freed".
    """
    from btrimg.cli.progress import counting
    from btrimg.pagecache.estimate import estimate as compute
    from btrimg.pagecache.schemes import Domains
    from btrimg.render import sharing
    from btrimg.render.answers import json_line

    units, domains = take_units(options), options.pop("domains")
    counted = {name: options.pop(name) for name in ("holes", "compare", "attributed")}
    with ExitStack() as stack:
        images, sources, names = _sources(targets, stack, **options)
        trusted = domains_of(domains, images)
        with counting("comparing pages of equal checksums", "places") as progress:
            found = compute(sources, len(names), trusted, **counted, done=progress)
            trusting = compute(sources, len(names), Domains(), **counted, done=progress) if domains else None
        answer = sharing.Answer(names, found, trusting)
        if plot:
            from btrimg.render.plot import curves

            drawn = curves(answer, os.path.splitext(plot)[1][1:])
            with open(plot, "wb") as file:
                file.write(drawn)
        print(
            json_line(sharing.estimate_object(answer))
            if as_json
            else "\n".join(sharing.estimate_lines(answer, units.text))
        )
        return 1 if any(image.faults for image in images) else 0


def _sources(
    targets: tuple[Target, ...], stack: ExitStack, **opening: Any
) -> tuple[list[Image], list[Source], list[str]]:
    """Return the images, the files of each, and the names of those who share."""
    import numpy as np

    from btrimg.cli.progress import counting
    from btrimg.pagecache.comparing import Source
    from btrimg.pagecache.filerows import of_image

    images, sources = [], []
    names = [_name(target) for target in targets]
    with counting("reading file extents", "images") as progress:
        for image, tops, numbers in open_all(targets, stack, **opening):
            rows = of_image(image, tops or ())
            images.append(image)
            if len(targets) == 1:
                ids, sharer = np.unique(rows.files.subvolume, return_inverse=True)
                names = [_name_of_subvolume(image, number) for number in ids.tolist()]
            else:
                sharer = np.array(numbers, np.int64)[rows.files.top]
            sources.append(Source(rows, sharer.astype(np.int64)))
            progress(1, int(rows.files.size.sum()))
    return images, sources, names


def _name(target: Target) -> str:
    return target.devices[0] + (":" + os.fsdecode(target.path) if target.path is not None else "")


def _name_of_subvolume(image: Image, subvolume: int) -> str:
    path = image.path_of_subvolume(subvolume)
    return f"subvolume {subvolume}" if path is None else os.fsdecode(path or b"/")

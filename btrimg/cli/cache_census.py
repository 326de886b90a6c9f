"""``btrimg cache census``: which pages of an image could be shared, and why the others could not."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from btrimg.cli.cache_options import DOMAINS, domains_of, open_all, parse_scheme
from btrimg.cli.command import Option, command
from btrimg.cli.parameters import JSON, OPENING, TARGET
from btrimg.cli.unit_options import UNITS, take_units

if TYPE_CHECKING:
    from btrimg.cli.parameters import Target

_DEFAULT = ("device-posted", "device", "extent")


@command(
    TARGET,
    Option(
        "schemes",
        ("--scheme",),
        "Scheme of sharing; may be repeated. Without: device-posted, device and extent.",
        parse_scheme,
        "NAME",
        (),
        many=True,
    ),
    DOMAINS,
    *UNITS,
    JSON,
    *OPENING,
)
def census(target: Target, schemes: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Count the pages of all files by what becomes of them under a scheme of sharing.

    \b
      btrimg cache census disk.img
      btrimg cache census disk.img:/snapshots --scheme extent --scheme content
      btrimg cache census --domain web=/web,/web-old --domain db=258 disk.img

    Sizes are whole pages of 4096 bytes, each file counted once. Shared is what has the key of another page; alone what
    could be shared, but nobody else has it. The rows below say why pages stay with their inode; holes are pages of
    zeros, which the kernel holds for each inode. In memory is what all files together take when all was read, without
    holes. Read wrong is what the patches of 2021 (device-posted) would read from somewhere else, by defect. Schemes
    are explained in docs/page-sharing.md. What cannot be read is named in a warning; the exit code is then 1.

    JSON, one object for each scheme, in bytes: "scheme", "total", "shared", "alone", "refused" by reason, "in_memory"
    (with holes), "wrong" by defect, and "unchecked": read without looking at the checksum that there is.
    """
    from btrimg.cli.progress import counting
    from btrimg.pagecache.census import take
    from btrimg.pagecache.filerows import of_image
    from btrimg.render import sharing
    from btrimg.render.answers import json_line

    units, domains = take_units(options), options.pop("domains")
    with ExitStack() as stack:
        opened = next(open_all([target], stack, **options))
        trusted = domains_of(domains, [opened.image])
        outcomes = []
        with counting("counting pages", "schemes") as progress:
            rows = of_image(opened.image, opened.tops or ())
            for scheme in dict.fromkeys(schemes or _DEFAULT):
                outcomes.append(take(rows, scheme, trusted))
                progress(1, outcomes[-1].pages << 12)
        lines = map(json_line, map(sharing.census_object, outcomes))
        print("\n".join(lines if as_json else sharing.census_lines(outcomes, units.text)))
        return 1 if opened.image.faults else 0

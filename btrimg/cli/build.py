"""``btrimg build``: make an image, of a recipe, a directory or tar archives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import JSON, size_option, source_date_epoch, warn
from btrimg.cli.progress import counting
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.cli.terminal import standard_input
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.build.image import Built, Operations
    from btrimg.build.recipe import Origin, Recipe
    from btrimg.build.values import Filesystem, FromDirectory

# What of the table [filesystem] can be said on the command line: option, metavar, help.
_CHOICES = (
    ("label", "TEXT", "Label of the filesystem."),
    ("uuid", "UUID", "Uuid of the filesystem."),
    ("seed", "TEXT", "What all other uuids, and random content, come from."),
    ("csum", "NAME", "Checksum: crc32c, xxhash, sha256 or blake2."),
    ("nodesize", "SIZE", "Bytes of a tree block."),
    ("sectorsize", "SIZE", "Bytes of a sector."),
    ("data", "PROFILE", "Profile of data: single, dup, raid0, raid1, raid1c3, raid1c4, raid10, raid5, raid6."),
    ("metadata", "PROFILE", "Profile of metadata."),
    ("compress", "ALGO[:LEVEL]", "How files are compressed: zlib, lzo, zstd, or none."),
    ("size", "SIZE", "Bytes of each device; without, as many as are needed."),
)

_AS_THEY_STAND = ("label", "seed")  # which need no escapes on a command line


@command(
    Argument("recipe", "RECIPE", str, is_path=True, optional=True),
    Option("output", ("-o", "--output"), "Image to make; one for each device.", str, "IMAGE", many=True, is_path=True),
    Option("from_dir", ("--from-dir",), "Copy this directory into it.", str, "DIR", many=True, is_path=True),
    Option(
        *("from_tar", ("--from-tar",), "Unpack this archive into it, - for stdin; each a snapshot of the last."),
        convert=str,
        metavar="FILE",
        many=True,
        is_path=True,
    ),
    Option("owner", ("--owner",), "Owner of all that is copied or unpacked: 0:0 for root.", str, "UID:GID"),
    Option(
        *("exclude", ("--exclude",), "Leave out files of DIR with this name, or path if there is a / in it."),
        convert=str,
        metavar="PATTERN",
        many=True,
    ),
    Option("one_filesystem", ("--one-file-system",), "Leave out what is mounted below DIR."),
    *(Option(name, (f"--{name}",), text, str, metavar) for name, metavar, text in _CHOICES),
    Option(
        "feature", ("-O", "--features"), "Features as of mkfs.btrfs -O, with ^ to turn off.", str, "LIST", many=True
    ),
    Option("mixed", ("--mixed",), "Data and metadata in the same block groups."),
    Option("dedupe", ("--dedupe",), "Store equal content once."),
    Option("shrink", ("--shrink",), "Cut the image off where nothing more is used."),
    size_option("slack", "--slack", "With --shrink: bytes to leave free behind that."),
    Option("force", ("--force",), "Replace images that exist."),
    JSON,
)
def build(
    recipe: str | None,
    output: tuple[str, ...],
    from_dir: tuple[str, ...],
    from_tar: tuple[str, ...],
    owner: str | None,
    exclude: tuple[str, ...],
    one_filesystem: bool,
    force: bool,
    as_json: bool,
    **choices: Any,
) -> int:
    """Make an image: of a RECIPE, of directories, of tar archives. No root is needed, and nothing is mounted.

    \b
      btrimg build shared.toml -o shared.img
      btrimg build raid.toml -o disk1.img -o disk2.img -o disk3.img
      btrimg build --from-dir ./root --label root --compress zstd:9 --shrink -o root.img
      btrimg build --from-tar base.tar --from-tar app.tar -o layers.img
      docker export box | btrimg build --from-tar - -o box.img

    The language of recipes is in docs/recipes.md. The same recipe gives the same bytes, whenever and wherever: times
    that it does not say are SOURCE_DATE_EPOCH, else the start of 1970, and uuids come from its text, or from --seed.
    Options go before what the recipe says.

    Several archives are layers: each is unpacked into a snapshot of what the last one made, /layer-1, /layer-2, …;
    files named .wh.NAME delete, as in OCI images. The last one is the default subvolume, those before it are read-only.

    Of a directory all is kept: owners, modes, times, xattrs, hard links and holes; with SOURCE_DATE_EPOCH no time is
    later than that. Directories where other filesystems are mounted are entered.

    Images are sparse files, which take their names when they are complete. JSON, one object: "fsid", "label",
    "bytes_used", "generation", and "devices" with "devid", "device" and "size".
    """
    from btrimg.build.image import START_OF_TIME, build_image
    from btrimg.ondisk.inodes import Timespec

    clean_up_when_stopped()
    _require(output, recipe or from_dir or from_tar, from_tar)
    _refuse_sources(output, [path for path in (recipe, *from_tar) if path and os.path.exists(path)])
    read, epoch, ids = _read(recipe), source_date_epoch(), _owner(owner)
    filesystem = _filesystem(read.filesystem, choices, len(output), recipe=bool(recipe))
    directories = [_directory(path, exclude, ids, one_filesystem=one_filesystem) for path in from_dir]
    archives = [(path, ids) for path in from_tar]
    with counting("building", "things") as progress:
        built = build_image(
            filesystem,
            _operations(read, directories, archives),
            output,
            directory=read.directory,
            now=START_OF_TIME if epoch is None else Timespec(epoch, 0),
            latest=None if epoch is None else epoch * 10**9,
            force=force,
            progress=progress,
            warn=warn,
        )
    _show(built, output, as_json=as_json)
    return 0


def _require(output: Sequence[str], sources: object, from_tar: Sequence[str]) -> None:
    """Raise BtrimgError when it is not said what to build, or where to, or standard input cannot be what it is for."""
    if not output:
        raise BtrimgError("say where to write: -o IMAGE, once for each device")
    if not sources:
        raise BtrimgError("say what to build: a RECIPE, --from-dir DIR or --from-tar FILE")
    if "-" in from_tar:
        standard_input("--from-tar -")
    if from_tar.count("-") > 1:
        raise BtrimgError("--from-tar -: standard input holds one archive")


def _refuse_sources(outputs: Sequence[str], sources: Sequence[str]) -> None:
    """Raise BtrimgError when an output is one of *sources*, files that are there: with --force it would be replaced."""
    for output in filter(os.path.exists, outputs):
        if any(os.path.samefile(output, source) for source in sources):
            raise BtrimgError(f"{output} would be replaced, and is read; name another file")


def _read(recipe: str | None) -> Recipe:
    from btrimg.build.recipe import load_recipe, parse_recipe

    return load_recipe(recipe) if recipe else parse_recipe(b"", "no recipe")


def _filesystem(filesystem: Filesystem, choices: dict[str, Any], outputs: int, *, recipe: bool) -> Filesystem:
    """Return the filesystem of the recipe, changed as options say; without a recipe it has a device for each output."""
    from btrimg.build.filesystem import KEYS

    if not recipe:
        filesystem = filesystem._replace(sizes=(None,) * outputs)
    given: dict[str, Any] = {}
    for name, _, _ in _CHOICES:
        if choices[name] is not None:
            try:
                given[name] = (os.fsencode if name in _AS_THEY_STAND else KEYS[name])(choices[name])
            except ValueError as error:
                raise BtrimgError(f"--{name}: {error}") from None
    if "size" in given:
        given["sizes"] = (given.pop("size"),) * len(filesystem.sizes)
    given |= {name: True for name in ("mixed", "dedupe", "shrink") if choices[name]}
    if choices["feature"]:
        words = [word for each in choices["feature"] for word in each.split(",")]
        given["features"] = (*filesystem.features, *words)
    if choices["slack"] is not None:
        given["slack"] = choices["slack"]
        if not (given.get("shrink") or filesystem.shrink):
            raise BtrimgError("--slack goes with --shrink")
    return filesystem._replace(**given)


def _owner(text: str | None) -> tuple[int, int] | None:
    from btrimg.build.readers import read_owner

    try:
        return None if text is None else read_owner(text)
    except ValueError as error:
        raise BtrimgError(f"--owner: {error}") from None


def _directory(
    path: str, exclude: Sequence[str], owner: tuple[int, int] | None, *, one_filesystem: bool
) -> tuple[Origin, FromDirectory]:
    from btrimg.build.recipe import Origin
    from btrimg.build.values import FromDirectory, Storage

    if not path:  # what a variable that is not set leaves
        raise BtrimgError("--from-dir names no directory; . is the one that you are in")
    host, patterns = os.fsencode(os.path.abspath(path)), tuple(map(os.fsencode, exclude))
    operation = FromDirectory(host, b"/", Storage(), patterns, one_filesystem, owner)
    return Origin(f"--from-dir {path}", None, "", "", None), operation


def _operations(
    recipe: Recipe,
    directories: Sequence[tuple[Origin, FromDirectory]],
    archives: Sequence[tuple[str, tuple[int, int] | None]],
) -> Operations:
    """Yield what the recipe says, then what options add."""
    from btrimg.build import values
    from btrimg.build.hostfiles import STDIN
    from btrimg.build.recipe import Origin

    yield from recipe.operations()
    yield from directories
    layered = len(archives) > 1
    for number, (path, owner) in enumerate(archives, 1):
        origin = Origin(f"--from-tar {path}", None, "", "", None)
        host = STDIN if path == "-" else os.fsencode(os.path.abspath(path))
        layer = b"/layer-%d" % number if layered else b"/"
        if layered and number == 1:
            yield origin, values.MakeSubvolume(layer, None, values.Attributes())
        elif layered:
            yield origin, values.MakeSnapshot(layer, b"/layer-%d" % (number - 1), readonly=False, uuid=None)
        yield origin, values.FromTar(host, layer, True, values.Storage(), owner)
    for number in range(1, len(archives)):
        yield origin, values.Change(b"/layer-%d" % number, values.Attributes(), (), True)
    if layered:
        yield origin, values.SetDefault(layer)


def _show(built: Built, outputs: Sequence[str], *, as_json: bool) -> None:
    """Tell what was made."""
    from uuid import UUID

    from btrimg.render.answers import json_line, name
    from btrimg.units import format_size

    fsid = str(UUID(bytes=built.fsid))
    if as_json:
        devices = [
            {"devid": devid, "device": name(os.fsencode(path)), "size": built.sizes[devid]}
            for devid, path in enumerate(outputs, 1)
        ]
        answer = {"fsid": fsid, "label": name(built.label), "bytes_used": built.bytes_used}
        print(json_line(answer | {"generation": built.generation, "devices": devices}))
        return
    for devid, path in enumerate(outputs, 1):
        print(f"{path}: device {devid} of {fsid}, {format_size(built.sizes[devid])}")
    print(f"{format_size(built.bytes_used)} are used")

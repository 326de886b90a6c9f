"""``btrimg corrupt``: change any field of an image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from btrimg.cli.command import Argument, Option, command
from btrimg.cli.parameters import FORCE, FURTHER_DEVICES, JSON, open_target, parse_target
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.errors import BtrimgError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.cli.parameters import Target
    from btrimg.volume.draft import Piece


@command(
    Argument("target", "IMAGE", parse_target, is_path=True),
    Argument("edits", "TARGET=VALUE...", str, many=True),
    Option("output", ("--output",), "Write the changed copy here.", str, "FILE", is_path=True),
    Option("in_place", ("--in-place",), "Change IMAGE itself."),
    JSON,
    FURTHER_DEVICES,
    FORCE,
)
def corrupt(
    target: Target,
    edits: tuple[str, ...],
    output: str | None,
    in_place: bool,
    as_json: bool,
    device: tuple[str, ...],
    force: bool,
) -> int:
    """Change fields of an image on purpose, to see what others make of it; checksums are made right.

    Never mount what comes of it: kernels crash on crafted images.

    \b
      btrimg corrupt disk.img /a/file:INODE_ITEM/nlink=7 --output bad.img
      btrimg corrupt disk.img fs/257.INODE_ITEM/size+=1 root/5.ROOT_ITEM/refs=0 --output bad.img
      btrimg corrupt disk.img fs/256.DIR_INDEX.2=none --in-place
      btrimg corrupt disk.img 'extent/*.EXTENT_ITEM.*[3]/InlineDataRef[0].count=2' --output bad.img
      btrimg corrupt disk.img 'chunk@root/header.generation-=1@mirror:1' --output bad.img
      btrimg corrupt disk.img super/bytes_used+=4096 'super/super_roots[0].tree_root=0' --output bad.img
      btrimg corrupt disk.img 'data/{/a/file:EXTENT_DATA.0/disk_bytenr}^=0xff@keep-csum' --output bad.img

    TARGET is a field of an item, TREE/OBJECTID.TYPE.OFFSET/FIELD or /PATH:TYPE.OFFSET/FIELD; of a tree block,
    TREE@LEVEL/KEY/FIELD or block@LOGICAL/FIELD; super/FIELD; data/LOGICAL; csum-of/LOGICAL; parity-p/LOGICAL;
    parity-q/LOGICAL; device/DEVID/PHYSICAL. All of the language is in docs/corrupt.md.

    Edits are applied in order, in memory; only when all of them have been found possible is anything written. With
    further devices, FILE is a directory for all of them. JSON, one object for each run of changed bytes: "devid",
    "device", "physical", "before", "after" (hexadecimal).
    """
    from btrimg.corrupt.engine import Corruptor
    from btrimg.volume.draft import write_pieces

    if target.path is not None:
        raise BtrimgError("name an image, not a file in it; the edits name files")
    if in_place == bool(output):
        raise BtrimgError("say where to write: --output FILE for a changed copy, or --in-place to change IMAGE itself")
    with open_target(target, device=device, force=force) as opened:
        corruptor = Corruptor(opened)
        corruptor.apply(edits)
        pieces = list(corruptor.pieces())
        paths = {devid: each.path for devid, each in opened.volume.devices.items()}
    if in_place:
        write_pieces(paths, pieces)
    else:
        write_copies((*target.devices, *device), str(output), paths, pieces)
    show(paths, pieces, as_json=as_json)
    return 0


def write_copies(devices: Sequence[str], output: str, paths: dict[int, str], pieces: Sequence[Piece]) -> None:
    """Copy *devices* to *output* (a directory, if they are several) with *pieces* changed: whole, or not at all."""
    from btrimg.cli.progress import counting
    from btrimg.volume.copying import copies
    from btrimg.volume.draft import write_pieces

    clean_up_when_stopped()
    with counting("copying", "devices") as progress, copies(devices, output, progress) as made:
        write_pieces({devid: made[devices.index(path)] for devid, path in paths.items()}, pieces)


def show(paths: dict[int, str], pieces: Sequence[Piece], *, as_json: bool) -> None:
    """Tell what was changed."""
    from btrimg.render.answers import json_line, name

    for piece in pieces:
        place: dict[str, Any] = {"devid": piece.devid, "device": name(os.fsencode(paths[piece.devid]))}
        if as_json:
            print(
                json_line(
                    place | {"physical": piece.physical, "before": piece.before.hex(), "after": piece.after.hex()}
                )
            )
        else:
            print(f"device {piece.devid} at {piece.physical}: {_short(piece.before)} -> {_short(piece.after)}")


def _short(data: bytes) -> str:
    return data.hex() if len(data) <= 16 else f"{data[:16].hex()}… ({len(data)} bytes)"

"""What the commands of ``btrimg cache`` share: several images and paths, trust domains, schemes."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from btrimg.cli.command import Option
from btrimg.cli.parameters import TARGET, TOP_LEVEL, open_inode, open_target
from btrimg.errors import BtrimgError, NotFoundError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack
    from typing import Any

    from btrimg.cli.parameters import Target
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.pagecache.schemes import Domains


class NamedDomain(NamedTuple):
    """A trust domain as it was typed: subvolumes by id or path."""

    name: str
    subvolumes: tuple[str, ...]


def parse_domain(text: str) -> NamedDomain:
    """Return what NAME=SUBVOLUME,SUBVOLUME… says; raise ValueError with a sentence."""
    name, equals, members = text.partition("=")
    subvolumes = tuple(word for word in members.split(",") if word)
    if not name or not equals or not subvolumes:
        raise ValueError(f"{text!a} is no trust domain; write NAME=SUBVOLUME,SUBVOLUME with ids or paths")
    return NamedDomain(name, subvolumes)


SCHEME_NAMES = ("none", "inode", "device-posted", "device", "extent", "same-offset", "whole-file", "content")


def parse_scheme(text: str) -> str:
    """Return the name of a scheme of sharing; raise ValueError with a sentence that lists them."""
    if text not in SCHEME_NAMES:
        raise ValueError(f"{text!a} is no scheme; there are {', '.join(SCHEME_NAMES)}")
    return text


TARGETS = TARGET._replace(name="targets", many=True)
DOMAINS = Option(
    "domains",
    ("--domain",),
    "Share only within these subvolumes, given by id or path; may be repeated. A subvolume in no domain is alone.",
    parse_domain,
    "NAME=SUBVOLUME,…",
    (),
    many=True,
)


class Opened(NamedTuple):
    """A filesystem and what was named in it, in the order of the arguments; None where all of it was."""

    image: Image
    tops: list[Inode] | None
    numbers: list[int]  #: of the arguments


def open_all(targets: Sequence[Target], stack: ExitStack, **opening: Any) -> Iterator[Opened]:
    """Yield every filesystem of *targets* once, to be closed by *stack*.

    A device given with ``-d`` belongs to the only filesystem there is.
    """
    order = sorted(range(len(targets)), key=lambda number: (targets[number].devices, number))
    groups = [list(numbers) for _, numbers in groupby(order, key=lambda number: targets[number].devices)]
    if len(groups) > 1 and opening["device"]:
        raise BtrimgError("--device says nothing about whose device it is when several images are named")
    for numbers in sorted(groups):
        image = stack.enter_context(open_target(targets[numbers[0]], **opening))
        whole = any(targets[number].path is None for number in numbers)
        if whole and len(numbers) > 1:
            raise BtrimgError(f"{targets[numbers[0]].devices[0]}: name the image, or paths in it, not both")
        tops = None if whole else [open_inode(image, targets[number], TOP_LEVEL) for number in numbers]
        yield Opened(image, tops, numbers)


def domains_of(named: Sequence[NamedDomain], images: Sequence[Image]) -> Domains:
    """Return the trust domains, with subvolumes that are there.

    Raises NotFoundError where one is not, BtrimgError where one is in two domains or there are several images.
    """
    from btrimg.pagecache.schemes import Domains

    if named and len(images) > 1:
        raise BtrimgError("--domain names subvolumes of one filesystem: give one image")
    found: dict[str, list[int]] = {}
    owner: dict[int, str] = {}
    for name, subvolumes in named:
        for text in subvolumes:
            subvolume = _subvolume_id(images[0], text)
            if owner.setdefault(subvolume, name) != name:
                raise BtrimgError(f"subvolume {subvolume} cannot be in both {owner[subvolume]!a} and {name!a}")
            found.setdefault(name, []).append(subvolume)
    return Domains(found)


def _subvolume_id(image: Image, text: str) -> int:
    if text.isdecimal():
        return image.subvolume(int(text)).id
    inode = image.open(text.encode("utf-8", "surrogateescape"))
    if not inode.is_subvolume:
        raise NotFoundError(f"{inode.quoted} is no subvolume")
    return inode.subvolume.id

"""Edits by chance of images that the kernel wrote, against a plain model; judges after commits, the kernel at the end.

With BTRIMG_EDITS=200 so many are made of an image of each cell of the matrix, without a few of some; BTRIMG_SEED (0) is
what they follow from. BTRIMG_EVERY=1 commits after each edit, to find the one that does harm. What fails says how to
run it again.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
from support import images, kernel
from support.afterlife import live_on
from support.bases import NEW_CACHE
from support.compare import compare
from support.judges import complaints, complaints_of_btrimg, complaints_of_progs
from support.matrix import name_of, options_of, variants
from support.model import Facts, facts_of, facts_of_image
from support.truth import record

from btrimg.build.recipe import parse_recipe
from btrimg.cli.command import load_from
from btrimg.cli.verbs import VERBS, Context
from btrimg.edit.session import Session
from btrimg.errors import BtrimgError, NotFoundError, RefusedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.inodes import Timespec
from btrimg.write.uuids import seeded

from .plainfiles import PlainFiles
from .plainnodes import NotAllowedError, NotThereError
from .scripts import Chance
from .sessions import undone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from support.images import KernelImage
    from support.matrix import Variant

    from .scripts import Edit

EDITS = int(os.environ.get("BTRIMG_EDITS", "0"))
SEED = os.environ.get("BTRIMG_SEED", "0")
EVERY = int(os.environ.get("BTRIMG_EVERY", "0"))
FEW = 24
BEGINNING = 1_900_000_000  # seconds since 1970; each commit is a minute later
CELLS = variants() if EDITS else [variants()[0], variants()[9]]  # of one device, and of several
_PIECE = 1 << 20  # bytes
_SHOWN = 25  # edits before one that fails


class Editing:
    """Edits of the image on *devices*, which is changed; *counts* are of edits by verb, and of commits."""

    def __init__(self, devices: Sequence[str], directory: str, seed: str) -> None:
        self.devices, self._directory, self._seed = devices, directory, seed
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self.undo_files: list[str] = []
        self._warnings: list[str] = []
        os.mkdir(os.path.join(directory, "host"))
        self._chance = Chance(f"{seed} edits", os.path.join(directory, "host"))
        self._sizes = Random(f"{seed} commits")
        with open_image(devices, warn=self._warnings.append) as image:
            self.model = PlainFiles(image, 0)
        self._begin()

    def _begin(self) -> None:
        """Let the next commit be one of a session of its own, as of another command."""
        number = len(self.undo_files)
        self.undo_files.append(os.path.join(self._directory, f"undo {number}"))
        now = Timespec(BEGINNING + 60 * number, 1_000_003 * number % 10**9)
        self.model.now = now.sec * 10**9 + now.nsec
        uuids = seeded(b"edits %d" % number)

        def session() -> Session:
            return Session(self.devices, undo=self.undo_files[-1], now=now, uuids=uuids, report=self._warnings.append)

        self._context = Context(session)

    def run(self, count: int) -> None:
        """Do so many edits, in commits of 10 to 25."""
        done = 0
        while done < count:
            if self._sizes.randrange(6) == 0 and not EVERY:
                self._in_vain()
            some = min(EVERY or self._sizes.randrange(10, 26), count - done)
            for _ in range(some):
                self._do(edit := self._chance.next(self.model))
                done += 1
                if edit.verb == "script":  # by itself, as the command takes it
                    break
            self._commit(last=done == count)

    def _in_vain(self) -> None:
        """Do an edit or two, and forget them; the seed of the next ones goes on."""
        kept = self.model.copied()
        for _ in range(self._sizes.randrange(1, 3)):
            edit = self._chance.next(self.model)
            if edit.verb != "script":
                self._do(edit)
        self.log.append("abort")
        self.counts["abort"] += 1
        self._context.abort()
        self.model = kept

    def _do(self, edit: Edit) -> None:
        """Do an edit, and let the model do the same; both refuse it, or none."""
        if edit.verb == "script" and self._context.is_open and self._context.session.pending:
            self._commit(last=False)
        self.log.append(str(edit))
        self.counts[edit.verb] += 1
        expected = got = ""
        try:
            edit.do(self.model)
        except NotThereError:
            expected = "not there"
        except NotAllowedError as error:
            expected = f"refused: {error}"
        try:
            self._perform(edit.words)
        except NotFoundError as error:
            got = f"not there: {error}"
        except RefusedError as error:
            got = f"refused: {error}"
        alike = expected.partition(":")[0] == got.partition(":")[0]
        both = expected and got and "read-only" in expected + got  # of two reasons, either
        assert alike or both, f"expected {expected!r}, got {got!r}"
        self.counts["refused"] += bool(expected)

    def _perform(self, words: Sequence[str]) -> None:
        if words[0] == "--script":
            recipe = parse_recipe(words[1].encode(), "script", is_edit=True)
            self._context.files.run(recipe, lambda _things, _bytes: None)
            return
        count = 2 if tuple(words[:2]) in VERBS else 1
        verb = load_from(VERBS, tuple(words[:count]))
        given = verb.parse(words[count:])
        assert given is not None, "these are no words of a command"
        assert verb.run(self._context, **given) == 0

    def _commit(self, *, last: bool) -> None:
        self.log.append("commit")
        self.counts["commit"] += 1
        self._context.commit()
        self._context.close()
        faults: list[object] = [*self._warnings]
        if last:
            faults += complaints(self.devices)
        elif EDITS and not EVERY:
            faults += complaints_of_btrimg(self.devices) + complaints_of_progs(self.devices, ["original"])
        with open_image(self.devices, warn=self._warnings.append) as image:
            faults += differences(facts_of_image(image), self.model.facts())
            faults += self.model.faults(image)
        assert not faults, faults
        self._begin()

    def taken_back(self, base: Sequence[str]) -> None:
        """Undo all of it on a copy, which is *base* then, to the byte."""
        back = images.copy_sparse(self.devices, os.path.join(self._directory, "back"))
        for undo in reversed([each for each in self.undo_files if os.path.exists(each)]):
            undone(back, undo)
        assert all(map(are_equal, back, base))
        for path in back:
            os.unlink(path)

    def live_on(self) -> None:
        """Let the kernel see what the model says, and go on with it."""
        copied = images.copy_sparse(self.devices, os.path.join(self._directory, "copied"))
        with kernel.mount(self.devices) as top:
            truth = record(top)
            faults = differences(facts_of(truth), self.model.facts())
            assert not faults, faults
            with open_image(copied) as image:
                compare(image, truth)  # places of extents, too, of which the model has said which are shared
            live_on(top)
            self._delete(os.fsencode(top))
            kernel.finish_deletions(top)
        assert complaints(self.devices) == []

    def _delete(self, top: bytes) -> None:
        """Let the kernel delete subvolumes in which no others are, and half of the rest."""
        kernel.set_default_subvolume(os.fsdecode(top), kernel.TOP_LEVEL)
        subvolumes = [path for path, _, node in self.model.walk() if node.is_subvolume and path != b"/"]
        for path in subvolumes:
            is_last = not any(each.startswith(path + b"/") for each in subvolumes)
            if is_last and not self.model.look(path).subvolume.is_read_only:
                kernel.delete_subvolume(top + path)
        for name in sorted(os.listdir(top))[::2]:
            subprocess.run(
                [b"rm", b"-rf", top + b"/" + name], stderr=subprocess.DEVNULL, check=False
            )  # but read-only ones


def differences(found: Mapping[bytes, Facts], wanted: Mapping[bytes, Facts]) -> list[str]:
    """Return a sentence for each path that is not what it is to be."""
    told = []
    for path in sorted(found.keys() | wanted.keys()):
        is_, shall = found.get(path), wanted.get(path)
        if is_ is None or shall is None:
            told.append(f"{path!r} is {'not ' if is_ is None else ''}there")
        elif is_ != shall:
            fields = [
                f"{name} is {a!r:.300}, shall be {b!r:.300}"
                for name, a, b in zip(Facts._fields, is_, shall, strict=True)
                if a != b
            ]
            told.append(f"{path!r}: {', '.join(fields)}")
    return told


def are_equal(path: str, other: str) -> bool:
    """Return whether files have the same bytes; filecmp would believe their times."""
    if os.path.getsize(path) != os.path.getsize(other):
        return False
    with open(path, "rb") as one, open(other, "rb") as two:
        while piece := one.read(_PIECE):
            if piece != two.read(_PIECE):
                return False
    return True


@pytest.mark.kernel
@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_random_edits_agree_with_the_model_and_the_kernel(
    kernel_image: Callable[..., KernelImage], tmp_path: Path, cell: Variant, record_property: Callable[..., None]
) -> None:
    options = options_of(cell)
    if EDITS:  # the kernel finds no room to balance all of a small one, edited or not; of raid1c4 2 GiB are small
        options |= {"size": 4 << 30}
    base = kernel_image(**options).copy(str(tmp_path / "base"))
    with kernel.mount(base, options=NEW_CACHE):
        pass
    editing = Editing(images.copy_sparse(base, str(tmp_path / "image")), str(tmp_path), f"{SEED} {name_of(cell)}")
    try:
        editing.run(EDITS or FEW)
        editing.taken_back(base)
        if EDITS or cell == CELLS[0]:
            editing.live_on()
    except (AssertionError, BtrimgError, OSError, RuntimeError) as error:
        shown = "\n".join(f"    {each[:300]}" for each in editing.log[-_SHOWN:])
        again = f"BTRIMG_EDITS={EDITS or FEW} BTRIMG_SEED={SEED} pytest '{__file__}' -k {name_of(cell)}"
        error.add_note(f"the last edits:\n{shown}\nto run it again: {again}")
        raise
    finally:
        for verb, times in editing.counts.items():
            record_property(verb, times)

"""Random edits of images that the kernel wrote, against a plain model; checks after each commit, the kernel at the end.

With BTRIMG_EDITS=100 so many images are edited by scripts of up to 200 edits; without, one is by a short one.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import stat
import tempfile
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from support import images, kernel
from support.afterlife import live_on
from support.bases import NEW_CACHE
from support.compare import compare
from support.editmodel import BLOCK, EditModel
from support.judges import complaints
from support.matrix import name_of, options_of, variants
from support.model import facts_of, facts_of_image
from support.truth import record

from btrimg.build import values
from btrimg.build.values import Attributes, Content, Storage
from btrimg.edit.filesystem import label_pieces
from btrimg.edit.session import Session
from btrimg.edit.verbs import FileEditor
from btrimg.errors import RefusedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.inodes import Timespec
from btrimg.write.uuids import seeded

from .sessions import undone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage
    from support.matrix import Variant

MANY = int(os.environ.get("BTRIMG_EDITS", "0"))
STEPS = 200 if MANY else 24
NOW = Timespec(1_900_000_000, 123_456_789)
AS_IS = Attributes()
_MOST_SNAPSHOTS = 4  # each has a thousand files, all of which are compared

numbers = st.integers(0, 1 << 30)
sizes = st.one_of(st.integers(0, 6000), st.integers(0, 300_000), st.sampled_from([0, 1, BLOCK, 5 * BLOCK, 128 << 10]))


def noise(seed: int, size: int) -> bytes:
    return Random(seed).randbytes(size)


class Editing(RuleBasedStateMachine):
    """One session of edits on a copy of an image."""

    base: Sequence[str]

    @initialize()
    def begin(self) -> None:
        self.stack, self.changed, self.failed = ExitStack(), False, False
        self.directory = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="btrimg-edits-"))
        self.devices: Sequence[str] = images.copy_sparse(self.base, os.path.join(self.directory, "image"))
        self.undo = os.path.join(self.directory, "undo")
        self.session = self.stack.enter_context(
            Session(self.devices, undo=self.undo, now=NOW, uuids=seeded(b"edits"), report=note)
        )
        self.files = FileEditor(self.session, warn=note)
        self.stack.callback(lambda: self.files.close())
        self.model = EditModel(self.session.image, NOW.sec * 10**9 + NOW.nsec)
        self.committed = copy.deepcopy(self.model)
        self.names = self.snapshots = self.commits = 0

    def do(self, edit: Callable[[], None], *operations: object) -> None:
        """Do an edit, and let the model do the same."""
        note(f"{operations}"[:300])
        edit()
        for operation in operations:
            getattr(self.model, f"do_{type(operation).__name__}")(operation)
        self.changed = True

    def pick(self, number: int, kind: int) -> bytes | None:
        found = self.model.chosen(kind)
        return found[number % len(found)] if found else None

    def new(self, number: int) -> bytes:
        """Return a path where nothing is."""
        self.names += 1
        return self.inside(self.pick(number, stat.S_IFDIR) or b"/", b"edit %d" % self.names)

    def inside(self, directory: bytes, name: bytes) -> bytes:
        return directory.rstrip(b"/") + b"/" + name

    def subvolume_of(self, path: bytes) -> bytes:
        return max((each for each in (b"", *self.model.subvolumes()) if (path + b"/").startswith(each + b"/")), key=len)

    # Files

    @rule(where=numbers, seed=numbers, size=sizes)
    def put(self, where: int, seed: int, size: int) -> None:
        path, data = self.new(where), noise(seed, size)
        parts = (values.Part("data", 0, size, Content("bytes", data, size), Storage()),) if size else ()
        self.do(
            lambda: self.files.put([b"-"], path, Storage(), (3, 4), io.BytesIO(data)),
            values.MakeFile(path, parts, None, Storage(), Attributes(uid=3, gid=4)),
        )

    @rule(where=numbers, seed=numbers, size=sizes)
    def put_from_host(self, where: int, seed: int, size: int) -> None:
        path, data = self.new(where), noise(seed, size)
        host = os.path.join(self.directory, "host")
        with open(host, "wb") as file:
            file.write(data)
        os.chmod(host, 0o640)
        os.utime(host, ns=(self.model.now, self.model.now))
        parts = (values.Part("data", 0, size, Content("bytes", data, size), Storage()),) if size else ()
        self.do(
            lambda: self.files.put([os.fsencode(host)], path, Storage(), (0, 0), None),
            values.MakeFile(path, parts, None, Storage(), Attributes(mode=0o640)),
        )

    @rule(where=numbers)
    def mkdir(self, where: int) -> None:
        path = self.new(where)
        self.do(
            lambda: self.files.make_directories([path], parents=False, mode=0o711, owner=None),
            values.MakeDirectory(path, Attributes(mode=0o711)),
        )

    @rule(which=numbers, kind=st.sampled_from([stat.S_IFREG, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR]))
    def remove(self, which: int, kind: int) -> None:
        path = self.pick(which, kind)
        node = self.model.find(path) if path else None
        if path is None or node is None or path == b"/" or node.is_subvolume:
            return
        if any(each.startswith(path + b"/") for each in self.model.subvolumes()):
            return  # deleting subvolumes has a rule of its own
        self.do(lambda: self.files.remove([path], recursive=True), values.Delete(path, True))

    @rule(which=numbers, where=numbers, kind=st.sampled_from([stat.S_IFREG, stat.S_IFDIR]))
    def move(self, which: int, where: int, kind: int) -> None:
        path, to = self.pick(which, kind), self.new(where)
        if path is None or path == b"/" or (to + b"/").startswith(path + b"/"):
            return
        if self.model.find(path).is_subvolume or self.subvolume_of(path) != self.subvolume_of(to):
            return
        self.do(lambda: self.files.move([path], to), values.Rename(path, to))

    @rule(which=numbers, where=numbers)
    def link(self, which: int, where: int) -> None:
        path, to = self.pick(which, stat.S_IFREG), self.new(where)
        if path is not None and self.subvolume_of(path) == self.subvolume_of(to):
            self.do(lambda: self.files.link(path, to, symbolic=False), values.MakeLink(to, path))

    @rule(where=numbers, text=st.binary(min_size=1, max_size=90).filter(lambda each: b"\0" not in each))
    def symlink(self, where: int, text: bytes) -> None:
        path = self.new(where)
        self.do(lambda: self.files.link(text, path, symbolic=True), values.MakeSymlink(path, text, AS_IS))

    # Contents

    @rule(which=numbers, offset=sizes, seed=numbers, size=sizes)
    def write(self, which: int, offset: int, seed: int, size: int) -> None:
        path, data = self.pick(which, stat.S_IFREG), noise(seed, size)
        if path is not None:
            content = Content("bytes", data, size)
            self.do(
                lambda: self.files.write(io.BytesIO(data), path, offset, Storage()),
                values.Write(path, offset, content, Storage()),
            )

    @rule(which=numbers, size=sizes)
    def truncate(self, which: int, size: int) -> None:
        path = self.pick(which, stat.S_IFREG)
        if path is not None:
            self.do(lambda: self.files.truncate([path], size), values.Truncate(path, size))

    @rule(which=numbers, offset=sizes, length=sizes)
    def punch(self, which: int, offset: int, length: int) -> None:
        path = self.pick(which, stat.S_IFREG)
        if path is not None and self.model.holds(path, offset, offset + length):
            self.do(lambda: self.files.punch(path, offset, length), values.Punch(path, offset, length))

    @rule(which=numbers, where=numbers, first=st.integers(0, 20), count=st.integers(1, 20), at=st.integers(0, 30))
    def reflink(self, which: int, where: int, first: int, count: int, at: int) -> None:
        source, target = self.pick(which, stat.S_IFREG), self.pick(where, stat.S_IFREG)
        if source is None or target is None or source == target:
            return
        size = len(self.model.find(source).data)
        if first * BLOCK >= size or self.model.find(source) is self.model.find(target):
            return
        length = None if (first + count) * BLOCK > size else count * BLOCK
        end = size - first * BLOCK if length is None else length
        if (at * BLOCK + end) % BLOCK and at * BLOCK + end < len(self.model.find(target).data):
            return  # the end of a file, in the middle of another
        try:
            self.do(
                lambda: self.files.reflink(source, first * BLOCK, length, target, at * BLOCK),
                values.Reflink(target, source, first * BLOCK, length, at * BLOCK),
            )
        except RefusedError as error:  # of two files one has checksums
            note(str(error))

    @rule(which=numbers, where=numbers)
    def clone(self, which: int, where: int) -> None:
        source, path = self.pick(which, stat.S_IFREG), self.new(where)
        if source is None or not self.model.find(source).data:
            return
        try:
            self.do(lambda: self.files.reflink(source, 0, None, path, 0), values.Reflink(path, source, 0, None, 0))
        except RefusedError as error:  # of two files one has checksums
            note(str(error))

    # Attributes

    @rule(which=numbers, kind=st.sampled_from([stat.S_IFREG, stat.S_IFDIR]), mode=st.integers(0, 0o777))
    def chmod(self, which: int, kind: int, mode: int) -> None:
        path = self.pick(which, kind)
        if path is not None:
            self.do(
                lambda: self.files.change_mode([path], lambda _: mode),
                values.Change(path, Attributes(mode=mode), (), None),
            )

    @rule(which=numbers, value=st.binary(max_size=3000))
    def set_xattr(self, which: int, value: bytes) -> None:
        path = self.pick(which, stat.S_IFREG)
        if path is not None:
            content = Content("bytes", value, len(value))
            self.do(
                lambda: self.files.set_xattr(path, b"user.edited", value),
                values.Change(path, Attributes(xattrs=((b"user.edited", content),)), (), None),
            )

    @rule(which=numbers, time=st.integers(0, 1 << 33))
    def touch(self, which: int, time: int) -> None:
        path, when = self.pick(which, stat.S_IFREG), Timespec(time, time % 10**9)
        if path is not None:
            said = Attributes(atime=when, mtime=when)
            self.do(lambda: self.files.touch([path], when, AS_IS, no_create=True), values.Change(path, said, (), None))

    # Subvolumes

    @rule(which=numbers, where=numbers, read_only=st.booleans())
    def snapshot(self, which: int, where: int, read_only: bool) -> None:
        found = [b"/", *self.model.subvolumes()]
        source, path = found[which % len(found)], self.new(where)
        if self.snapshots < _MOST_SNAPSHOTS and not (path + b"/").startswith(source.rstrip(b"/") + b"/edit"):
            self.snapshots += 1
            self.do(
                lambda: self.files.snapshot(source, path, read_only=read_only),
                values.MakeSnapshot(path, source, read_only, None),
            )

    @rule(where=numbers)
    def subvolume(self, where: int) -> None:
        path = self.new(where)
        self.do(lambda: self.files.create_subvolumes([path]), values.MakeSubvolume(path, None, AS_IS))

    @rule(which=numbers)
    def delete_subvolume(self, which: int) -> None:
        found = [path for path in self.model.subvolumes() if b"/edit " in path]
        if found:
            path = found[which % len(found)]
            self.do(lambda: self.files.delete_subvolumes([path], recursive=True), values.Delete(path, True))

    # The whole

    @precondition(lambda self: self.changed)
    @rule()
    def abort(self) -> None:
        self.files.close()
        self.session.abort()
        self.files = FileEditor(self.session, warn=note)
        self.model, self.changed = copy.deepcopy(self.committed), False

    @precondition(lambda self: not self.changed)
    @rule(number=numbers)
    def label(self, number: int) -> None:
        self.session.write_pieces(label_pieces(self.session.image, b"label %d" % number))

    @precondition(lambda self: self.changed)
    @rule()
    def commit(self) -> None:
        self.failed = True
        self.commits += 1
        self.session.commit()
        self.files.close()
        self.files = FileEditor(self.session, warn=note)
        self.committed, self.changed = copy.deepcopy(self.model), False
        assert complaints(self.devices) == []
        assert facts_of_image(self.session.image) == self.model.facts()
        assert list(self.model.sharing_faults(self.session.image)) == []
        self.failed = False

    def teardown(self) -> None:
        if not hasattr(self, "stack"):
            return
        with self.stack:
            if self.failed:
                return
            if self.changed:
                self.commit()
            if not self.commits:
                return
            self.session.close()
            self.take_back()
            with kernel.mount(self.devices) as top:
                truth = record(top)
                assert facts_of(truth) == self.model.facts()
                with open_image(self.copied, warn=note) as image:
                    compare(image, truth)
                live_on(top)
            assert complaints(self.devices) == []

    def take_back(self) -> None:
        """Undo all of it on a copy, which is the image that it was."""
        self.copied = images.copy_sparse(self.devices, os.path.join(self.directory, "copied"))
        if os.path.exists(self.undo):
            back = images.copy_sparse(self.devices, os.path.join(self.directory, "back"))
            undone(back, self.undo)
            assert list(map(digest, back)) == list(map(digest, self.base))


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


CELLS = variants()[:MANY] if MANY else variants()[:1]


@pytest.mark.kernel
@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_random_edits_agree_with_the_model_and_the_kernel(
    kernel_image: Callable[..., KernelImage], tmp_path: Path, cell: Variant
) -> None:
    options = options_of(cell)
    if MANY:  # the kernel finds no room to balance all of a small one, edited or not, and stops writing
        options |= {"size": 1 << 30}
    base = kernel_image(**options).copy(str(tmp_path))
    with kernel.mount(base, options=NEW_CACHE):
        pass
    machine = type("Editing", (Editing,), {"base": base})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(MANY // len(CELLS), 1) + 1,  # the first that is tried does nothing
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.generate, Phase.shrink) if MANY else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )

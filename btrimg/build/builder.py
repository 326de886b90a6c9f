"""Does what a recipe says, in transactions on a filesystem."""

from __future__ import annotations

import stat

from btrimg.build import attributes, values
from btrimg.build.content import Surroundings
from btrimg.build.filedata import FileData
from btrimg.build.hostfiles import HostFiles
from btrimg.build.paths import Paths, Spot
from btrimg.build.places import Places
from btrimg.build.values import Attributes
from btrimg.errors import BtrimgError, RecipeError, RefusedError
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.constants import FileType, InodeFlag, ItemType
from btrimg.write import fileextents, inodes, names, subvolumes, xattrs
from btrimg.write.collector import uncollected
from btrimg.write.data import DataSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Self

    from btrimg.build.crossing import Crossing
    from btrimg.build.filecontents import FileContents
    from btrimg.build.recipe import Origin
    from btrimg.build.values import Compression, Operation
    from btrimg.write.transaction import Transaction

_AT_ONCE = 100_000  # items that are kept in memory before a commit
_LOOK = 256  # operations after which they are counted


class Builder:
    """Changes the files of a filesystem by *txn* (context manager).

    Errors while something is done are RecipeErrors that name its entry. The caller commits what is left at the end.
    """

    def __init__(
        self,
        txn: Transaction,
        *,
        directory: bytes = b"",
        seed: bytes = b"",
        compress: Compression = values.Compression(0),  # noqa: B008 (it is frozen)
        dedupe: bool = False,
        latest: int | None = None,
        edit: bool = False,
        progress: Callable[[int, int], None] = lambda _things, _bytes: None,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Do things relative to the *directory* of the host; *progress* is told of things and bytes done.

        Times of files from the host that are after *latest*, in ns since 1970, become that. An *edit* is done as on a
        mounted filesystem, where what is new inherits from its directory, and is one commit; else, where much is done,
        there are commits in between.
        """
        self.txn = txn
        self._directory, self._seed, self._progress = directory, seed, progress
        self._edit = edit
        self._around = Surroundings(directory, seed, "")
        self._origin: Origin
        self._paths = Paths(txn)
        self._places = Places(txn, self._paths, edit=edit)
        self._sink = DataSink(txn)
        self._sink.sharing = dedupe
        self._data = FileData(txn, self._sink, self._paths, compress)
        self._host = HostFiles(
            txn, directory, self._paths, self._sink, self._data, latest=latest, edit=edit, progress=progress, warn=warn
        )
        self._crossing: Crossing | None = None  # of the renames that have followed each other
        self._contents: FileContents | None = None  # of files that are there, once something changes them

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what works beside the builder; the transaction stays as it is."""
        self._sink.close()

    @property
    def paths(self) -> Paths:
        """Return the names as they are now."""
        return self._paths

    def run(self, operations: Iterable[tuple[Origin, Operation]]) -> None:
        """Do all *operations*, in order; raise RecipeError for the first one that cannot be done."""
        from btrimg.build.together import batches

        with uncollected():
            count = 0
            for batch in batches(operations):
                self._do(batch)
                self._progress(1, 0)
                count += len(batch)
                if count >= _LOOK:
                    count = 0
                    self._relieve()
        self._data.refuse_unused()

    def _do(self, batch: Sequence[tuple[Origin, Operation]]) -> None:
        origin, operation = batch[0]
        self._origin, self._around = origin, Surroundings(self._directory, self._seed, origin.label)
        try:
            if isinstance(operation, values.Put):
                self._put([do for _, do in batch if isinstance(do, values.Put)], [each for each, _ in batch])
            elif len(batch) > 1:
                self._clone([do for _, do in batch if isinstance(do, values.Reflink)], [each for each, _ in batch])
            else:
                self._do_one(operation)
        except RecipeError:
            raise
        except BtrimgError as error:
            raise self._origin.error(str(error)) from None

    def do(self, operation: Operation) -> None:
        """Do a single operation that stands in no recipe; what goes wrong is raised as it is."""
        self._around = Surroundings(self._directory, self._seed, "")
        self._places.forget_times()  # those of a recipe stay, whatever comes next; each of these is done for itself
        if isinstance(operation, values.Put):
            self._put([operation])
        else:
            self._do_one(operation)

    def _do_one(self, operation: Operation) -> None:
        if self._edit:
            from btrimg.build.inherit import inherited

            if isinstance(operation, values.MakeDirectory):
                for path in self._paths.missing(operation.path)[:-1]:
                    self._do_one(values.MakeDirectory(path, Attributes()))
            operation = inherited(operation, self._paths)
        if not isinstance(operation, values.Rename):
            self._crossing = None
        if do := _DO.get(type(operation)):
            do(self, operation)
        else:
            self._of_files.do(operation, self._around)

    @property
    def _of_files(self) -> FileContents:
        """Return what changes the contents of files that are there."""
        if self._contents is None:
            from btrimg.build.filecontents import FileContents

            self._contents = FileContents(
                self._paths, self._places, self._data, edit=self._edit, progress=self._progress
            )
        return self._contents

    def _clone(self, reflinks: Sequence[values.Reflink], origins: Sequence[Origin]) -> None:
        """Let files of one directory share all of one source."""

        def begun(number: int) -> None:
            self._origin = origins[number]

        self._of_files.clone(reflinks, begun, self._around)

    def _relieve(self) -> None:
        """Give memory back when much is pending."""
        changed = self.txn.changed_trees()
        if sum(self.txn.tree(tree_id).pending for tree_id in changed) <= _AT_ONCE:
            return
        if not self._edit:
            self.txn.commit()
            return
        for tree_id in changed:
            self.txn.flush(tree_id)

    # Names

    def _make_directory(self, do: values.MakeDirectory) -> None:
        missing = self._paths.missing(do.path)
        if not missing:
            raise RefusedError("is there already")
        for path in missing:
            said = do.attributes if path == do.path else Attributes()
            parent, name = self._places.place(path)
            ino = attributes.create(parent, stat.S_IFDIR, said, self._around)
            self._places.enter(parent, name, ino, FileType.DIR)
            self._places.remember_times(Spot(parent.files, ino), said)

    def _make_file(self, do: values.MakeFile) -> None:
        parent, name = self._places.place(do.path)
        files = parent.files
        flags = attributes.flags_of(parent, stat.S_IFREG, do.attributes, self._around)
        laid = self._data.lay(do, flags, self._around)
        if laid.reserved:
            flags |= InodeFlag.PREALLOC
        ino = files.new_ino()
        nbytes = fileextents.lay(files, ino, laid.size, laid.pieces)
        size = laid.size
        attributes.create(
            parent, stat.S_IFREG, do.attributes, self._around, ino=ino, flags=flags, size=size, nbytes=nbytes
        )
        self._places.enter(parent, name, ino, FileType.REG_FILE)
        self._progress(0, size)

    def _make_symlink(self, do: values.MakeSymlink) -> None:
        parent, name = self._places.place(do.path)
        ino = attributes.create_symlink(parent, do.to, do.attributes, self._around)
        self._places.enter(parent, name, ino, FileType.SYMLINK)

    def _make_link(self, do: values.MakeLink) -> None:
        parent, name = self._places.place(do.path)
        files, ino = self._paths.find(do.to)
        if files is not parent.files:
            raise RefusedError(f"{quoted(do.to)} is in another subvolume: a hard link cannot leave its own")
        names.link(files, parent.ino, name, ino)
        self._places.touched(parent)

    def _make_node(self, do: values.MakeNode) -> None:
        parent, name = self._places.place(do.path)
        rdev = inodes.device_number(*do.device)
        ino = attributes.create(parent, do.kind, do.attributes, self._around, rdev=rdev)
        self._places.enter(parent, name, ino, inodes.file_type(do.kind))

    def _change(self, do: values.Change) -> None:
        if do.readonly is not None:
            files = self._places.subvolume(do.path)
            subvolumes.set_read_only(self.txn, files.id, read_only=do.readonly)
            self._places.set_read_only(files.id, do.readonly)
            if do._replace(readonly=None) == values.Change(do.path, Attributes(), (), None):
                return
        spot = self._places.to_change(do.path)
        for name in do.remove_xattrs:
            xattrs.remove(*spot, name)
        attributes.change(spot, do.attributes, self._around, in_step=self._edit)
        if do.add_flags or do.remove_flags:
            attributes.change_flags(spot, do.add_flags, do.remove_flags)
        if inodes.file_type(inodes.read(*spot).mode) == FileType.DIR:
            self._places.remember_times(spot, do.attributes)

    def _rename(self, do: values.Rename) -> None:
        old, name = self._places.changeable(*self._paths.parent(do.path))
        new, new_name = self._places.changeable(*self._paths.parent(do.to))
        if names.find(old.files, old.ino, name).location.type == ItemType.ROOT_ITEM:
            subvolumes.rename(old.files, old.ino, name, new.files, new.ino, new_name)
        elif old.files is not new.files:
            if self._crossing is None:
                from btrimg.build.crossing import Crossing

                self._crossing = Crossing(self._paths)
            self._crossing.move(old, name, new, new_name)
        else:
            from btrimg.write import moves

            moves.rename(old.files, old.ino, name, new.ino, new_name)
        self._paths.forget()
        self._places.touched(old)
        self._places.touched(new)

    def _delete(self, do: values.Delete) -> None:
        parent, name = self._places.changeable(*self._paths.parent(do.path))
        from btrimg.build.removal import remove, remove_tree

        if do.recursive:
            remove_tree(self._paths, parent, name)
        else:
            remove(self._paths, parent, name)
        self._paths.forget()
        self._places.touched(parent)

    # Subvolumes

    def _make_subvolume(self, do: values.MakeSubvolume) -> None:
        parent, name = self._places.place(do.path)
        said = do.attributes
        given = attributes.xattr_values(said, self._around)
        flags = (said.flags or 0) | xattrs.compression_flags(given.get(xattrs.COMPRESSION, b""))
        files = subvolumes.create(
            parent.files,
            parent.ino,
            name,
            mode=0o755 if said.mode is None else said.mode,
            uid=said.uid or 0,
            gid=said.gid or 0,
            flags=flags,
            times=attributes.times_of(said, parent),
            uuid=do.uuid,
        )
        self._paths.adopt(files)
        top = Spot(files, subvolumes.TOP_DIRECTORY)
        xattrs.put_all(*top, given)
        self._places.remember_times(top, said)
        self._places.touched(parent)

    def _make_snapshot(self, do: values.MakeSnapshot) -> None:
        parent, name = self._places.place(do.path)
        source = self._places.subvolume(do.of)
        files = subvolumes.snapshot(source, parent.files, parent.ino, name, read_only=do.readonly, uuid=do.uuid)
        self._paths.adopt(files)
        self._places.set_read_only(files.id, do.readonly)
        self._places.touched(parent)

    def _set_default(self, do: values.SetDefault) -> None:
        subvolumes.set_default(self.txn, self._places.subvolume(do.path).id)

    def _define_extent(self, do: values.DefineExtent) -> None:
        self._data.define(do, self._origin, self._around)

    # From the host

    def _from_directory(self, do: values.FromDirectory) -> None:
        self._host.from_directory(self._places.directory_to_change(do.to), do)

    def _from_tar(self, do: values.FromTar) -> None:
        self._host.from_tar(self._places.directory_to_change(do.to), do)

    def _put(self, puts: Sequence[values.Put], origins: Sequence[Origin] = ()) -> None:
        """Copy what goes to one directory, kept in one way."""
        parent, _ = self._places.changeable(*self._paths.parent(puts[0].path))
        given = {do.path.rpartition(b"/")[2]: origin for do, origin in zip(puts, origins, strict=False)}

        def told(path: bytes) -> None:
            if path in given:
                self._origin = given[path]

        self._host.put(parent, puts, told)
        self._places.touched(parent)

    # The clock, and the end of transactions

    def _set_clock(self, do: values.SetClock) -> None:
        self.txn.now = do.time

    def _commit(self, _: values.Commit) -> None:
        if self._edit:
            raise RefusedError("all of this is one commit: leave that out")
        self.txn.commit()


_DO: dict[type, Callable[[Builder, Any], None]] = {
    values.MakeDirectory: Builder._make_directory,
    values.MakeFile: Builder._make_file,
    values.MakeSymlink: Builder._make_symlink,
    values.MakeLink: Builder._make_link,
    values.MakeNode: Builder._make_node,
    values.Change: Builder._change,
    values.Rename: Builder._rename,
    values.Delete: Builder._delete,
    values.MakeSubvolume: Builder._make_subvolume,
    values.MakeSnapshot: Builder._make_snapshot,
    values.SetDefault: Builder._set_default,
    values.DefineExtent: Builder._define_extent,
    values.FromDirectory: Builder._from_directory,
    values.FromTar: Builder._from_tar,
    values.SetClock: Builder._set_clock,
    values.Commit: Builder._commit,
}

"""Files of the host on their way into directories of the image: from directories, archives, and one by one."""

from __future__ import annotations

import os
from functools import partial

from btrimg.errors import BtrimgError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from btrimg.build import values
    from btrimg.build.beside import Source
    from btrimg.build.entries import Entry
    from btrimg.build.filedata import FileData
    from btrimg.build.paths import Paths, Spot
    from btrimg.build.tree import TreeWriter
    from btrimg.build.values import Storage
    from btrimg.write.data import DataSink
    from btrimg.write.transaction import Transaction

STDIN = b"/dev/stdin"  #: the archive that is piped in


class HostFiles:
    """Copies what is below *directory* of the host; the parameters are those of a Builder, and its parts."""

    def __init__(
        self,
        txn: Transaction,
        directory: bytes,
        paths: Paths,
        sink: DataSink,
        data: FileData,
        *,
        latest: int | None,
        edit: bool,
        progress: Callable[[int, int], None],
        warn: Callable[[str], None],
    ) -> None:
        self._txn, self._directory, self._latest, self._edit = txn, directory, latest, edit
        self._paths, self._sink, self._data = paths, sink, data
        self._progress, self._warn = progress, warn

    def _written(self) -> set[tuple[int, int]]:
        """Return the files of the host that are being written."""
        devices = self._txn.volume.devices.values()
        return {(found.st_dev, found.st_ino) for found in (os.stat(device.path) for device in devices)}

    def from_directory(self, spot: Spot, do: values.FromDirectory) -> None:
        """Copy a directory into the one at *spot*."""
        from btrimg.build.directory import Selection, read_directory
        from btrimg.build.tree import TreeWriter

        selection = Selection(do.exclude, do.one_filesystem, do.owner, self._latest, self._written())
        host = os.path.join(self._directory, do.host)
        source = partial(read_directory, host, self._txn.volume.sectorsize, selection)
        self._grow(TreeWriter, spot, do.storage, source)

    def put(self, parent: Spot, puts: Sequence[values.Put], told: Callable[[bytes], None]) -> None:
        """Copy what goes to the directory *parent*, kept in one way; *told* hears of each path in it that is begun."""
        from btrimg.build.directory import Selection
        from btrimg.build.inherit import property_of, stored, with_property
        from btrimg.build.puts import MANY, read_puts
        from btrimg.build.tree import TreeWriter

        value = property_of(parent) if self._edit else None
        selection = Selection(latest=self._latest, without=self._written())
        sectorsize, now = self._txn.volume.sectorsize, self._txn.now
        source = partial(read_puts, puts, self._directory, sectorsize, selection, now)

        def heard(entries: Iterable[Entry]) -> Iterator[Entry]:
            for entry in entries:
                told(entry.path)
                yield with_property(entry, value) if value else entry

        writer = self._writer(TreeWriter, parent, stored(puts[0].storage, value), as_cp=True)
        if len(puts) < MANY:
            writer.add_all(heard(source(warn=self._warn)))
            return
        from btrimg.build.beside import read_beside

        with read_beside(source, self._warn) as entries:
            writer.add_all(heard(entries))

    def from_tar(self, spot: Spot, do: values.FromTar) -> None:
        """Unpack an archive into the directory at *spot*."""
        from btrimg.build.layer import LayerWriter
        from btrimg.build.tarball import read_tar
        from btrimg.build.tree import TreeWriter

        host = os.path.join(self._directory, do.host)
        name = ascii(os.fsdecode(host))
        try:
            # Standard input by its name would be opened anew: from its beginning, and not at all if it is a socket.
            stream = open(os.dup(0) if host == STDIN else host, "rb")  # noqa: SIM115  # closed below
        except OSError as error:
            raise BtrimgError(f"cannot read {name}: {error.strerror}") from None
        with stream:
            sectorsize = self._txn.volume.sectorsize
            source = partial(read_tar, stream, name, sectorsize, owner=do.owner, latest=self._latest)
            self._grow(LayerWriter if do.whiteouts else TreeWriter, spot, do.storage, source)

    def _grow(self, writer: type[TreeWriter], spot: Spot, storage: Storage, source: Source) -> None:
        """Put the entries of *source* into the directory at *spot*."""
        from btrimg.build.beside import read_beside

        with read_beside(source, self._warn) as entries:
            self._writer(writer, spot, storage).add_all(entries)

    def _writer(self, kind: type[TreeWriter], spot: Spot, storage: Storage, *, as_cp: bool = False) -> TreeWriter:
        return kind(spot, self._paths, self._sink, self._data, storage, self._progress, whole=self._edit, as_cp=as_cp)

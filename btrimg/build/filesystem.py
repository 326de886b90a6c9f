"""The table ``[filesystem]`` of a recipe, and the options of a new filesystem that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.build import readers as read
from btrimg.build.keys import FaultError, read_table
from btrimg.build.values import Filesystem
from btrimg.errors import OptionError
from btrimg.units import MIB
from btrimg.write.options import new_options
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from btrimg.build.keys import Reader
    from btrimg.write.options import Options

SMALLEST = 256 * MIB  #: bytes of a device that becomes as large as is needed
_MOST_DEVICES = 1024


def _devices(value: Any) -> list[tuple[int | None, bytes | None]]:
    """Return sizes and uuids, None where nothing is said of one."""
    if not isinstance(value, list):
        number = read.read_count(value)
        _refuse_many(number)
        return [(None, None)] * number
    if not value:
        raise ValueError("a filesystem needs a device")
    _refuse_many(len(value))
    devices: list[tuple[int | None, bytes | None]] = []
    for index, each in enumerate(value):
        try:
            given = read_table(each if isinstance(each, dict) else {"size": each}, _DEVICE, "a device")
        except FaultError as error:
            path = error.path if isinstance(each, dict) else ()
            raise FaultError((index, *path), error.sentence) from None
        devices.append((given.get("size"), given.get("uuid")))
    return devices


def _refuse_many(number: int) -> None:
    if number > _MOST_DEVICES:
        raise ValueError(f"{number} devices are too many: take at most {_MOST_DEVICES}")


_DEVICE: dict[str, Reader] = {"size": read.read_size, "uuid": read.read_uuid}
KEYS: Mapping[str, Reader] = {
    "size": read.read_size,
    "devices": _devices,
    "shrink": read.read_boolean,
    "slack": read.read_size,
    "data": read.read_string,
    "metadata": read.read_string,
    "mixed": read.read_boolean,
    "features": read.read_strings,
    "csum": read.read_string,
    "nodesize": read.read_size,
    "sectorsize": read.read_size,
    "label": read.read_bytes,
    "uuid": read.read_uuid,
    "seed": read.read_seed,
    "clock": read.read_time,
    "compress": read.read_compression,
    "dedupe": read.read_boolean,
}


def read_filesystem(table: Any) -> Filesystem:
    """Return what the table says; raise FaultError, with the path from the recipe's top, for what cannot be."""
    try:
        given = read_table(table, KEYS, "[filesystem]")
        filesystem = filesystem_of(given)
        if filesystem.slack and not filesystem.shrink:
            raise FaultError(("slack",), "slack goes with shrink = true")
        options_of(filesystem)
    except FaultError as fault:
        raise FaultError(("filesystem", *fault.path), fault.sentence) from None
    except OptionError as error:
        raise FaultError(("filesystem", error.option), str(error)) from None
    return filesystem


def filesystem_of(given: Mapping[str, Any]) -> Filesystem:
    """Return the filesystem that values of KEYS say."""
    fields = {key: value for key, value in given.items() if key not in ("size", "devices")}
    size = given.get("size")
    devices = given.get("devices", [(None, None)])
    return Filesystem(
        tuple(size if own is None else own for own, _ in devices), tuple(uuid for _, uuid in devices), **fields
    )


def options_of(filesystem: Filesystem, uuids: Callable[[], bytes] | None = None) -> Options:
    """Return the options for a new filesystem, with uuids from its seed; raise OptionError for one that cannot be.

    *uuids* is for who needs more of the same seed afterwards.
    """
    return new_options(
        [SMALLEST if size is None else size for size in filesystem.sizes],
        uuids or seeded(filesystem.seed),
        data=filesystem.data,
        metadata=filesystem.metadata,
        mixed=filesystem.mixed,
        csum=filesystem.csum,
        nodesize=filesystem.nodesize,
        sectorsize=filesystem.sectorsize,
        features=filesystem.features,
        label=filesystem.label,
        fsid=filesystem.uuid,
        device_uuids=filesystem.device_uuids,
    )

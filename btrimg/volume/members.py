"""Which files are the devices of one filesystem: members, the filesystem on top of its seeds, and devids."""

from __future__ import annotations

from btrimg.errors import CorruptError, DeviceError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import DEV_REPLACE_DEVID, SuperFlag
from btrimg.volume.device import Device
from btrimg.volume.superblocks import choose, metadata_fsid, uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from btrimg.ondisk.superblock import Superblock


class Member(NamedTuple):
    """An opened file or block device and its superblock."""

    device: Device
    superblock: Superblock
    new_fsid: bytes | None = None  #: that a change which was cut off gives to the filesystem

    @property
    def devid(self) -> int:
        """The devid that the superblock claims."""
        devid: int = self.superblock.dev_item.devid
        return devid

    @property
    def uuid(self) -> bytes:
        """Return the uuid of the device."""
        uuid: bytes = self.superblock.dev_item.uuid
        return uuid

    @property
    def fsid(self) -> bytes:
        """Return what is common to all devices of one filesystem, also while its fsid is being changed."""
        return self.new_fsid or metadata_fsid(self.superblock)

    @property
    def is_changing(self) -> bool:
        """Return whether a new fsid is being written into the filesystem."""
        return bool(self.superblock.flags & SuperFlag.CHANGING_FSID)

    @property
    def generation(self) -> int:
        """Return the generation of the superblock."""
        generation: int = self.superblock.generation
        return generation


def open_members(
    paths: Sequence[str], warn: Callable[[str], None], opener: Callable[[str], Device] = Device
) -> list[Member]:
    """Open every path by *opener*; the caller closes the devices.

    A device without a sound superblock is left out and told to *warn* as long as there is another one: to a RAID it is
    only missing. Raises DeviceError when one cannot be opened or is there twice, CorruptError when none has a sound
    superblock.
    """
    devices: list[Device] = []
    members: list[Member] = []
    unsound: list[CorruptError] = []
    try:
        for path in paths:
            devices.append(opener(path))
            _refuse_same_file(devices)
        for device in devices:
            try:
                members.append(Member(device, choose(device, warn)))
            except CorruptError as error:
                device.close()
                unsound.append(error)
        if unsound and not members:
            raise unsound[0]
    except BaseException:
        for device in devices:
            device.close()
        raise
    for reason in unsound:
        warn(f"{reason}: it is left out")
    return _one_while_changing(members)


def _one_while_changing(members: Sequence[Member]) -> list[Member]:
    """Return *members* with one fsid for all devices of a filesystem of which some have the new one, some the old.

    While it is written, a superblock has the new fsid, and its device item still the old one.
    """
    changing = {member.superblock.dev_item.fsid: member.superblock.fsid for member in members if member.is_changing}
    return [
        member._replace(new_fsid=changing.get(member.fsid, member.superblock.fsid if member.is_changing else None))
        for member in members
    ]


def _refuse_same_file(devices: Sequence[Device]) -> None:
    *before, last = devices
    for device in before:
        if device.identity == last.identity:
            raise DeviceError(f"{device.path} and {last.path} are one file: give every device once")


def drop_doubles(members: Sequence[Member], warn: Callable[[str], None]) -> list[Member]:
    """Return *members* without the older of two copies of a device and the target of an unfinished replacement, closed.

    Raises DeviceError when two are copies of one device and equally new.
    """
    newest: dict[tuple[bytes, bytes], Member] = {}
    for member in members:
        if member.devid == DEV_REPLACE_DEVID:
            warn(f"{member.device.path} is the target of an unfinished device replacement: ignored")
            member.device.close()
            continue
        other = newest.setdefault((member.fsid, member.uuid), member)
        if other is member:
            continue
        old, new = sorted((other, member), key=lambda each: each.generation)
        if old.generation == new.generation:
            raise DeviceError(
                f"{other.device.path} and {member.device.path} are both device {member.devid},"
                f" {uuid_text(member.uuid)}, of generation {member.generation}: give one of them"
            )
        warn(
            f"{old.device.path} (generation {old.generation}) is an older copy of {new.device.path}"
            f" (generation {new.generation}): ignored"
        )
        old.device.close()
        newest[member.fsid, member.uuid] = new
    if not newest:
        raise DeviceError("none of the files is a device of a filesystem")
    return list(newest.values())


def newest_of_each(members: Sequence[Member]) -> dict[bytes, Member]:
    """Return the newest member of every filesystem, by fsid; of these one that tells of an unfinished change."""
    return {
        member.fsid: member for member in sorted(members, key=lambda member: (member.generation, member.is_changing))
    }


def top_of(members: Sequence[Member]) -> Member:
    """Return the newest member of the filesystem that *members* hold, or of the one on top of its seeds.

    The top one lacks the SEEDING flag; where all have it, it is the newest. Raises DeviceError when there are
    several that are no seeds.
    """
    newest = newest_of_each(members).values()
    tops = [member for member in newest if not member.superblock.flags & SuperFlag.SEEDING]
    if len(tops) > 1:
        raise DeviceError(
            "the files belong to different filesystems: "
            + ", ".join(f"{member.device.path} to {uuid_text(member.superblock.fsid)}" for member in tops)
        )
    return tops[0] if tops else max(newest, key=lambda member: member.generation)


def assign_devids(members: Sequence[Member], top: bytes, uuids: Mapping[int, bytes]) -> dict[int, Member]:
    """Return which member is which devid; *uuids* are the devices that the filesystem says it has.

    Where no member has the uuid, one of the filesystem *top* that claims the devid is taken: a restored image
    can have lost the uuid. Others stay out.
    """
    by_uuid = {member.uuid: member for member in members}
    assigned = {devid: by_uuid[uuid] for devid, uuid in uuids.items() if uuid in by_uuid}
    taken = {member.uuid for member in assigned.values()}
    for member in members:
        if member.fsid == top and member.uuid not in taken and member.devid in uuids:
            assigned.setdefault(member.devid, member)
    return assigned

"""The superblock: where everything starts."""

from __future__ import annotations

from btrimg.ondisk.chunks import DevItem  # noqa: TC001
from btrimg.ondisk.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    from construct import Bytes

    from btrimg.ondisk.fields import U8, U16, U32, U64, Csum, Uuid, times


class RootBackup(Record):
    """Roots of one of the last four commits (``struct btrfs_root_backup``)."""

    tree_root: U64
    tree_root_gen: U64
    chunk_root: U64
    chunk_root_gen: U64
    extent_root: U64  #: with extent-tree-v2, of the block group tree
    extent_root_gen: U64
    fs_root: U64
    fs_root_gen: U64
    dev_root: U64
    dev_root_gen: U64
    csum_root: U64
    csum_root_gen: U64
    total_bytes: U64
    bytes_used: U64
    num_devices: U64
    unused_64: Annotated[tuple[int, ...], times(4, U64)]
    tree_root_level: U8
    chunk_root_level: U8
    extent_root_level: U8
    fs_root_level: U8
    dev_root_level: U8
    csum_root_level: U8
    unused_8: Annotated[tuple[int, ...], times(10, U8)]


class Superblock(Record):
    """The superblock (``struct btrfs_super_block``); copies at SUPERBLOCK_OFFSETS of every device."""

    csum: Csum  #: of bytes [32, 4096)
    fsid: Uuid
    bytenr: U64  #: physical address of this copy
    flags: U64  #: SuperFlag
    magic: U64  #: MAGIC
    generation: U64  #: transid of the commit
    root: U64  #: logical address of the root tree
    chunk_root: U64  #: logical
    log_root: U64  #: 0 without a log tree
    log_root_transid: U64  #: unused
    total_bytes: U64
    bytes_used: U64
    root_dir_objectid: U64  #: TreeId.ROOT_TREE_DIR
    num_devices: U64
    sectorsize: U32  #: bytes that one data checksum covers
    nodesize: U32  #: bytes of a tree block
    leafsize: U32  #: unused
    stripesize: U32
    sys_chunk_array_size: U32  #: bytes
    chunk_root_generation: U64
    compat_flags: U64
    compat_ro_flags: U64  #: CompatRo
    incompat_flags: U64  #: Incompat
    csum_type: U16  #: CsumType
    root_level: U8
    chunk_root_level: U8
    log_root_level: U8
    dev_item: DevItem  #: of the device that holds this copy
    label: Annotated[bytes, Bytes(256)]  #: ends at the first NUL
    cache_generation: U64  #: of the v1 space cache
    uuid_tree_generation: U64
    metadata_uuid: Uuid  #: fsid in tree blocks, when Incompat.METADATA_UUID
    nr_global_roots: U64  #: extent-tree-v2
    remap_root: U64  #: logical; with Incompat.REMAP_TREE
    remap_root_generation: U64
    remap_root_level: U8
    reserved: Annotated[bytes, Bytes(199)]
    sys_chunk_array: Annotated[bytes, Bytes(2048)]  #: pairs of DiskKey and Chunk, see sys_chunks
    super_roots: Annotated[tuple[RootBackup, ...], times(4, RootBackup)]
    padding: Annotated[bytes, Bytes(565)]

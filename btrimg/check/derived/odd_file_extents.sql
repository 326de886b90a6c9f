-- File extents whose numbers cannot be, or that their inode should not have.
select
    file_extents.*,
    superblock.generation as last,
    sectorsize,
    least(sectorsize - 1, nodesize - 147) as most_inline, -- header, slot and head of the item
    kind = 'inline'
        and (
            inline_ram_bytes = 0
            or inline_stored > most_inline
            or compression = 'none' and inline_ram_bytes <> inline_stored
            or inline_ram_bytes > sectorsize
        ) as wrong_inline,
    kind <> 'inline' and (extent | extent_length | extent_offset | length | ram_bytes) % sectorsize <> 0 as unaligned,
    coalesce(directory, false) as of_directory,
    coalesce(symlink, false) and kind <> 'inline' as of_symlink,
    coalesce(nodatasum, false) and kind = 'compressed' as without_sums
from (
    -- The last sector that a file can have has a row without its last byte: here it starts as it is long.
    select * replace (if("offset" = 9223372036854775807 - length, "offset", length) as length) from file_extents
) as file_extents
cross join superblock
left join (
    select
        subvolume,
        inode,
        bool_or(mode >> 12 = 4) as directory,
        bool_or(mode >> 12 = 10) as symlink,
        bool_or(flags & 1 = 1) as nodatasum
    from inodes
    where mode >> 12 in (4, 10) or flags & 1 = 1
    group by all
) using (subvolume, inode)
where wrong_inline
    or unaligned
    or of_directory
    or of_symlink
    or without_sums
    or file_extents.generation > last

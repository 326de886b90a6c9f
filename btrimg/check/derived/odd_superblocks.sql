-- Superblocks that are not as they should be: of those that are sound and of this filesystem, only the first of a device
-- is held against the item of the device and what the flags may be.
select
    devid,
    mirror,
    physical,
    state,
    fault,
    differs,
    copies.generation as generation,
    superblock.generation as last,
    copies.flags as flags,
    case when first then copies.flags & ~((23::ubigint << 32) + 3) else 0 end as odd_flags,
    first and copies.flags & (1::ubigint << 36) > 0 as getting_fsid,
    state = 'none' and superblock.flags & (3::ubigint << 33) = 0 as missing,
    state = 'sound' and ours and copies.generation <> superblock.generation as stale,
    case
        when not first or stale or items.devid is null then null
        when item_devid <> items.devid then 'that it is device ' || item_devid
        when item_uuid <> items.uuid then 'that its uuid is ' || item_uuid || ', not ' || items.uuid
        when copies.flags & (1::ubigint << 35) > 0 then null
        when item_fsid <> items.fsid then 'that it was made for filesystem ' || item_fsid || ', not ' || items.fsid
    end as identity_fault,
    case
        when not first or stale or items.devid is null then null
        when item_total_bytes <> items.total_bytes
            then 'that it has ' || item_total_bytes || ' bytes, not ' || items.total_bytes
        when item_bytes_used <> items.bytes_used
            then 'that it has ' || item_bytes_used || ' bytes in use, not ' || items.bytes_used
    end as item_fault
from (
    select *, state = 'sound' and ours and row_number() over (partition by devid, state, ours order by mirror) = 1 as first
    from superblocks
) as copies
cross join superblock
left join devices as items using (devid)
where missing or stale or getting_fsid or state = 'bad' or differs <> '' or odd_flags > 0 or item_fault is not null
    or identity_fault is not null

-- Device extents and stripes of chunks that cannot be so, alone or beside each other, chunks and devices, as far as
-- these can be read.
with expected as (
    select
        chunk,
        number,
        devid,
        physical,
        dev_uuid,
        profile,
        chunks.length // greatest(1, case profile
            when 'raid0' then num_stripes
            when 'raid10' then num_stripes // 2
            when 'raid5' then num_stripes::int - 1
            when 'raid6' then num_stripes::int - 2
            else 1
        end) as length
    from stripes
    join chunks on chunks.logical = chunk
),
found as (
    select *, lag(physical) over devices as before, lag(physical + length) over devices as before_end
    from dev_extents
    window devices as (partition by devid order by physical)
)
select
    devid,
    physical,
    chunk,
    found.length as length,
    expected.length as expected,
    number,
    dev_uuid,
    devices.uuid as uuid,
    devices.total_bytes as total_bytes,
    chunk_tree,
    chunk_objectid,
    before,
    before_end,
    found.length is null and not exists (from unread_trees where tree in (1, 4)) as missing,
    expected.length is null and chunks_read as orphan,
    found.length is not null and devices.devid is null and chunks_read as without_device,
    coalesce(physical < before_end, false) as overlapping,
    coalesce(physical + found.length > total_bytes, false) as beyond,
    coalesce(found.length <> expected.length and profile <> '', false) as wrong_length,
    coalesce(chunk_tree <> 3 or chunk_objectid <> 256, false) as wrong_chunk_key,
    number is not null and uuid is distinct from dev_uuid and chunks_read as wrong_device
from found
full join expected using (devid, physical, chunk)
left join devices using (devid)
cross join (select not exists (from unread_trees where tree = 3) as chunks_read)
where missing or orphan or without_device or overlapping or beyond or wrong_length or wrong_chunk_key or wrong_device

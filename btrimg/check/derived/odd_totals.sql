-- What the superblock in use says of the whole filesystem beside what the trees say, where any of it is wrong
-- and the trees can be read.
select
    bytes_used,
    case when groups_read then (select coalesce(sum(used), 0) from block_groups) else bytes_used end as used,
    total_bytes,
    sectorsize,
    case when chunks_read then (select coalesce(sum(devices.total_bytes), 0) from devices) else total_bytes end
        as device_bytes,
    num_devices,
    case when chunks_read then (select count(*) from devices) else num_devices end as devices,
    flags & (3::ubigint << 33) > 0 as dumped,
    case
        when compat_ro_flags & 3 = 2 then 'not that there is one'
        when compat_ro_flags & 3 = 3 and roots_read and not exists (from roots where id = 10) then 'there is none'
    end as space_fault
from superblock
cross join (
    select
        not exists (from unread_trees where tree in (1, 2, 11)) as groups_read,
        not exists (from unread_trees where tree = 3) as chunks_read,
        not exists (from unread_trees where tree = 1) as roots_read
)
where bytes_used <> used
    or total_bytes <> device_bytes
    or total_bytes % sectorsize > 0
    or num_devices <> devices
    or space_fault is not null

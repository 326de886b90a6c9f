-- What the superblock in use says of the whole filesystem beside what the trees say, where any of it is wrong.
select
    bytes_used,
    (select coalesce(sum(used), 0) from block_groups) as used,
    total_bytes,
    sectorsize,
    (select coalesce(sum(devices.total_bytes), 0) from devices) as device_bytes,
    num_devices,
    (select count(*) from devices) as devices,
    flags & (3::ubigint << 33) > 0 as dumped,
    case
        when compat_ro_flags & 3 = 2 then 'not that there is one'
        when compat_ro_flags & 3 = 3 and not exists (from roots where id = 10) then 'there is none'
    end as space_fault
from superblock
where bytes_used <> used
    or total_bytes <> device_bytes
    or total_bytes % sectorsize > 0
    or num_devices <> devices
    or space_fault is not null

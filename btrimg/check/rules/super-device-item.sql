-- severity: warning
-- sentence: device {devid}: the superblock at {physical} says of it {field} {found}, the chunk tree {expected}
-- progs: device's total_bytes was in tree but in superblock; device's bytes_used was in tree but in superblock
-- explain: Each superblock has a copy of its device's item in the chunk tree. Here the two differ. Kernels before
--   5.16 left that now and then after chunks came or went; the next commit of the device sets it right. It does no
--   harm.
select devid, physical, mirror, unnest(fields).field as field, unnest(fields).found as found, unnest(fields).expected as expected
from (
    select
        copies.*,
        list_filter([
            {'field': 'devid', 'found': item_devid::text, 'expected': items.devid::text},
            {'field': 'total_bytes', 'found': item_total_bytes::text, 'expected': items.total_bytes::text},
            {'field': 'bytes_used', 'found': item_bytes_used::text, 'expected': items.bytes_used::text},
            {'field': 'uuid', 'found': item_uuid, 'expected': items.uuid}
        ], lambda field: field.found <> field.expected) as fields
    from superblocks as copies
    join superblock on copies.generation = superblock.generation
    join devices as items on items.devid = copies.devid
    where state = 'sound' and ours
    qualify row_number() over (partition by copies.devid order by mirror) = 1
)

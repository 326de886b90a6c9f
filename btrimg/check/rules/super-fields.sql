-- severity: error
-- sentence: device {devid}: the superblock at {physical} has {field} {found}, which cannot be: {expected}
-- progs: superblock checksum matches but it has invalid members; invalid stripesize; invalid bytes_used; invalid
--   total_bytes
-- explain: A number of the superblock contradicts others. Its checksum is right, so bad memory or a tool wrote it so.
--   A kernel refuses to mount the filesystem. Where another copy has the right number `btrfs rescue super-recover`
--   helps.
select devid, physical, mirror, unnest(fields).field as field, unnest(fields).found as found, unnest(fields).expected as expected
from (
    select
        *,
        list_filter([
            {'field': 'leafsize', 'found': leafsize, 'expected': 'the node size is ' || nodesize, 'wrong': leafsize <> nodesize},
            {
                'field': 'stripesize',
                'found': stripesize,
                'expected': 'it is always the sector size, ' || sectorsize,
                'wrong': stripesize not in (4096, sectorsize)
            },
            {'field': 'num_devices', 'found': num_devices, 'expected': 'there is one', 'wrong': num_devices = 0},
            {'field': 'total_bytes', 'found': total_bytes, 'expected': 'there are some', 'wrong': total_bytes = 0},
            {
                'field': 'bytes_used',
                'found': bytes_used,
                'expected': 'six trees take more',
                'wrong': bytes_used < 6 * nodesize
            },
            {'field': 'root', 'found': root, 'expected': 'it is aligned to sectors', 'wrong': root % sectorsize > 0},
            {
                'field': 'chunk_root',
                'found': chunk_root,
                'expected': 'it is aligned to sectors',
                'wrong': chunk_root % sectorsize > 0
            },
            {
                'field': 'log_root',
                'found': log_root,
                'expected': 'it is aligned to sectors',
                'wrong': log_root % sectorsize > 0
            }
        ], lambda field: field.wrong) as fields
    from superblocks
    where state = 'sound' and ours
    qualify row_number() over (partition by devid order by mirror) = 1
)

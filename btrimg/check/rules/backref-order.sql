-- severity: error
-- sentence: extent {extent} in leaf {leaf}: an inline reference of type {found} follows one of type {expected} that must
--   come after it
-- progs: inline ref out-of-order; BACKREF_OUT_OF_ORDER
-- explain: The references within an extent's item are sorted, by type, and within a type the greatest number or hash
--   comes first; the kernel stops searching at the first that is beyond. Here one is out of its place, so the kernel may
--   not find it and then turn read-only when the extent is freed. Kernels before 6.12 had a bug in the hash of simple
--   quotas' neighbours; bad memory does it, too. `btrfs check --repair` of btrfs-progs 6.19 sorts them anew.
select leaf, objectid as extent, found, expected from bad_items where fault = 'reference-order'

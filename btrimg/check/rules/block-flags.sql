-- severity: warning
-- sentence: tree block {logical} (tree {tree}, level {level}) has the flags {flags}: {wrong}
-- progs: none
-- explain: Every tree block on a device has the flag WRITTEN (1), and since 2009 says in the top eight bits that its
--   references are of the mixed kind (1). A block without is not fully checked by the kernel when it is read, or its
--   references are looked for in the wrong place. Bad memory, or a program other than the kernel, wrote it.
select logical, owner as tree, level, flags,
    case when flags & 1 = 0 then 'WRITTEN is missing' else 'its backref revision is ' || (flags >> 56) end as wrong
from odd_heads
where flags & 1 = 0 or flags >> 56 <> 1

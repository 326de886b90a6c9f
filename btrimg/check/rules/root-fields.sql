-- severity: error
-- sentence: root item ({id} ROOT_ITEM {key_offset}): {field} is {value}, {most} at most
-- progs: invalid root generation; invalid root v2 generation; invalid root last_snapshot; invalid root level; invalid
--   root flags
-- explain: A number in a root item cannot be: a transaction after the last one, a level that no tree has, or flags that
--   no kernel sets. Bad memory changed it. The kernel refuses the whole leaf of the root tree, and with it the
--   filesystem. Copy out what can be read (btrimg export); a mount with `rescue=usebackuproot` may find an older state.
with numbers as (
    select id, key_offset, unnest([
        {'field': 'generation', 'value': generation, 'most': latest},
        {'field': 'generation_v2', 'value': generation_v2, 'most': latest},
        {'field': 'last_snapshot', 'value': last_snapshot, 'most': latest},
        {'field': 'level', 'value': level, 'most': 7},
        {'field': 'drop_level', 'value': drop_level, 'most': 7},
        {'field': 'flags', 'value': flags & ~281474976710657::ubigint, 'most': 0}
    ], recursive := true)
    from odd_roots
)
select id, key_offset, field, value, most from numbers where value > most

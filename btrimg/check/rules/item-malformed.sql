-- severity: error
-- sentence: item ({objectid} {kind} {offset}) in leaf {leaf}: {detail}
-- progs: invalid item; bad file extent; dir item data crosses item boundary; inode ref overflow; inline ref item
--   overflows extent item; unknown inline ref type; padding bytes found
-- explain: An item's payload ends inside a structure, has bytes left that are none, or holds numbers that no kernel
--   writes. It is in none of the tables, so that other rules may find that something is missing. Bad memory is the
--   usual cause, since the checksum of the block is right. Copy out what can be read (btrimg export).
select leaf, objectid, kind, bad_items.offset, detail from bad_items
where fault = 'malformed' and leaf > 0 and (leaf, objectid, type, bad_items.offset) not in (
    select (leaf, objectid, type, bad_items.offset) from bad_items where fault <> 'malformed'
)

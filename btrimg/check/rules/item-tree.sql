-- severity: error
-- sentence: item ({objectid} {kind} {offset}) in leaf {leaf} does not belong into tree {tree}
-- progs: unknown key; UNKNOWN_KEY
-- explain: The type of an item's key is not known, or items of this type stand in other trees only. Bad memory changed
--   the type, so that an item of another type is missing; or an experimental or newer kernel wrote it, in which case a
--   newer version of this program will know it.
select leaf, tree, objectid, kind, bad_items.offset from bad_items where fault = 'tree'

-- severity: error
-- sentence: extent {extent} is a {item_kind} extent by its item, but {user} uses it as {kind}
-- progs: bad extent type; metadata level mismatch; REFERENCER_MISMATCH; backref item flag is not data
-- explain: An extent holds either data of files or one tree block; here its item says the one and its user makes of
--   it the other. Bad memory changed the item's flags, or two users share the space. Copy out the data (btrimg
--   export) and restore from a backup if `btrfs check --repair` does not help.
select extent, user, kind, item_kind
from claims
where uses > 0 and (kind in ('tree_block', 'shared_block')) <> (item_kind = 'tree block')

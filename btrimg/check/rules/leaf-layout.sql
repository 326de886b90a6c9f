-- severity: error
-- sentence: item ({objectid} {kind} {offset}) in leaf {leaf}: {wrong}
-- progs: unexpected item end; slot end outside of leaf; slot overlaps with its data
-- explain: The payloads of a leaf lie one before the other from its end, without gap or overlap; here one does not, or
--   lies outside of the leaf or in its slots. Bad memory changed the place or the size of a payload. It, or its
--   neighbour, has some bytes that are not its own. `btrfs check --repair` moves payloads together, right or wrong.
select leaf, objectid, kind, bad_items.offset,
    if(detail = '', 'its data end at ' || found || ', not at ' || expected, detail) as wrong
from bad_items
where fault = 'layout'

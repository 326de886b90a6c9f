-- severity: error
-- sentence: {detail}
-- progs: none
-- explain: Something that the check needed could not be read or understood, for the reason given, and what depends on it
--   was not judged. Other findings say more about the block or item at fault.
select detail from bad_items where fault = 'malformed' and leaf = 0

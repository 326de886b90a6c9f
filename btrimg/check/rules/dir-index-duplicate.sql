-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} is in {indexes} DIR_INDEX entries
-- progs: dup dir index; DIR_INDEX should contain only one entry
-- explain: A directory lists one name several times (several DIR_INDEX items, or one with several entries). readdir
--   shows it twice, and removing the name leaves the other behind. Replay of a log by old kernels did that. `btrfs
--   check --repair` removes what is too much.
select subvolume, parent, name, indexes from odd_links where indexes > 1

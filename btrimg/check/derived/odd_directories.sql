-- Directories of which the names are looked at one by one: see directories.
select subvolume, inode as parent from directories where odd

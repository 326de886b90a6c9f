-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: {found} of the {length} bytes at {start} that its file extent at
--   {offset} uses have checksums
-- progs: some csum missing; csum missing; compressed extent must have csum
-- explain: Data of a file that should have checksums has none, so reading it fails, as if it were damaged. Lost
--   writes, or a log that was replayed without its checksums, leave that; so does converting or repairing with
--   --init-csum-tree that ended early. Mount with rescue=ignoredatacsums, copy the file and compare it with a backup.
-- of: unchecked_uses
select subvolume, inode, "offset", start, length, found
from unchecked_uses
join inodes using (subvolume, inode)
where subvolume <> 18446744073709551607 -- a balance moves data with checksums and without, and no flag says which
    and (kind = 'compressed' or flags & 1 = 0)

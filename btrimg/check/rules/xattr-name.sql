-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: xattr {name} of {name_length} bytes has the hash {expected_hash:#x},
--   its item is at {hash:#x}
-- progs: name hash mismatch with key; dir item name len too long; invalid xattr
-- explain: The key of an xattr's item is the CRC-32C of its name, of 1 to 255 bytes. Here bad memory changed the name or
--   the key. The attribute is listed, but cannot be read by its name; of an ACL or a label that means the file is not
--   protected as it was. Set the attribute anew once the file can be written; the kernel refuses the leaf until then.
select subvolume, inode, name, name_length, hash, expected_hash
from xattrs
where hash <> expected_hash or name_length = 0 or name_length > 255

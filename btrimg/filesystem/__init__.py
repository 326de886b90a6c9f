"""Floor 4: an opened filesystem: subvolumes, paths, inodes, file extents, data."""

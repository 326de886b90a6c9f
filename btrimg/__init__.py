"""btrimg: an on-disk btrfs image manipulator and verifier."""

"""The oracles of the tests: the running kernel and btrfs-progs, as writers of fixtures and as judges."""

"""Judges of btrimg's answers: the tools of btrfs-progs, and the running kernel on a read-only mount."""

"""Floor 1: bytes <-> values, no I/O."""

"""Floor 2: the devices as one logical address space."""

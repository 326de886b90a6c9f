"""Floor 3: verified tree blocks; search, iteration, bulk scan."""

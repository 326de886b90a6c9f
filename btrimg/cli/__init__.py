"""Floor 8: arguments in, exit codes out."""

"""Floor 5: writing; one transaction engine for new filesystems and for changes to old ones."""

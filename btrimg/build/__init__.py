"""Images built from recipes, directories and tar archives."""

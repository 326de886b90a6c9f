"""Floor 7: text, JSON and pictures for people and programs."""

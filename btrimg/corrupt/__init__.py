"""Deliberate damage: edits of any field of an image, checksums made right, for fixtures of broken images."""

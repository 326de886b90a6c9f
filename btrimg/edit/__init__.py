"""Edits of images that exist: what is changed is judged first, can be undone, and is there whole or not at all."""

"""Races against named peers; each prints ratios and asserts nothing. See peers.py."""

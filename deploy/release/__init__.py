"""Releases: made, signed, listed, and served to devices."""

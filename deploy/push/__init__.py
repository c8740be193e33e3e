"""Releases onto machines that run already: `shelfkit deploy push`."""

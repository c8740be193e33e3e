"""Releases onto machines that run already."""

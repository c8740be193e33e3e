"""Whether a device can do its work: every part of it tried, one after another."""

from edge_agent.selftest.command import self_test

__all__ = ["self_test"]

"""A page that helps to aim and focus a camera."""

from edge_agent.preview.command import preview

__all__ = ["preview"]

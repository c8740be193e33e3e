"""Where frames come from: one narrow protocol, one module for each kind of source."""

from edge_agent.camera.base import Camera, Frame

__all__ = ["Camera", "Frame"]

"""A shelf that is drawn: packaged goods, shoppers' arms, changing light; the same for the same seed."""

from edge_agent.camera.shelf.source import ShelfCamera, ShelfClip, shelf_camera

__all__ = ["ShelfCamera", "ShelfClip", "shelf_camera"]

"""Images: built without a mount, and booted in QEMU."""

"""A device that is a process: an image booted in QEMU."""

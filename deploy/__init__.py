"""Everything that brings a bundle onto shelf devices, and the store's broker."""

"""Images onto drives: `shelfkit deploy flash`."""

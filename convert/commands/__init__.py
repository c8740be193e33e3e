"""The commands of `shelfkit convert`, one a file: they read options, and print what the rest of it finds."""

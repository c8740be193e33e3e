"""Images onto drives."""

"""Images for devices: a Debian, launcher and updater, and the first release, ready to be flashed."""

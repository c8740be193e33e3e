"""The shelf camera's agent: frames in, stock events out. Nothing heavier than a TFLite runtime."""

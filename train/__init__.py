"""Photos in, a run directory out: a small Keras classifier of shelf products."""

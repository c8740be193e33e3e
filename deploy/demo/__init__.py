"""The whole chain on one machine, on a rendered shelf: every stage through its public command line."""

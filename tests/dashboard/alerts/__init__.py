"""Rules about troubles, and who is told of them."""

"""Pictures that wait for a label, and the data set that comes of them."""

"""A run directory in, a proven int8 TFLite bundle out."""

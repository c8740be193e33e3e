"""Updates: what lives beside the releases and replaces them; standard library and The Update Framework."""

"""Which algorithm computes a node, where there are several."""

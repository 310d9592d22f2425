"""Recognition: a composite that a model spells out becomes the one op that has a kernel."""

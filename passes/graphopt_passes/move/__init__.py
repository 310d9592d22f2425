"""Moves: nodes go where fusion needs them to be. Nothing is added that computes."""

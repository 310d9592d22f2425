"""Simplification: the same values, from fewer and cheaper nodes."""

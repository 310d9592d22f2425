"""Folding: what is known at compile time is computed at compile time."""

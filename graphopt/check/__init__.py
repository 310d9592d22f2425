"""Checking: the reference interpreter, comparison, the gate, bisect, fuzz."""

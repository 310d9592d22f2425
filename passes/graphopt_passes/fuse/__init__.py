"""Fusion: which nodes become one region, i.e. one kernel."""

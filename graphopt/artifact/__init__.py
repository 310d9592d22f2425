"""Artifacts: directories that run with no graphopt, torch or TVM. This imports nothing."""

"""Kernel IR: how a region is computed."""

"""Passes every backend relies on: what is left afterwards has a lowering everywhere."""

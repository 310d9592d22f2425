"""Kernel passes: vectors, unrolling, index arithmetic, prefetching."""

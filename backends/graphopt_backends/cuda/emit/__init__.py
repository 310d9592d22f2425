"""Kernel IR to CUDA C++ text: pure functions. Nothing here needs a compiler."""

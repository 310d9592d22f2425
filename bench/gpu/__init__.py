"""Measuring on an NVIDIA GPU: `python -m bench.gpu`."""

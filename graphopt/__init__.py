"""graphopt: turn a PyTorch model into a fast, small, self-contained program."""

__version__ = "0.1.0"

"""graphopt: turn a PyTorch model into a fast, small, self-contained program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["compile", "load", "tune"]

if TYPE_CHECKING:
    from graphopt.artifact.loader import load
    from graphopt.driver import compile
    from graphopt.tune.session import tune


def __getattr__(name: str) -> Any:  # so that `graphopt --help` and `load` import only what they use
    if name == "compile":
        from graphopt.driver import compile as found

        return found
    if name == "load":
        from graphopt.artifact.loader import load as loader

        return loader
    if name == "tune":  # the package, which can be called
        import graphopt.tune as package

        return package
    raise AttributeError(f"module 'graphopt' has no attribute {name!r}")

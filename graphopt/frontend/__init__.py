"""Models in: torch.export programs, .pt2 files, SOURCE strings. torch loads on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.frontend.source import load_source
    from graphopt.frontend.torch_export import import_exported, trace
    from graphopt.frontend.traced import Exported, Traced, export_model, trace_model

__all__ = [
    "Exported", "Traced", "export_model", "import_exported", "load_source", "trace", "trace_model",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("import_exported", "trace"):
        from graphopt.frontend import torch_export

        return getattr(torch_export, name)
    if name in ("Exported", "Traced", "export_model", "trace_model"):
        from graphopt.frontend import traced as module

        return getattr(module, name)
    if name == "load_source":
        from graphopt.frontend.source import load_source

        return load_source
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

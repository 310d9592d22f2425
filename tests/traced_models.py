"""The tiny models as the frontend imports them: once per process, for whatever test comes first."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from models import TINY

if TYPE_CHECKING:
    from graphopt.frontend import Traced


@cache
def tiny(name: str) -> Traced:
    """A model of `models.TINY`. Graphs do not change; who changes the module traces his own."""
    from graphopt.frontend import trace_model

    return trace_model(*TINY[name]())

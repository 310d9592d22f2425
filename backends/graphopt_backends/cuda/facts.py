"""What the manifest says of a program for GPUs besides its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from graphopt.ir.digest import SOURCES
from graphopt.ir.graph import Graph
from graphopt.ir.views import is_view
from graphopt.kernel.gpu import grids
from graphopt.program import Program


def facts(source: Graph, program: Program) -> Mapping[str, Any]:
    """`launches`: of kernels before fusion (one for each op that is no view), after it, and of
    libraries; `libraries`: how often each is called; `unmeasured`: choices that tables made."""
    by_name = {k.name: len(grids(k)) for k in program.kernels}
    own = sum(by_name[c.kernel] for c in program.calls if c.library is None)
    libraries = Counter(c.library.library for c in program.calls if c.library is not None)
    before = sum(n.op.name not in SOURCES and not is_view(n) for n in source.nodes)
    return {
        "launches": {"before": before, "kernels": own, "libraries": libraries.total()},
        "libraries": dict(sorted(libraries.items())),
        "unmeasured": ["libraries or kernels", "schedules of kernels"],
    }

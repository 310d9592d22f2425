"""What the manifest says of a program for GPUs besides its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from graphopt.ir.digest import SOURCES
from graphopt.ir.graph import Graph
from graphopt.ir.types import DType
from graphopt.ir.views import is_view
from graphopt.kernel.gpu import grids
from graphopt.program import Program
from graphopt.target import Measured
from graphopt_backends.cuda.vendor.match import CUTLASS


def facts(source: Graph, program: Program, measured: Measured | None = None) -> Mapping[str, Any]:
    """`precision`: what an f32 model is computed in. `launches`: of kernels before fusion, one for
    each op that is no view; after it; and of libraries. `libraries`: how often each is called.
    `unmeasured`: choices that tables made, all that are not `measured`."""
    measured = measured or Measured()
    by_name = {k.name: len(grids(k)) for k in program.kernels}
    own = sum(by_name[c.kernel] for c in program.calls if c.library is None)
    libraries = Counter(c.library.library for c in program.calls if c.library is not None)
    before = sum(n.op.name not in SOURCES and not is_view(n) for n in source.nodes)
    return {
        "precision": _precision(source, program),
        "launches": {"before": before, "kernels": own, "libraries": libraries.total()},
        "libraries": dict(sorted(libraries.items())),
        "unmeasured": [
            *(compared := _libraries_or_kernels(measured)),
            *_schedules(program, measured.regions),
            *_unmeasured(program, libraries, bool(compared)),
        ],
    }


def _libraries_or_kernels(measured: Measured) -> list[str]:
    """For how many regions nobody has measured who computes them best."""
    left = measured.open - measured.decided
    if measured.open and not left:
        return []
    return ["libraries or kernels" + (f" of {left} regions" if measured.decided else "")]


def _schedules(program: Program, measured: Collection[str]) -> list[str]:
    """How many kernels have a region whose schedule nobody has measured."""
    own = [c for c in program.calls if c.library is None]
    kernels, left = {c.kernel for c in own}, {c.kernel for c in own if c.region not in measured}
    if not left:
        return []
    few = f"{len(left)} of {len(kernels)} " if len(left) < len(kernels) else ""
    return [f"schedules of {few}kernels"]


def _unmeasured(program: Program, libraries: Mapping[str, int], by_table: bool) -> list[str]:
    attends = any(c.library and c.library.function == "attention" for c in program.calls)
    out = ["attention by cuDNN"] if attends and by_table else []
    if CUTLASS in libraries:
        out += ["CUTLASS beside cuBLASLt and cuDNN", "tiles of CUTLASS"] * by_table
    return out


def _precision(source: Graph, program: Program) -> str:
    """f16, bf16 or tf32 where the model is f32 and its calls are not, else ""."""
    types = {v.type.dtype for v in source.values()}
    made = {r.type.dtype for c in program.calls for r in c.results}
    half = next((str(d) for d in (DType.BF16, DType.F16) if d in made and d not in types), "")
    rounds = any(c.library and ("precision", 1) in c.library.fields for c in program.calls)
    return half or ("tf32" if rounds else "")

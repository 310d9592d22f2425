"""What code is made for (`Target`), and what a backend must do (`Backend`)."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from graphopt.errors import PluginError

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph, Node
    from graphopt.kernel.ir import Kernel
    from graphopt.plugins import Entry
    from graphopt.program import Program
    from graphopt.tune.candidate import Candidate
    from graphopt.tune.memory import Memory
    from graphopt.tune.space import Point, Schedules, Space

    KernelPasses = Callable[[Kernel], Kernel]

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
"""What an f32 model may be computed in."""

SLOW_GBYTES = 25.0
"""GB/s from beyond level 2 (`Target.far_gbytes`) below which a core waits for what others hide: the
last level is hardly nearer than memory, and lines are long on their way."""

Step = Callable[[int, int], None]
"""Told how far a long step is: (done, of how many)."""


@dataclass(frozen=True)
class Target:
    """One row of a backend's target table. Sizes in bytes; `lanes_f32` is 1 for scalar targets.

    `triple` and `cpu` are in the cross compiler's spelling ("" for the host's default).
    `vector_units`: multiply-adds of a whole vector that a core starts in a cycle. `far_gbytes`:
    GB/s that a core reads from beyond its level 2 cache.
    """

    name: str
    backend: str
    arch: str
    isa: str
    lanes_f32: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    features: frozenset[str] = frozenset()
    triple: str = ""
    cpu: str = ""
    vector_units: int = field(default=2, kw_only=True)
    far_gbytes: float = field(default=30.0, kw_only=True)

    @property
    def is_slow_afar(self) -> bool:
        """Whether a core waits for what comes from beyond its level 2 cache."""
        return self.far_gbytes < SLOW_GBYTES

    @property
    def vector_bytes(self) -> int:
        return 4 * self.lanes_f32

    @property
    def fingerprint(self) -> str:
        """All of the row, in the same words in every process."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        return str({**row, "features": sorted(self.features)})


@dataclass(frozen=True)
class Measured:
    """What measurements chose of a program: the schedules of `regions`, by digest; and who computes
    a region, for `decided` of the `open` ones of which there was a choice."""

    regions: frozenset[str] = frozenset()
    open: int = 0
    decided: int = 0


@dataclass(frozen=True)
class Limits:
    """What one thread of a machine can do at most, in f32: GFLOP/s, a multiply-add counted as two,
    and GB/s read from memory."""

    gflops: float
    gbytes_per_s: float


class Backend(abc.ABC):
    """Lower, emit, build: separate steps; only the last needs a tool. `static_libraries`: whether
    `build` makes a `.a`, too."""

    name: ClassVar[str]
    static_libraries: ClassVar[bool] = False

    @abc.abstractmethod
    def targets(self) -> Mapping[str, Target]:
        """Target rows by name; `"host"` resolves to the machine it runs on."""

    @abc.abstractmethod
    def lower(self, graph: Graph, target: Target, schedules: Schedules | None = None) -> Program:
        """A planned graph of regions to kernels, call order, packed weights and memory offsets.
        Regions in `schedules` are lowered by the point that stands there."""

    @abc.abstractmethod
    def lower_node(self, node: Node, graph: Graph, target: Target) -> list[tuple[str, Kernel]]:
        """One region's kernel after every schedule step, named, for `--print-after-all`."""

    @abc.abstractmethod
    def emit(self, program: Program, target: Target) -> Mapping[str, str]:
        """Source files by name; pure text."""

    @abc.abstractmethod
    def build(
        self,
        sources: Mapping[str, str],
        target: Target,
        out: Path,
        *,
        cc: str | None = None,
        progress: Step | None = None,
    ) -> Path:
        """Compile and link into `out`; `cc` replaces the backend's own compiler. `progress` is told
        how many files are compiled.

        Raises: BuildError.
        """

    def adjusted(self, passes: Sequence[str], precision: str, vendor: str) -> Sequence[str]:
        """The graph passes of a level with what this backend asks of them. `precision` is one of
        PRECISIONS, `vendor` says whose libraries may be called: auto, none, or their names.

        Raises: UnsupportedError.
        """
        from graphopt.errors import UnsupportedError

        if precision != "fp32":
            raise UnsupportedError(
                f"the {self.name} backend computes in the model's own types, not in {precision}",
                hint="leave out --precision, or convert the model itself: model.half()",
            )
        if vendor not in ("auto", "none"):
            raise UnsupportedError(
                f"the {self.name} backend calls no vendor's libraries", hint="leave out --vendor"
            )
        return passes

    def facts(
        self,
        source: Graph,
        program: Program,
        target: Target,
        measured: Measured | None = None,
    ) -> Mapping[str, Any]:
        """What the manifest's `extra` says of a program besides; plain values. `measured`: what
        records chose of it, where there are any to go by."""
        return {}

    def limits(self) -> Limits | None:
        """Those of the machine it runs on, measured; None where the backend cannot tell."""
        return None

    # Tuning: a backend that leaves nothing open needs none of these.

    def space(self, node: Node, target: Target) -> Space:
        """The schedules that one region can be lowered with."""
        from graphopt.tune.space import NOTHING

        return NOTHING

    def candidate(
        self, node: Node, graph: Graph, target: Target, point: Point, passes: KernelPasses
    ) -> Candidate:
        """One region of a planned graph, lowered by a point of its space, run through kernel passes
        and emitted."""
        raise NotImplementedError(f"{self.name} kernels are not built one by one")

    def toolchain(self, target: Target, cc: str | None = None) -> str:
        """What `build` compiles with, versions and options included."""
        return self.name

    def processor(self, target: Target) -> str:
        """What executes a target's code here, as far as its times depend on it."""
        from graphopt.tune.place import host_processor

        return host_processor()

    def check_runs_here(self, target: Target) -> None:
        """Raises: GraphoptError when this machine cannot execute code for the target."""
        from graphopt.tune.place import check_runs_on_host

        check_runs_on_host(target)

    def memory(self, target: Target) -> Memory:
        """Where candidates find their operands."""
        from graphopt.tune.memory import HostMemory

        return HostMemory()


def all_targets() -> tuple[list[tuple[Entry, str, Target]], list[str]]:
    """(who offers it, its name, the row) of every target, and what is wrong with the backends that
    cannot be used."""
    from graphopt.plugins import registry

    found: list[tuple[Entry, str, Target]] = []
    broken: list[str] = []
    for entry in registry().of("backends"):
        try:
            rows = entry.load()().targets()
        except PluginError as error:
            broken.append(error.message)
        else:
            found += [(entry, name, row) for name, row in rows.items()]
    return found, broken


def resolve(spec: str) -> tuple[Backend, Target]:
    """`backend[:target]` to a backend and one of its targets. Raises: PluginError."""
    from graphopt.plugins import registry

    backend_name, _, target_name = spec.partition(":")
    backend: Backend = registry().find("backends", backend_name).load()()
    rows = backend.targets()
    target = rows.get(target_name or "host")
    if target is None:
        near = difflib.get_close_matches(target_name, rows, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(sorted(rows))}"
        raise PluginError(f"backend {backend_name!r} has no target {target_name!r}", hint=hint)
    return backend, target

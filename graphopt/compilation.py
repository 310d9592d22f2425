"""What a compile is asked for, what it reports, and what it leaves for tools that look inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.artifact.naming import PREFIX

if TYPE_CHECKING:
    from graphopt.budget import Budget
    from graphopt.ir.graph import Graph
    from graphopt.kernel.pipeline import KernelTiming
    from graphopt.pipeline import Timing
    from graphopt.program import Program
    from graphopt.tune.apply import Applied

DEFAULT_LEVEL = "O2"
Progress = Callable[[str], None]
"""Called with the name of each stage as it starts, and again with how far it is: `build 12/87`."""


@dataclass(frozen=True)
class StageTime:
    name: str
    seconds: float


@dataclass
class Report:
    """What a compile did. Sizes in bytes; `passes` and `kernel_passes` have one entry per pass;
    `nodes` are the traced graph's, `regions` the fused nodes that became `calls` of `kernels`.
    `notes` say what `verify_each` could not check."""

    target: str = ""
    stages: list[StageTime] = field(default_factory=list)
    passes: list[Timing] = field(default_factory=list)
    kernel_passes: list[KernelTiming] = field(default_factory=list)
    nodes: int = 0
    regions: int = 0
    kernels: int = 0
    calls: int = 0
    arena_bytes: int = 0
    arena_lower_bound: int = 0
    scratch_bytes: int = 0
    weight_bytes: int = 0
    code_bytes: int = 0
    artifact_bytes: int = 0
    tuned_kernels: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(s.seconds for s in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        from dataclasses import asdict

        return {**asdict(self), "seconds": self.seconds}


@dataclass(frozen=True)
class Options:
    """`passes` and `kernel_passes` are pipeline text that replaces the level's; `verify_each` runs
    the gate after every pass; `cc` is another C compiler; `emit_source` keeps the C beside the
    library; `budget` is what the artifact may cost; `tuned` is a file of tuning records to use;
    `prefix` begins every name of the C; `static` makes a static library, too; `precision` is what
    an f32 model is computed in, `vendor` whose libraries may be called, `without` names passes to
    leave out."""

    level: str = DEFAULT_LEVEL
    passes: str | None = None
    verify_each: bool = False
    cc: str | None = None
    emit_source: bool = False
    budget: Budget | None = None
    kernel_passes: str | None = None
    tuned: Path | None = None
    prefix: str = PREFIX
    static: bool = False
    precision: str = "fp32"
    vendor: str = "auto"
    without: tuple[str, ...] = ()


@dataclass
class Compilation:
    """The products of each stage, for tools that look inside. `pipeline` and `kernel_pipeline` are
    the text of the passes that were run; `tuning` says which records were used, if any were to."""

    source: Graph
    planned: Graph
    program: Program
    sources: Mapping[str, str]
    report: Report
    pipeline: str = ""
    kernel_pipeline: str = ""
    artifact: Path | None = None
    tuning: Applied | None = None


@dataclass(frozen=True)
class Made:
    """An artifact, what was told of making it, and the text of the passes that were run. `kept`: it
    was there already, as it would come out again."""

    artifact: Path
    report: Report
    pipeline: str
    kernel_pipeline: str
    kept: bool = False


class Clock:
    """Times stages and announces them."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.stages: list[StageTime] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.progress(name)
        start = time.perf_counter()
        yield
        self.stages.append(StageTime(name, time.perf_counter() - start))

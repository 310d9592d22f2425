"""Where times were taken: what they depend on beside the kernel."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.artifact.machine import architecture, cache_bytes, cpu_flags, cpu_model
from graphopt.cache import key_of
from graphopt.errors import GraphoptError
from graphopt.target import Backend, Target


@dataclass(frozen=True)
class Place:
    """A target row, the processor or GPU it runs on, and the compiler. Records of another place say
    nothing about this one."""

    target: str
    processor: str
    compiler: str

    @property
    def key(self) -> str:
        return key_of([self.target, self.processor, self.compiler])[:16]

    def __str__(self) -> str:
        return f"{self.target}\n{self.processor}\n{self.compiler}"


def place_of(backend: Backend, target: Target, cc: str | None = None) -> Place:
    """This machine, for code of a target. Raises: BuildError when the compiler is missing."""
    features = ",".join(sorted(target.features))
    row = (
        f"{target.backend}:{target.name} {target.arch} {target.isa} lanes={target.lanes_f32} "
        f"registers={target.vector_registers} {target.triple} {target.cpu} {features}"
    )
    return Place(row, backend.processor(target), backend.toolchain(target, cc))


def host_processor() -> str:
    """This machine's processor and its caches."""
    caches = " ".join(f"L{level}={cache_bytes(level)}" for level in (1, 2, 3))
    return f"{cpu_model()} {caches}"


def check_runs_on_host(target: Target) -> None:
    """Raises: GraphoptError when this machine's processor cannot execute code for the target."""
    missing = sorted(target.features - cpu_flags()) if cpu_flags() else []
    if target.arch not in (architecture(), "any") or missing:
        lacks = f"lacks {', '.join(missing)}" if missing else f"is {architecture()}"
        raise GraphoptError(
            f"{target.backend}:{target.name} cannot be timed here: this machine {lacks}",
            hint="tune on a machine of the target's kind",
        )

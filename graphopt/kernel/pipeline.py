"""Kernel pipelines: text such as `simplify-indices,unroll-short-loops{limit=4}` ↔ kernel passes,
and running them over one kernel or a program."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from graphopt import stages
from graphopt.kernel.ir import Buffer, Kernel
from graphopt.kernel.passbase import KernelContext, KernelPass
from graphopt.kernel.verify import verify_kernel
from graphopt.program import Program
from graphopt.stages import broken, check_stage, gate_stage, run_stage

PASS_TIMEOUT_S = 60.0
_KIND: stages.Kind[KernelPass] = stages.Kind("kernel_passes", "kernel pass", KernelPass, "kernels")

KernelStage = stages.Stage[KernelPass]
KernelGate = Callable[[KernelPass, Kernel, Kernel], None]
"""`gate(pass, before, after)`. Raises: GateError when the pass broke the numerics it declares."""


@dataclass
class KernelTiming:
    """One kernel pass over all kernels: how long it took, how many rewrites, of which kernels."""

    pass_name: str
    seconds: float = 0.0
    rewrites: int = 0
    kernels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class KernelPipeline:
    """Kernel passes in the order they run. `str(pipeline)` is text that `parse` reads back."""

    stages: tuple[KernelStage, ...]

    @staticmethod
    def parse(text: str) -> KernelPipeline:
        """Raises: ParseError for malformed text; PluginError for an unknown pass or option."""
        return KernelPipeline(stages.parse_stages(text, _KIND))

    @staticmethod
    def of(passes: Iterable[KernelPass]) -> KernelPipeline:
        """A pipeline of passes made by hand."""
        return KernelPipeline(tuple(KernelStage(p, noun=_KIND.noun) for p in passes))

    @property
    def passes(self) -> tuple[KernelPass, ...]:
        return tuple(s.pass_ for s in self.stages)

    def __str__(self) -> str:
        return ",".join(map(str, self.stages))

    def run(
        self,
        kernel: Kernel,
        ctx: KernelContext | None = None,
        *,
        gate: KernelGate | None = None,
        proofs: bool = True,
        print_after: Callable[[KernelPass, Kernel], None] | None = None,
        timings: list[KernelTiming] | None = None,
        pass_timeout_s: float = PASS_TIMEOUT_S,
    ) -> Kernel:
        """Run every pass in order over one kernel.

        What a pass changed is verified, bounds and races only with `proofs`; `gate` then compares
        before and after. `timings` gets or adds to one entry per pass. A pass that needs longer
        than `pass_timeout_s` is stopped.

        Raises: PluginError naming the pass and its distribution when it raises, never ends, changes
        the kernel's name or parameters or returns broken IR; GateError.
        """
        ctx = ctx if ctx is not None else KernelContext()
        for i, stage in enumerate(self.stages):
            start, rewrites, before = time.perf_counter(), ctx.rewrites, kernel
            kernel = _run_stage(stage, before, ctx, pass_timeout_s)
            if timings is not None:
                if len(timings) <= i:
                    timings.append(KernelTiming(stage.pass_.name))
                _add(timings[i], start, ctx.rewrites - rewrites, before, kernel)
            if print_after is not None:
                print_after(stage.pass_, kernel)
            if kernel is before:
                continue
            check_stage(stage, partial(verify_kernel, kernel, proofs=proofs))
            if gate is not None:
                gate_stage(stage, partial(gate, stage.pass_, before, kernel))
        return kernel

    def run_program(
        self,
        program: Program,
        ctx: KernelContext | None = None,
        *,
        gate: KernelGate | None = None,
        proofs: bool = True,
        timings: list[KernelTiming] | None = None,
    ) -> Program:
        """As `run`, over every kernel of a program."""
        ctx = ctx if ctx is not None else KernelContext()
        kernels = tuple(
            self.run(k, ctx, gate=gate, proofs=proofs, timings=timings) for k in program.kernels
        )
        return dataclasses.replace(program, kernels=kernels)


def _run_stage(stage: KernelStage, kernel: Kernel, ctx: KernelContext, timeout_s: float) -> Kernel:
    result = run_stage(stage, lambda: stage.pass_.run(kernel, ctx), timeout_s, Kernel)
    if (result.name, result.params, result.outputs) != (
        kernel.name,
        kernel.params,
        kernel.outputs,
    ):
        raise broken(stage, f"changed the interface of {kernel.name}: {_interface(result)}")
    return result


def _interface(k: Kernel) -> str:
    def shown(b: Buffer) -> str:
        return f"{b.name}: {b.dtype}{list(b.shape)}" + (" output" if b.name in k.outputs else "")

    return f"it became {k.name}({', '.join(map(shown, k.params))})"


def _add(t: KernelTiming, start: float, rewrites: int, before: Kernel, after: Kernel) -> None:
    t.seconds += time.perf_counter() - start
    t.rewrites += rewrites
    if after is not before:
        t.kernels.append(after.name)

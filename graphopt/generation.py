"""From a graph to the sources of its program: no tool is needed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt import collector
from graphopt.compilation import Clock, Compilation, Options, Report
from graphopt.errors import IRError, PluginError

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.kernel.pipeline import KernelPipeline
    from graphopt.pipeline import Gate, Pipeline, Timing
    from graphopt.program import Program
    from graphopt.target import Backend, Target
    from graphopt.tune.apply import Applied
    from graphopt.tune.decide import Decisions


@collector.seldom
def lower(
    graph: Graph, backend: Backend, target: Target, options: Options, clock: Clock | None = None
) -> Compilation:
    """Graph IR to C: passes, lowering, emission. Needs no tool."""
    from graphopt.passbase import PassContext

    clock = clock or Clock(lambda name: None)
    pipeline, gate = default_pipeline(options, backend), _gate(options)
    timings: list[Timing] = []
    decisions = None
    if options.tuned is not None:
        from graphopt.tune.decide import settle

        with clock.stage("records"):
            records, cc = options.tuned, options.cc
            pipeline, decisions = settle(pipeline, graph, backend, target, records, cc)
    with clock.stage("passes"):
        planned = pipeline.run(
            graph,
            PassContext(target=target),
            verify_each=options.verify_each,
            gate=gate,
            timings=timings,
            announce=lambda name: clock.progress(f"passes {name}"),
        )
    compilation = generate(graph, planned, backend, target, clock, options, decisions)
    compilation.pipeline, compilation.report.passes = str(pipeline), timings
    return compilation


@collector.seldom
def generate(
    source: Graph,
    planned: Graph,
    backend: Backend,
    target: Target,
    clock: Clock | None = None,
    options: Options | None = None,
    decisions: Decisions | None = None,
) -> Compilation:
    """What `lower` does after the graph passes, which made `planned` of `source` by `decisions`."""
    clock, options = clock or Clock(lambda name: None), options or Options()
    report = Report(target=f"{target.backend}:{target.name}", stages=clock.stages)
    pipeline = default_kernel_pipeline(options)
    with clock.stage("lower"):
        program, tuning = _lowered(planned, backend, target, options, report, decisions)
    with clock.stage("kernels"):
        program = _run_kernel_passes(pipeline, program, backend, target, options, report)
    with clock.stage("emit"):
        sources = backend.emit(program, target)
    report.nodes = len(source.nodes)
    report.regions = sum(n.body is not None for n in planned.nodes)
    report.kernels, report.calls = len(program.kernels), len(program.calls)
    report.arena_bytes = program.arena_bytes
    report.arena_lower_bound = program.arena_lower_bound
    report.scratch_bytes = program.scratch_bytes
    report.weight_bytes = sum(w.size_bytes for w in program.weights)
    return Compilation(
        source, planned, program, sources, report, kernel_pipeline=str(pipeline), tuning=tuning
    )


def default_pipeline(options: Options, backend: Backend | None = None) -> Pipeline:
    """The pipeline of a level as a backend wants it, or the text that replaces it, less the passes
    that are to be left out.

    Raises: PluginError; UnsupportedError for what the backend does not do.
    """
    from graphopt.pipeline import Pipeline
    from graphopt.stages import level_text

    if options.passes is not None:
        return Pipeline.parse(options.passes).without(options.without)
    text = level_text("default", options.level)
    if backend is not None:
        text = ",".join(backend.adjusted(text.split(","), options.precision, options.vendor))
    return Pipeline.parse(text).without(options.without)


def default_kernel_pipeline(options: Options) -> KernelPipeline:
    """The kernel pipeline of a level, or the text that replaces it. Raises: PluginError."""
    from graphopt.kernel.pipeline import KernelPipeline
    from graphopt.stages import level_text

    chosen = options.kernel_passes
    return KernelPipeline.parse(level_text("kernels", options.level) if chosen is None else chosen)


# Steps --------------------------------------------------------------------------------------------


def _lowered(
    planned: Graph,
    backend: Backend,
    target: Target,
    options: Options,
    report: Report,
    decisions: Decisions | None,
) -> tuple[Program, Applied | None]:
    """With the cost model's schedules, or those of records."""
    if options.tuned is None:
        return backend.lower(planned, target), None
    from graphopt.tune.apply import lower_tuned

    program, tuning = lower_tuned(planned, backend, target, options.tuned, options.cc, decisions)
    report.tuned_kernels = len({r.kernel for r in tuning.records.values()})
    if stale := len(tuning.all_stale):
        report.notes.append(
            f"{stale} tuning records are of kernels that this graphopt does not make; "
            "`graphopt tune` measures anew"
        )
    return program, tuning


def _gate(options: Options) -> Gate | None:
    if not options.verify_each:
        return None
    from graphopt.check.gate import NumericsGate

    return NumericsGate()


def _run_kernel_passes(
    pipeline: KernelPipeline,
    program: Program,
    backend: Backend,
    target: Target,
    options: Options,
    report: Report,
) -> Program:
    from graphopt.kernel.passbase import KernelContext

    ctx = KernelContext(target=target)
    if not options.verify_each:
        return pipeline.run_program(program, ctx, proofs=False, timings=report.kernel_passes)
    from graphopt.check.kernel_gate import KernelNumericsGate

    report.notes += _unproven(program, backend)
    gate = KernelNumericsGate()
    program = pipeline.run_program(program, ctx, gate=gate, timings=report.kernel_passes)
    report.notes += gate.notes
    return program


def _unproven(program: Program, backend: Backend) -> list[str]:
    """Verify the kernels of a backend; what the verifier has no proof of."""
    from graphopt.kernel.verify import verify_kernel

    try:
        return [str(u) for k in program.kernels for u in verify_kernel(k)]
    except IRError as error:
        raise PluginError(
            f"backend {backend.name} made a broken kernel: {error.message}", hint=error.hint
        ) from error

"""The whole way from a model to an artifact, stage by stage."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt import collector
from graphopt.artifact.naming import PREFIX
from graphopt.compilation import (
    DEFAULT_LEVEL,
    Clock,
    Compilation,
    Made,
    Options,
    Progress,
    Report,
    StageTime,
)
from graphopt.errors import FrontendError, UnsupportedError
from graphopt.generation import default_kernel_pipeline, default_pipeline, generate, lower

if TYPE_CHECKING:
    from graphopt.artifact.loader import Model
    from graphopt.frontend.traced import Exported, Traced
    from graphopt.ir.graph import Graph
    from graphopt.kept import Recipe
    from graphopt.target import Backend, Target

__all__ = [
    "DEFAULT_LEVEL", "Compilation", "Made", "Options", "Progress", "Report", "StageTime", "build",
    "compile", "default_kernel_pipeline", "default_pipeline", "generate", "lower", "make",
    "read_model", "records_path",
]  # fmt: skip


def compile(
    source: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    target: str = "cpu",
    out: str | Path | None = None,
    level: str = DEFAULT_LEVEL,
    passes: str | None = None,
    kernel_passes: str | None = None,
    verify_each: bool = False,
    cc: str | None = None,
    emit_source: bool = False,
    budget: str | None = None,
    tuned: bool | str | Path = False,
    prefix: str = PREFIX,
    static: bool = False,
    without: str | Sequence[str] = (),
    threads: int = 1,
    precision: str = "fp32",
    vendor: str = "auto",
    progress: Progress | None = None,
) -> Model:
    """Compile a model and load the result.

    source: an `nn.Module` (with `example_inputs`), an exported program, or a SOURCE string as the
    command line takes it. out: the artifact's directory; without it, one in the cache, found again
    by content. budget: limits such as `size=2MB,memory=8MB,latency=10ms`, which fail the build when
    they do not hold. tuned: use the records of `graphopt.tune`, of the file named or of the one in
    the cache folder. prefix: what every name of the C begins with. static: also make `model.a`.
    without: passes to leave out, such as `choose-winograd,choose-strassen`, or a list of names.
    precision: fp32, tf32, fp16 or bf16, for targets that have it. vendor: whose libraries may be
    called: auto, none, or names such as `cublaslt,cudnn`.
    Returns the loaded model; its `report` tells what was done.
    Raises: GraphoptError.
    """
    from graphopt.budget import Budget

    limits = None if budget is None else Budget.parse(budget)
    left_out = tuple(filter(None, without.split(","))) if isinstance(without, str) else without
    options = Options(level, passes, verify_each, cc, emit_source, limits, kernel_passes,
                      records_path(tuned), prefix, static, precision, vendor,
                      tuple(left_out))  # fmt: skip
    from graphopt.artifact.loader import load

    made = make(source, example_inputs, target=target, out=out, options=options, progress=progress)
    model = load(made.artifact, threads=threads)
    model.report = made.report
    return model


def make(
    source: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    target: str = "cpu",
    out: str | Path | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Made:
    """As `compile`, loading nothing. What is there is kept where it would come out the same."""
    from graphopt.artifact.directory import remove_leftovers
    from graphopt.kept import find, remember

    job = _job(target, out, options, progress)
    if not job.recipe.repeats:
        return _made(job.compiled(job.read(source, example_inputs)))
    keys = list(filter(None, [job.recipe.of_file(source)]))
    kept = find(job.folder(keys[0]), keys[0]) if keys else None
    if kept is None:
        model = job.read(source, example_inputs)
        keys.append(job.recipe.of_model(model))
        kept = find(job.folder(keys[0]), keys[-1])
    folder = job.folder(keys[0])
    if kept is None:
        made = _made(job.compiled(model, folder))
    else:
        if job.options.budget is not None:
            job.options.budget.check(folder, kept.manifest)
        with contextlib.suppress(OSError):
            remove_leftovers(folder)
        kept.report.stages = job.clock.stages
        manifest = kept.manifest
        made = Made(folder, kept.report, manifest.pipeline, manifest.kernel_pipeline, kept=True)
    for key in keys:
        remember(folder, key, made.report)
    return made


def build(
    source: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    target: str = "cpu",
    out: str | Path | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Compilation:
    """As `compile`, returning every stage's product and loading nothing."""
    job = _job(target, out, options, progress)
    return job.compiled(job.read(source, example_inputs))


@collector.seldom
def read_model(source: Any, example_inputs: Any = None) -> tuple[Graph, Traced | None]:
    """The graph of a model, and the eager model itself unless `source` is a graph or its text.

    source: what `compile` takes, a graph, or the path of IR text (`.go.txt`).
    Raises: FrontendError, UnsupportedError; IRError for text.
    """
    return _imported(_read(source, example_inputs))


def records_path(tuned: bool | str | Path) -> Path | None:
    """The file of tuning records: one named, the default one (True), or none (False)."""
    from graphopt.tune.database import default_path

    if isinstance(tuned, bool):
        return default_path() if tuned else None
    return Path(tuned)


# Stages ------------------------------------------------------------------------------------------


@collector.seldom
def _read(source: Any, example_inputs: Any) -> Exported | Graph:
    """The model as torch exports it; a graph as it is."""
    from graphopt.ir.graph import Graph
    from graphopt.ir.store import SUFFIX, load

    if isinstance(source, Graph):
        return source
    if isinstance(source, str) and source.endswith(SUFFIX):
        return load(Path(source))
    try:
        from graphopt.frontend import export_model
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise FrontendError(
            "torch is not installed, and models are traced with it",
            hint="run `pip install 'graphopt[torch]'`",
        ) from error
    return export_model(source, example_inputs)


@collector.seldom
def _imported(model: Exported | Graph) -> tuple[Graph, Traced | None]:
    from graphopt.ir.graph import Graph

    if isinstance(model, Graph):
        return model, None
    traced = model.imported()
    return traced.graph, traced


@dataclass(frozen=True)
class _Job:
    """What models are compiled with, and where to."""

    recipe: Recipe
    out: Path | None
    clock: Clock

    @property
    def options(self) -> Options:
        return self.recipe.options

    def read(self, source: Any, example_inputs: Any) -> Exported | Graph:
        with self.clock.stage("trace"):
            return _read(source, example_inputs)

    def imported(self, model: Exported | Graph) -> tuple[Graph, Traced | None]:
        from graphopt.ir.graph import Graph

        is_graph = isinstance(model, Graph)
        with contextlib.nullcontext() if is_graph else self.clock.stage("import"):
            return _imported(model)

    def folder(self, key: str) -> Path:
        """Where the artifact goes: in the cache, it is named by all that decides what it is."""
        from graphopt.config import Config

        return self.out or Config.from_environment().cache / "artifacts" / key[:32]

    def compiled(self, model: Exported | Graph, folder: Path | None = None) -> Compilation:
        """The model's artifact, in `folder` or where it goes."""
        from graphopt.artifact.format import read_manifest

        graph, traced = self.imported(model)
        backend, target = self.recipe.backend, self.recipe.target
        compilation = lower(graph, backend, target, self.options, self.clock)
        folder = folder or self.out or self.folder(self.recipe.of_model(model))
        _write(folder, compilation, backend, target, self.options, traced, self.clock)
        compilation.artifact = folder
        compilation.report.code_bytes = read_manifest(folder).memory.code
        files = (p for p in folder.rglob("*") if p.is_file())
        compilation.report.artifact_bytes = sum(p.stat().st_size for p in files)
        return compilation


def _job(
    target: str, out: str | Path | None, options: Options | None, progress: Progress | None
) -> _Job:
    """What cannot end well is told before minutes of work."""
    from graphopt.artifact.directory import check_replaceable
    from graphopt.artifact.naming import check_prefix
    from graphopt.kept import Recipe
    from graphopt.target import resolve

    options = options or Options()
    check_prefix(options.prefix)
    backend, row = resolve(target)
    if options.static and not backend.static_libraries:
        raise UnsupportedError(
            f"the {backend.name} backend makes shared libraries alone", hint="leave out --static"
        )
    if out is not None:
        check_replaceable(Path(out))
    folder = None if out is None else Path(out)
    return _Job(Recipe(backend, row, options), folder, Clock(progress or (lambda name: None)))


def _made(compilation: Compilation) -> Made:
    assert compilation.artifact is not None
    return Made(compilation.artifact, compilation.report, compilation.pipeline,
                compilation.kernel_pipeline)  # fmt: skip


def _write(
    folder: Path,
    compilation: Compilation,
    backend: Backend,
    target: Target,
    options: Options,
    traced: Traced | None,
    clock: Clock,
) -> None:
    """Build the artifact, with golden inputs and outputs where there is an eager model."""
    from graphopt.artifact.golden import Golden
    from graphopt.artifact.writer import write

    with clock.stage("golden"):
        golden = Golden() if traced is None else Golden(*traced.golden())
    budget = options.budget
    with clock.stage("build"):
        write(
            folder,
            compilation,
            backend,
            target,
            golden=golden,
            options=options,
            pipeline=compilation.pipeline,
            kernel_pipeline=compilation.kernel_pipeline,
            budget=budget.limits() if budget else {},
            accept=budget.check if budget else None,
            extra=_extra(compilation, backend, target),
            progress=lambda done, total: clock.progress(f"build {done}/{total}"),
        )


def _extra(compilation: Compilation, backend: Backend, target: Target) -> dict[str, Any]:
    tuning = {"tuning": compilation.tuning.as_dict()} if compilation.tuning else {}
    measured = compilation.tuning.measured if compilation.tuning else None
    facts = backend.facts(compilation.source, compilation.program, target, measured)
    return {**tuning, **facts}

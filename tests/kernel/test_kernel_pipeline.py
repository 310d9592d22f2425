"""Kernel pipelines: text, blame, and their place in a compile."""

from __future__ import annotations

import pytest
from graphopt_backends.cpu.backend import CpuBackend
from graphopt_backends.cpu.targets import TARGETS
from sample_kernel_passes import Misbehave, PeelFirst, Scale

from graphopt import stages
from graphopt.check import check_kernel_pass, check_kernel_refuses, random_constant
from graphopt.driver import Compilation, Options, default_kernel_pipeline, lower
from graphopt.errors import BudgetError, GateError, ParseError, PluginError
from graphopt.ir.text import parse
from graphopt.kernel.ir import Kernel
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.passbase import KernelContext
from graphopt.kernel.pipeline import KernelPipeline, KernelStage, KernelTiming
from graphopt.plugins import Entry, Registry, registry

SHORT = "kernel k(x: f32[9], y: f32[9] output) {{ for i in 0..{} {{ y[i] = x[i] * 2.0 }} }}"
KERNEL = parse_kernel(SHORT.format(4))
LONG = parse_kernel(SHORT.format(9))


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes of the samples, beside the built-in ones."""
    here = "sample_kernel_passes"
    classes = {"peel-first": "PeelFirst", "scale": "Scale", "misbehave": "Misbehave"}
    entries = [Entry("kernel_passes", n, f"{here}:{c}", "acme", "1.2") for n, c in classes.items()]
    odd = Entry("kernel_passes", "odd", f"{here}:_WAYS", "acme", "1.2")
    found = Registry((*registry().entries, *entries, odd))
    monkeypatch.setattr(stages, "registry", lambda: found)


@pytest.mark.parametrize("text", [
    "", "peel-first", "vectorize-innermost,peel-first{longer-than=3},scale{by=0.5}",
    "scale{claims=close}",
])  # fmt: skip
def test_text_comes_back(text: str) -> None:
    assert str(KernelPipeline.parse(text)) == text


ERRORS = [
    ("peel-frist", PluginError,
     "there is no kernel pass 'peel-frist'\nhint: did you mean 'peel-first' of acme?"),
    ("fuse", PluginError,
     "there is no kernel pass 'fuse'\nhint: `graphopt kernel-passes` lists what is installed"),
    ("peel-first{longer=3}", PluginError,
     "kernel pass peel-first of acme has no option 'longer'\nhint: did you mean 'longer-than'?"),
    ("scale{by=much}", ParseError,
     "line 1, column 7: option by of kernel pass scale must be a number"),
    ("odd", PluginError, "'odd' of acme is "),
    ("unroll-short-loops{limit=0}", PluginError,
     "kernel pass unroll-short-loops of graphopt "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "message"), ERRORS, ids=[t for t, *_ in ERRORS])
def test_error_text(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        KernelPipeline.parse(text)
    assert str(caught.value).startswith(message)


# Blame -------------------------------------------------------------------------------------------


def _blamed(how: str, **options: float) -> str:
    stage = KernelStage(Misbehave(how), "acme 1.2", "kernel pass")
    with pytest.raises(PluginError) as caught:
        KernelPipeline((stage,)).run(KERNEL, **options)  # type: ignore[arg-type]
    return str(caught.value)


HINT = "\nhint: leave the pass out and report this to its author"
BLAME = [
    ("raise", f"raised KeyError: 'k'{HINT}"),
    ("nothing", f"returned NoneType, not a Kernel{HINT}"),
    ("rename", "changed the interface of k: it became other(x: f32[9], y: f32[9] output)" + HINT),
    ("reverse", "changed the interface of k: it became k(y: f32[9] output, x: f32[9])" + HINT),
    ("silence", "changed the interface of k: it became k(x: f32[9], y: f32[9])" + HINT),
    ("break", "returned broken IR: k: 'n' is not bound\nin: y[0] = n:f32\n"
     "hint: bound here: nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "message"), BLAME, ids=[h for h, _ in BLAME])
def test_blames_pass_and_distribution(how: str, message: str) -> None:
    assert _blamed(how) == f"kernel pass misbehave of acme 1.2 {message}"


def test_endless_pass_is_stopped() -> None:
    assert _blamed("loop", pass_timeout_s=0.1).startswith(
        "kernel pass misbehave of acme 1.2 did not end within 0.1 s"
    )


def test_user_errors_pass_through() -> None:
    with pytest.raises(BudgetError):
        KernelPipeline.of([Misbehave("refuse")]).run(KERNEL)


# Running -----------------------------------------------------------------------------------------


def test_decisions_are_recorded() -> None:
    ctx = KernelContext(record=True)
    assert KernelPipeline.of([PeelFirst()]).run(KERNEL, ctx) is KERNEL
    assert KernelPipeline.of([PeelFirst()]).run(LONG, ctx) is not LONG
    assert [(e.kernel, e.where, e.reason) for e in ctx.events] == [
        ("k", "for i in 0..4", "4 iterations are not more than 8"),
        ("k", "for i in 0..9", ""),
    ]
    assert ctx.rewrites == 1


def test_fuel_stops_rewrites() -> None:
    assert KernelPipeline.of([PeelFirst()]).run(LONG, KernelContext(fuel=0)) is LONG


def test_timings_and_callbacks() -> None:
    timings: list[KernelTiming] = []
    seen: list[str] = []
    pipeline = KernelPipeline.of([PeelFirst(), Scale(by=0.0)])
    for kernel in (KERNEL, LONG):
        pipeline.run(kernel, timings=timings, print_after=lambda p, k: seen.append(p.name))
    assert seen == ["peel-first", "scale"] * 2
    assert [(t.pass_name, t.rewrites, t.kernels) for t in timings] == [
        ("peel-first", 1, ["k"]), ("scale", 0, ["k", "k"]),
    ]  # fmt: skip
    assert all(t.seconds > 0 for t in timings)


# The kit -----------------------------------------------------------------------------------------

PEELED = """kernel k(x: f32[9], y: f32[9] output) {
  y[0] = x[0] * 2.0
  for i in 0..8 { y[i + 1] = x[i + 1] * 2.0 }
}"""


def test_kit_accepts_what_is_right() -> None:
    made = check_kernel_pass("peel-first", LONG, PEELED)
    assert isinstance(made, Kernel)
    event = check_kernel_refuses("peel-first", KERNEL, "not more than 8")
    assert event.where == "for i in 0..4"


def test_kit_complains() -> None:
    with pytest.raises(AssertionError, match=r"scale\{by=0\.0\}: it made\nkernel k"):
        check_kernel_pass(Scale(by=0.0), LONG, PEELED)
    with pytest.raises(AssertionError, match="peel-first changed nothing"):
        check_kernel_pass("peel-first", KERNEL)
    with pytest.raises(AssertionError, match="run on its own result, it made"):
        check_kernel_pass("peel-first{longer-than=2}", LONG)
    with pytest.raises(AssertionError) as caught:
        check_kernel_refuses("peel-first", KERNEL, "too few")
    assert str(caught.value) == (
        "peel-first refused, but not because 'too few': 4 iterations are not more than 8"
    )
    with pytest.raises(AssertionError, match="peel-first: it made"):
        check_kernel_refuses("peel-first", LONG, "too few")
    with pytest.raises(PluginError, match="is not one kernel pass"):
        check_kernel_pass("peel-first,scale", LONG)
    with pytest.raises(GateError):
        check_kernel_pass(Scale(), LONG)


# Compiles ----------------------------------------------------------------------------------------

GRAPH = """
%x = input : f32[3,40]
%w = constant {key="w"} : f32[24,40]
%y = linear %x, %w
%s = softmax %y {axis=1}
%c = cumsum %s {axis=1}
return %c
"""


def _compiled(**options: object) -> Compilation:
    graph = parse(GRAPH, fill=random_constant)
    return lower(graph, CpuBackend(), TARGETS["x86-64-v3"], Options(**options))  # type: ignore[arg-type]


def test_kernel_passes_run_after_lowering() -> None:
    made = _compiled()
    assert made.kernel_pipeline == "vectorize-innermost"
    assert [t.pass_name for t in made.report.kernel_passes] == ["vectorize-innermost"]
    assert "kernels" in [s.name for s in made.report.stages]
    plain = _compiled(kernel_passes="")
    assert plain.kernel_pipeline == ""
    assert plain.report.kernel_passes == []


def test_kernel_passes_reach_the_code() -> None:
    plain, peeled = (_compiled(kernel_passes=p) for p in ("", "peel-first{longer-than=2}"))
    assert [k.name for k in plain.program.kernels] == [k.name for k in peeled.program.kernels]
    assert plain.sources != peeled.sources
    assert peeled.report.kernel_passes[0].rewrites > 0


def test_gate_runs_under_verify_each() -> None:
    assert _compiled(verify_each=True, kernel_passes="scale{by=0}").report.notes == []
    with pytest.raises(
        GateError, match=r"(?s)kernel pass scale declares exact, but .* comes from acme 1\.2"
    ):
        _compiled(verify_each=True, kernel_passes="scale{by=0.5}")
    _compiled(kernel_passes="scale{by=0.5}")


def test_broken_plugins_are_named() -> None:
    with pytest.raises(PluginError, match=r"kernel pass misbehave of acme 1\.2 raised KeyError"):
        _compiled(kernel_passes="misbehave")


def test_a_backend_is_held_to_the_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    real = CpuBackend.lower

    def broken(self: CpuBackend, graph: object, target: object) -> object:
        program = real(self, graph, target)  # type: ignore[arg-type]
        kernels = tuple(Misbehave("break").run(k, KernelContext()) for k in program.kernels)
        return type(program)(kernels, *list(vars(program).values())[1:])

    monkeypatch.setattr(CpuBackend, "lower", broken)
    with pytest.raises(PluginError, match=r"backend cpu made a broken kernel: .* is not bound"):
        _compiled(verify_each=True)


def test_unknown_level() -> None:
    with pytest.raises(PluginError, match="there is no optimization level 'O9'"):
        default_kernel_pipeline(Options(level="O9"))

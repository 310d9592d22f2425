"""Pipelines: their text, their options, and what happens when a pass misbehaves."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from sample_passes import CancelTransposes

from graphopt import collector, stages
from graphopt import pipeline as pipeline_module
from graphopt.deadline import DeadlineError, within
from graphopt.errors import BudgetError, IRError, ParseError, PluginError
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.ir.types import DType
from graphopt.passbase import Pass, PassContext
from graphopt.pipeline import Pipeline, Timing
from graphopt.plugins import Entry, Registry
from graphopt.rewrite import Rewriter

GRAPH = parse('%x = input : f32[4]\n%c = constant {key="c", value=[2]} : f32[1]\n'
              "%y = mul %x, %c\nreturn %y")  # fmt: skip


@dataclass(frozen=True)
class Tune(Pass):
    """A pass with an option of every type."""

    name: ClassVar[str] = "tune"
    max_inputs: int = 8
    ratio: float = 0.5
    deep: bool = False
    mode: str = "fast"
    dtype: DType | None = None
    axes: tuple[int, ...] = ()
    skip: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.max_inputs < 1:
            raise ValueError("max-inputs must be at least 1")

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        ctx.spend()
        return graph


class Plain(Pass):
    """Not a dataclass: no options."""

    name = "plain"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        return graph


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = __name__
    entries = [("tune", f"{here}:Tune"), ("plain", f"{here}:Plain"), ("odd", f"{here}:GRAPH")]
    found = Registry(tuple(Entry("passes", n, r, "acme", "1.2") for n, r in entries))
    monkeypatch.setattr(stages, "registry", lambda: found)


ROUND_TRIPS = [
    "",
    "plain",
    "tune,plain,tune",
    "tune{max-inputs=3}",
    "tune{ratio=0.25,deep=true,mode=slow,dtype=bf16,axes=[0,2],skip=[add,conv]}",
    'tune{mode="true"}',
    'tune{mode="two words"}',
]


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_round_trip(text: str) -> None:
    assert str(Pipeline.parse(text)) == text


def test_options_are_typed() -> None:
    (tune,) = Pipeline.parse('tune { max-inputs=3, ratio=1, mode="slow", dtype=none }').passes
    assert tune == Tune(max_inputs=3, ratio=1.0, mode="slow")
    assert isinstance(tune, Tune)
    assert isinstance(tune.ratio, float)


ERRORS = [
    ("tnue", PluginError, "there is no pass 'tnue'\nhint: did you mean 'tune' of acme?"),
    ("tune{max_inputs=3}", PluginError,
     "pass tune of acme has no option 'max_inputs'\nhint: did you mean 'max-inputs'?"),
    ("plain{a=1}", PluginError, "pass plain of acme has no option 'a'\nhint: it has no options"),
    ("plain,tune{ratio=fast}", ParseError,
     "line 1, column 12: option ratio of pass tune must be a number"),
    ("tune{dtype=f23}", ParseError, "line 1, column 6: option dtype of pass tune must be one of "
     "f64, f32, f16, bf16, i64, i32, i16, i8, u8, bool or none"),
    ("tune{max-inputs=0}", PluginError,
     "pass tune of acme 1.2 refuses its options: max-inputs must be at least 1"),
    ("tune plain", ParseError,
     "line 1, column 6: expected ',', found 'plain'\nhint: separate passes by commas"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "message"), ERRORS)
def test_error_text(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        Pipeline.parse(text)
    assert str(caught.value) == message


def test_a_manifest_that_names_no_pass() -> None:
    with pytest.raises(PluginError, match=r"'odd' of acme is .*, not a Pass"):
        Pipeline.parse("odd")


# Running -----------------------------------------------------------------------------------------


def _pass(run: Callable[[Graph, PassContext], object]) -> Pass:
    @dataclass(frozen=True)
    class Made(Pass):
        name: ClassVar[str] = "made"

        def run(self, graph: Graph, ctx: PassContext) -> Graph:
            return run(graph, ctx)  # type: ignore[return-value]

    return Made()


def _run(run: Callable[[Graph, PassContext], object], **options: object) -> Graph:
    stage = pipeline_module.Stage(_pass(run), "acme 1.2")
    return Pipeline((stage,)).run(GRAPH, **options)  # type: ignore[arg-type]


def _message(run: Callable[[Graph, PassContext], object], **options: object) -> str:
    with pytest.raises(PluginError) as caught:
        _run(run, **options)
    return caught.value.message


def _raises(graph: Graph, ctx: PassContext) -> Graph:
    raise KeyError("w")


def _says(error: Exception) -> Callable[[Graph, PassContext], Graph]:
    def run(graph: Graph, ctx: PassContext) -> Graph:
        raise error

    return run


def _scales_in_place(graph: Graph, ctx: PassContext) -> Graph:
    for array in graph.constants.values():
        array *= 2
    return graph


def _breaks(graph: Graph, ctx: PassContext) -> Graph:
    rw = Rewriter(graph)
    (mul,) = [n for n in rw.nodes if n.op.name == "mul"]
    mul.result.type = mul.result.type.with_dtype(DType.F16)
    return rw.freeze()


def _renames_its_input(graph: Graph, ctx: PassContext) -> Graph:
    graph.inputs[0].name = "stolen"
    return graph


def test_blames_by_name() -> None:
    assert _message(_raises) == "pass made of acme 1.2 raised KeyError: 'w'"
    assert _message(lambda g, c: None) == "pass made of acme 1.2 returned NoneType, not a Graph"
    own = PluginError("pass made still rewrites after 50 rounds", hint="a hint")
    assert _message(_says(own)) == "pass made of acme 1.2: still rewrites after 50 rounds"
    assert "made of acme 1.2 raised IRError: no" in _message(_says(IRError("no")))
    assert "read-only" in _message(_scales_in_place)


def test_broken_ir() -> None:
    broken = "%y = mul: inference gives f32[4], the node says f16[4]"
    assert _message(_breaks, verify_each=True) == (
        f"pass made of acme 1.2 returned broken IR: {broken}"
    )
    with pytest.raises(PluginError) as caught:
        _run(_breaks)
    assert str(caught.value) == (
        f"the pipeline returned broken IR: {broken}\n"
        "hint: run again with --verify-each to learn which pass is to blame"
    )


def test_changing_the_input_is_noticed() -> None:
    try:
        message = _message(_renames_its_input, verify_each=True)
    finally:
        GRAPH.inputs[0].name = "x"
    assert "changed the graph it was given" in message


def test_user_errors_pass_through() -> None:
    with pytest.raises(BudgetError):
        _run(_says(BudgetError("memory")))


def _loops(graph: Graph, ctx: PassContext) -> Graph:
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def test_endless_pass_is_stopped() -> None:
    assert _message(_loops, pass_timeout_s=0.1) == (
        "pass made of acme 1.2 did not end within 0.1 s"
    )


def test_deadline_outside_the_main_thread() -> None:
    results: list[object] = []

    def work() -> None:
        results.append(within(1.0, lambda: 7))
        try:
            within(0.05, lambda: time.sleep(0.3))
        except DeadlineError:
            results.append("late")
        try:
            within(1.0, lambda: 1 // 0)
        except ZeroDivisionError:
            results.append("error")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [7, "late", "error"]


def test_outer_alarm_goes_on() -> None:
    with pytest.raises(DeadlineError):
        within(0.1, lambda: [within(5, lambda: None), time.sleep(1)])


def test_timings_and_callbacks() -> None:
    timings: list[Timing] = []
    seen: list[str] = []
    Pipeline.of([Tune(), Plain()]).run(
        GRAPH, timings=timings, print_after=lambda p, g: seen.append(f"{p.name} {len(g.nodes)}")
    )
    assert seen == ["tune 2", "plain 2"]
    assert [(t.pass_name, t.rewrites, t.nodes_after) for t in timings] == [
        ("tune", 1, 2), ("plain", 0, 2),
    ]  # fmt: skip
    assert all(t.seconds >= 0 for t in timings)


def test_the_given_graph_stays() -> None:
    before = parse("%x = input : f32[4]\n%y = relu %x\n%z = relu %y\nreturn %z")
    copy = parse("%x = input : f32[4]\n%y = relu %x\n%z = relu %y\nreturn %z")
    _pass_that_drops = _pass(lambda g, c: Rewriter(g).freeze())
    result = Pipeline.of([_pass_that_drops]).run(before, verify_each=True)
    assert before == copy == result
    np.testing.assert_array_equal(len(before.nodes), 2)


def test_a_pass_that_selects_no_node_returns_the_graph() -> None:
    assert CancelTransposes().run(GRAPH, PassContext()) is GRAPH


@pytest.fixture
def usual() -> Iterator[tuple[int, int, int]]:
    """Thresholds that are not those of the tests."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield (700, 10, 10)
    gc.set_threshold(*before)


def test_the_collector_runs_seldom_and_then_as_before(usual: tuple[int, int, int]) -> None:
    with contextlib.suppress(IRError), collector.seldom:
        assert gc.get_threshold() == collector.SELDOM
        raise IRError("", hint="")
    assert gc.get_threshold() == usual


def test_the_last_thread_to_leave_puts_the_thresholds_back(usual: tuple[int, int, int]) -> None:
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(collector.seldom)
    second.enter_context(collector.seldom)
    first.close()
    assert gc.get_threshold() == collector.SELDOM
    second.close()
    assert gc.get_threshold() == usual

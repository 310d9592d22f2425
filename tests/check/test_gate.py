"""The gate: promises kept and broken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sample_passes import DropAbs, RegroupSum, TanhForErf

from graphopt.check import NumericsGate, execute, random_graph, seeded_inputs
from graphopt.check.gate import Allowance
from graphopt.errors import GateError
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline, Stage

GELU = parse("""
%x = input : f32[4,8]
%a = mul %x, %x
%g = gelu %a {approximate="none"} loc("mlp.act", "model.py:7")
%s = softmax %g {axis=1}
return %s
""")


def _gated(pass_: TanhForErf | DropAbs | RegroupSum, graph: Graph) -> Graph:
    return Pipeline.of([pass_]).run(graph, verify_each=True, gate=NumericsGate())


@pytest.mark.parametrize("claims", ["exact", "reassociates"])
def test_broken_promise(claims: str) -> None:
    with pytest.raises(GateError) as caught:
        _gated(TanhForErf(claims), GELU)
    message = str(caught.value)
    assert message.startswith(f"pass tanh-for-erf declares {claims}, but output 0 (%s) is off by ")
    assert "first drifting node: %g = gelu (mlp.act at model.py:7)\n" in message
    assert message.endswith("hint: `graphopt bisect` finds the rewrite")


def test_kept_promise() -> None:
    _gated(TanhForErf("close"), GELU)


def test_distribution_is_named() -> None:
    with pytest.raises(GateError, match=r"it comes from acme 1\.2"):
        Pipeline((Stage(TanhForErf(), "acme 1.2"),)).run(GELU, gate=NumericsGate())


def test_regrouping_is_allowed_to_those_who_declare_it() -> None:
    text = "%x = input : f32[64]\n%y = input : f32[64]\n%z = input : f32[64]\n"
    graph = parse(text + "%a = add %x, %y\n%b = add %a, %z\n%c = sub %b, %x\nreturn %c")
    assert _gated(RegroupSum(), graph) != graph


def test_both_distributions_are_tried() -> None:
    """abs(x) → x holds for positive inputs: the normal ones tell."""
    graph = parse("%x = input : f32[8]\n%y = abs %x\nreturn %y")
    with pytest.raises(GateError, match="drop-abs declares exact"):
        _gated(DropAbs(), graph)


def test_interface_stays() -> None:
    graph = parse("%x = input : f32[8]\n%y = relu %x\nreturn %y")
    other = dataclasses.replace(graph, output_names=("out",))
    with pytest.raises(GateError, match="changed the graph's states or output names"):
        NumericsGate()(DropAbs(), graph, other)
    wider = parse("%x = input : f32[9]\n%y = relu %x\nreturn %y")
    with pytest.raises(GateError) as caught:
        NumericsGate()(DropAbs(), graph, wider)
    assert str(caught.value) == (
        "pass drop-abs changed the graph's inputs: [f32[8]] became [f32[9]]\n"
        "hint: a pass keeps the types of inputs and outputs"
    )


def test_new_constants_are_rounded_once_more() -> None:
    text = '%x = input : f32[8]\n%c = constant {{key="{0}", value=[{1}]}} : f32[1]\n'
    text += "%y = mul %x, %c\nreturn %y"
    third = np.float32(1 / 3)
    before, near = parse(text.format("a", third)), np.nextafter(third, np.float32(1))
    NumericsGate()(DropAbs(), before, parse(text.format("b", near)))
    with pytest.raises(GateError):
        NumericsGate()(DropAbs(), before, parse(text.format("b", 0.3333)))


def test_allowance() -> None:
    exact, loose = Allowance(1e-12), Allowance(1e-9, bound=0.1)
    x = np.array([1.0, 10.0, np.nan, np.inf])
    assert exact.excess(x, x) == 0
    assert exact.excess(x, x + 1e-6) == pytest.approx(1e-6)
    assert loose.excess(x, x + 0.9) == 0
    assert loose.excess(x, x + 1.1) == pytest.approx(1.1)
    assert exact.excess(x, x[::-1]) == np.inf
    assert exact.excess(x, np.array([1.0, 10.0, np.nan, -np.inf])) == np.inf
    small = np.array([1e-3])
    assert loose.excess(small, small * 1.2) > 0  # a bound is relative, however small the output
    assert exact.excess(np.array([1, 2]), np.array([1, 3])) == np.inf
    assert exact.excess(np.zeros((0, 3)), np.zeros((0, 3))) == 0


def test_each_graph_runs_once() -> None:
    gate = NumericsGate()
    chain = parse("%x = input : f32[8]\n%y = relu %x\nreturn %y")
    copy = dataclasses.replace(chain)
    gate(DropAbs(), chain, copy)
    assert gate._last is not None
    assert gate._last[0] is copy


def test_a_pass_that_does_nothing_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.check import gate as gate_module

    runs: list[Graph] = []

    def counted(graph: Graph, inputs: gate_module.Arrays) -> gate_module.Arrays:
        runs.append(graph)
        return execute(graph, inputs, precision=np.float64)

    monkeypatch.setattr(gate_module, "run_exactly", counted)
    graph = parse("%x = input : f32[8]\n%y = relu %x\nreturn %y")
    gate = NumericsGate(seeds=(0,))
    gate(DropAbs(), graph, dataclasses.replace(graph))
    assert runs == [graph]
    other = parse("%x = input : f32[8]\n%y = relu %x\n%z = relu %y\nreturn %z")
    gate(DropAbs(), gate._last[0], other)  # type: ignore[index]
    assert len(runs) == 2


INDEXING = """
%ids = input : i64[2,6]
%table = constant {key="t"} : f32[5,4]
%positions = constant {key="p"} : f32[6,4]
%two = full {value=2, shape=[1], dtype=i64}
%e = gather %table, %ids {axis=0}
%seen = ne %ids, %two
%n = cast %seen {dtype=i64}
%c = cumsum %n {axis=1}
%p = gather %positions, %c {axis=0}
%y = add %e, %p
return %y
"""


def test_indices_stay_inside() -> None:
    arrays = {"t": np.ones((5, 4), "f4"), "p": np.ones((7, 4), "f4")}
    graph = parse(INDEXING.replace("f32[6,4]", "f32[7,4]"), arrays)
    seen = set()
    for seed in range(20):
        (ids,) = seeded_inputs(graph, seed)
        execute(graph, [ids])
        seen |= set(ids.ravel().tolist())
    assert seen == {0, 1}  # through the cumsum, larger ones could leave the table of positions


def test_plain_indices_reach_the_whole_table() -> None:
    text = "%i = input : i64[64]\n%t = input : f32[5,4]\n%j = reshape %i {shape=[8,8]}\n"
    graph = parse(text + "%y = gather %t, %j {axis=0}\nreturn %y")
    assert set(seeded_inputs(graph, 0)[0].tolist()) == {0, 1, 2, 3, 4}


def test_symbolic_sizes_agree() -> None:
    graph = parse(
        "%x = input : f32[s:2..9,4]\n%y = input : f32[s:2..9,4]\n%z = add %x, %y\nreturn %z"
    )
    for seed in range(5):
        x, y = seeded_inputs(graph, seed)
        assert x.shape == y.shape
        assert 2 <= x.shape[0] <= 9
    assert seeded_inputs(graph, 0, sizes={"s": 3})[0].shape == (3, 4)


@pytest.mark.parametrize("seed", range(40))
def test_identity_passes_on_random_graphs(seed: int) -> None:
    from graphopt.rewrite import Rewriter

    graph = random_graph(seed, tame=False)
    copy = Rewriter(graph).freeze()
    assert copy == graph
    NumericsGate()(DropAbs(), graph, copy)


def test_fuel_stops_rewrites() -> None:
    graph = parse("%x = input : f32[8]\n%y = abs %x\n%z = abs %y\nreturn %z")
    result = Pipeline.of([DropAbs()]).run(graph, PassContext(fuel=1))
    assert [n.op.name for n in result.nodes] == ["abs"]

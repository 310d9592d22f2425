"""Whose time a call's is, where what is tuned was left open and what was profiled was not."""

from __future__ import annotations

from graphopt.check.passkit import random_constant
from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph, Loc, Node
from graphopt.ir.text import parse
from graphopt.program import CallResult, KernelCall
from graphopt.tune.attribution import attribute

TEXT = """
  %x = input : f32[4,8]
  %w = constant {key="w"} : f32[8,8]
  %one = fused %x, %w {kind="contraction", offers=["cublaslt","kernel"]} : f32[4,8] {
    %a = input : f32[4,8]
    %b = input : f32[8,8]
    %c = linear %a, %b : f32[4,8] loc("first", "net.py:1")
    %d = relu %c : f32[4,8] loc("act", "net.py:2")
    return %d
  }
  %two = fused %one, %w {kind="contraction", offers=["kernel","cublaslt"]} : f32[4,8] {
    %a = input : f32[4,8]
    %b = input : f32[8,8]
    %c = linear %a, %b : f32[4,8] loc("second", "net.py:3")
    return %c
  }
  %three = fused %two {kind="pointwise"} : f32[4,8] {
    %a = input : f32[4,8]
    %b = neg %a : f32[4,8] loc("second", "net.py:3")
    return %b
  }
  %four = fused %three {kind="pointwise"} : f32[4,8] {
    %a = input : f32[4,8]
    %b = neg %a : f32[4,8] loc("second", "net.py:3")
    return %b
  }
  return %four"""


def _call(name: str, *modules: str, region: str = "", makes: str = "") -> KernelCall:
    lines = {"first": "net.py:1", "act": "net.py:2", "second": "net.py:3"}
    locs = tuple(Loc(m, lines[m]) for m in modules)
    results = (CallResult(makes, _graph().inputs[0].type),) if makes else ()
    return KernelCall(name, (), locs, region=region, results=results)


def _graph() -> Graph:
    return parse(TEXT, fill=random_constant)


def _fused(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.body is not None]


def test_calls_are_the_regions_that_they_compute_most_of():
    """A library's call and the kernel behind it are one region's; closed regions that compute alike
    have a call each, and take none of an open one's time, whatever it has in common with theirs."""
    graph = _graph()
    one, two, three, four = _fused(graph)
    alike = region_digest(three)
    calls = [
        _call("cublaslt", "first"), _call("rest", "act"), _call("cublaslt", "second"),
        _call("neg", "second", region=alike), _call("neg", "second", region=alike),
        _call("copy"),
    ]  # fmt: skip
    found = attribute(calls, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], graph)
    assert found == {one: 3.0, two: 4.0, three: 8.0, four: 16.0}


def test_without_lines_of_source_results_tell():
    graph = _graph()
    found = attribute([_call("cublaslt", makes="two")], [5.0], graph)
    assert [found[n] for n in _fused(graph)] == [0.0, 5.0, 0.0, 0.0]

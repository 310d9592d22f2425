"""networkx views and what they answer."""

from __future__ import annotations

from graphopt.ir.analysis import (
    Interval,
    dominators,
    generations,
    live_intervals,
    node_view,
    post_dominators,
    reaches,
    value_view,
)
from graphopt.ir.text import parse

DIAMOND = parse("""
%x = input : f32[4]
%a = relu %x
%b = exp %a
%c = abs %a
%d = add %b, %c
%e = mul %d, %d
return %e, %c
""")
A, B, C, D, E = DIAMOND.nodes


def test_views() -> None:
    assert list(node_view(DIAMOND).edges) == [(A, B), (A, C), (B, D), (C, D), (D, E)]
    assert node_view(DIAMOND).edges[D, E]["values"] == [D.result]
    edges = value_view(DIAMOND).edges(data="node")
    assert [(u.name, v.name, n.op.name) for u, v, n in edges][:2] == [
        ("x", "a", "relu"), ("a", "b", "exp"),
    ]  # fmt: skip


def test_dominators() -> None:
    assert dominators(DIAMOND) == {A: None, B: A, C: A, D: A, E: D}
    assert post_dominators(DIAMOND) == {A: None, B: D, C: None, D: E, E: None}


def test_a_second_input_breaks_dominance() -> None:
    graph = parse(
        "%x = input : f32[4]\n%y = input : f32[4]\n%a = relu %x\n%b = add %a, %y\nreturn %b"
    )
    assert list(dominators(graph).values()) == [None, None]


def test_generations_and_reach() -> None:
    assert generations(DIAMOND) == [[A], [B, C], [D], [E]]
    assert reaches(DIAMOND, A, E)
    assert not reaches(DIAMOND, B, C)


def test_live_intervals() -> None:
    live = {v.name: i for v, i in live_intervals(DIAMOND).items()}
    assert live == {
        "x": Interval(-1, 0), "a": Interval(0, 2), "b": Interval(1, 3), "c": Interval(2, 5),
        "d": Interval(3, 4), "e": Interval(4, 5),
    }  # fmt: skip
    assert live["a"].overlaps(live["b"])
    assert not live["x"].overlaps(live["b"])


def test_empty_graph() -> None:
    graph = parse("%x = input : f32[4]\nreturn %x")
    assert dominators(graph) == post_dominators(graph) == {}
    assert generations(graph) == []

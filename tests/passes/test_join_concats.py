"""join-concats: parts are written where they are to lie, once; the rest is copied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from graphopt_passes.memory.plan_memory import buffers_of
from graphopt_passes.pipelines import text
from real_graphs import tiny

from graphopt.check import check_pass, check_refuses, random_constant
from graphopt.ir.graph import Graph, Node
from graphopt.ir.text import parse
from graphopt.ir.views import Storages, is_view, stored_parts
from graphopt.pipeline import Pipeline

HEAD = """
%x = input : f32[8,1024]
%w = constant {key="w"} : f32[2048,1024]
%v = constant {key="v"} : f32[2048,2048]
%a = linear %x, %w
%b = softmax %a {axis=1}
"""


def regions(body: str, head: str = HEAD) -> Graph:
    return Pipeline.parse("fuse").run(parse(head + body, fill=random_constant))


def joins(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op.name == "concat"]


def layouts(node: Node) -> list[str]:
    return [str(o.type.layout) for o in node.operands]


def test_both_parts_are_written_in_place() -> None:
    graph = check_pass(
        "join-concats", regions("%c = concat %a, %b {axis=1}\n%r = relu %c\nreturn %r")
    )
    (node,) = joins(graph)
    assert layouts(node) == ["@[0,1:0:2048]", "@[0,1:2048:0]"]
    assert is_view(node)
    assert [n.op.name for n in graph.nodes if n.op.kind != "source"] == [
        "fused", "fused", "concat", "fused",
    ]  # fmt: skip


def test_what_the_region_computed_is_left_to_it() -> None:
    """The slice and the input are copied, in one region; the products stay in place."""
    body = "%s = slice %x {starts=[0,0], stops=[8,512], steps=[1,1]}\n"
    body += "%c = concat %a, %s, %x, %b {axis=1}\n%r = relu %c\nreturn %r"
    graph = check_pass("join-concats", regions(body))
    (node,) = joins(graph)
    assert layouts(node) == ["@[0,1:0:3584]", "@[0,1:2048:2048]", "@[0,1:3584:0]"]
    copied = node.operands[1].producer
    assert copied is not None
    assert copied.body is not None
    assert [n.op.name for n in copied.body.nodes] == ["slice", "concat"]


def test_a_value_lies_in_one_place() -> None:
    """The same part twice, or in two concatenations: the second time it is copied."""
    body = "%c = concat %a, %b, %a {axis=1}\n%d = concat %b, %a {axis=1}\n"
    body += "%r = relu %c\n%s = relu %d\nreturn %r, %s"
    graph = check_pass("join-concats", regions(body))
    (node,) = joins(graph)
    assert layouts(node) == ["@[0,1:0:4096]", "@[0,1:2048:2048]", "@[0,1:4096:0]"]


DENSE = """
%m1 = linear %c1, %v1
%c2 = concat %a, %b, %m1 {axis=1}
%m2 = linear %c2, %v2
%c3 = concat %a, %b, %m1, %m2 {axis=1}
%r = relu %c3
return %r"""


def test_what_grows_is_written_once() -> None:
    """As in a DenseNet: each concatenation begins with the one before."""
    head = HEAD + "".join(
        f'%v{i} = constant {{key="v{i}"}} : f32[64,{4096 + 64 * (i - 1)}]\n' for i in (1, 2)
    )
    graph = check_pass("join-concats", regions("%c1 = concat %a, %b {axis=1}" + DENSE, head))
    inner, middle, outer = joins(graph)
    assert middle.operands[0] is inner.result
    assert outer.operands[0] is middle.result
    assert layouts(inner) == ["@[0,1:0:2176]", "@[0,1:2048:128]"]
    assert layouts(outer) == ["@[0,1:0:64]", "@[0,1:4160:0]"]
    storages = Storages(graph)
    parts = (*inner.operands, middle.operands[1], outer.operands[1])
    assert {storages.of(p) for p in parts} == {inner.operands[0]}
    sizes = [b.size for b in buffers_of(graph, in_place=("pointwise",))]
    assert sizes == [8 * 4224 * 4]


REFUSALS: dict[str, tuple[Callable[[], Graph], str]] = {
    "inputs": (
        lambda: regions("%c = concat %x, %x {axis=1}\n%r = relu %c\nreturn %r"),
        "copying its parts takes fewer kernels",
    ),
    "results": (
        lambda: regions("%c = concat %a, %b {axis=1}\n%r = relu %c\nreturn %r, %a, %b"),
        "copying its parts takes fewer kernels",
    ),
    "views": (
        lambda: regions(
            "%v0 = reshape %a {shape=[8,2,1024]}\n%s = relu %v0\n"
            "%c = concat %a, %x {axis=1}\n%r = relu %c\nreturn %r, %s"
        ),
        "copying its parts takes fewer kernels",
    ),
    "computed": (
        lambda: regions(
            "%n = neg %a\n%m = abs %a\n%c = concat %n, %m {axis=1}\n%r = relu %c\nreturn %r"
        ),
        "copying its parts takes fewer kernels",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(case: str) -> None:
    graph, reason = REFUSALS[case]
    check_refuses("join-concats", graph(), reason)


@pytest.mark.transformers
def test_joins_the_skips_of_a_unet() -> None:
    graph = Pipeline.parse(text("O2")).run(tiny("tiny_unet"))
    found = joins(graph)
    assert found
    for node in found:
        parts = [part for o in node.operands for part in stored_parts(o)]
        offsets = {p.offset for p in parts if p.producer and p.producer.body}
        assert len(offsets) == 1, f"{node} has parts in several buffers"

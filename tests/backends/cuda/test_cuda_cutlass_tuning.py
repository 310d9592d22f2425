"""Schedules of CUTLASS that a tuner may try: each is an offer, a candidate, and a decision."""

from __future__ import annotations

import pytest
from graphopt_backends.cuda.vendor.delegate import delegate
from graphopt_backends.cuda.vendor.schedules import schedules
from graphopt_backends.cuda.vendor.visitor import Product, product

from graphopt.errors import InternalError
from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse, print_graph
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline
from graphopt.target import resolve

BACKEND, SM_90A = resolve("cuda:sm_90a")


@pytest.mark.parametrize(
    ("m", "n", "k", "others"),
    [
        (2048, 2048, 1024, [
            "256x128x64_2x1_cooperative", "128x256x64_2x1_cooperative",
            "128x128x64_2x1_cooperative", "128x128x64_2x1", "64x128x64_1x1", "64x64x64_1x1",
            "128x128x64_1x1_cooperative_streamk",
        ]),
        (100, 256, 4096, [
            "128x256x64_2x1_cooperative", "128x128x64_2x1_cooperative", "128x128x64_2x1",
            "128x128x64_1x1", "64x128x64_1x1", "64x64x64_1x1",
            "128x128x64_1x1_cooperative_streamk", "128x128x64_1x1_cooperative_split2",
            "128x128x64_1x1_cooperative_split4", "128x128x64_1x1_cooperative_split8",
        ]),
        (16, 4096, 4096, [
            "64x16x64_1x1_turned", "128x16x64_1x1_turned",
            "128x16x64_1x1_cooperative_streamk_turned", "128x16x64_1x1_cooperative_split2_turned",
            "128x16x64_1x1_cooperative_split8_turned",
        ]),
        (16, 4096, 128, ["128x16x64_1x1_turned"]),
    ],
)  # fmt: skip
def test_what_a_tuner_may_try(m: int, n: int, k: int, others: list[str]):
    """Each once, and not the table's own; k is cut where tiles are few and k is long."""
    found = product(linear(m, n, k))
    assert isinstance(found, Product)
    assert [str(s) for s in schedules(found, SM_90A.sms)] == others


def linear(m: int, n: int, k: int) -> Graph:
    return parse(
        f"%x = input : f16[{m},{k}]\n%w = input : f16[{n},{k}]\n%y = linear %x, %w\nreturn %y"
    )


OPEN = "fuse,choose-libraries{use=[cutlass],open=true}"


def test_a_schedule_is_an_offer_and_a_decision():
    graph = linear(2048, 2048, 1024)
    opened = Pipeline.parse(OPEN).run(graph, PassContext(target=SM_90A))
    (node,) = (n for n in opened.nodes if n.body is not None)
    assert node.attrs.offers[:3] == ("cutlass", "kernel", "cutlass.256x128x64_2x1_cooperative")  # type: ignore[attr-defined]
    assert parse(print_graph(opened)) == opened
    settled = Pipeline.parse(OPEN).settled({region_digest(node): "cutlass.64x128x64_1x1"})
    assert Pipeline.parse(str(settled)) == settled
    after = settled.run(graph, PassContext(target=SM_90A))
    (node,) = (n for n in after.nodes if n.body is not None)
    made = delegate(node, SM_90A)
    assert "using Tile = go::Tile<64, 128, 64>;" in made.library.source
    assert made.name.startswith("cutlass_f16_2048x2048x1024_64x128x64_")


def test_a_schedule_is_a_candidate():
    graph = linear(16, 4096, 4096)
    opened = Pipeline.parse(OPEN).run(graph, PassContext(target=SM_90A))
    (node,) = (n for n in opened.nodes if n.body is not None)
    space = BACKEND.space(node, SM_90A)
    names = set()
    for who in node.attrs.offers:  # type: ignore[attr-defined]
        point = next(p for p in space.points if p["by"] == who)
        names.add(BACKEND.candidate(node, opened, SM_90A, point, lambda kernel: kernel).kernel)
    assert len(names) == len(node.attrs.offers) == 7  # type: ignore[attr-defined]


def test_a_schedule_that_there_is_not():
    text = print_graph(
        Pipeline.parse(OPEN.replace("open", "always")).run(
            linear(64, 64, 64), PassContext(target=SM_90A)
        )
    )
    graph = parse(text.replace('library="cutlass"', 'library="cutlass.1x1"'))
    (node,) = (n for n in graph.nodes if n.body is not None)
    with pytest.raises(InternalError, match="CUTLASS has no schedule '1x1' for the region"):
        delegate(node, SM_90A)

"""What is gathered from many places is written down before it is read."""

from __future__ import annotations

import pytest
from graphopt_passes.fuse.fuse import Fuse
from graphopt_passes.legalize.decompose_resize import DecomposeResize

from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.passbase import PassContext
from graphopt.target import resolve

RESIZE = '%{out} = resize %{x} {{size=[{size},{size}], mode="{mode}"}}\n'


def _regions(*resizes: str, between: str = "") -> list[int]:
    """Gathers of each region of resizes that follow each other."""
    text, x, size = "%x = input : f32[1,3,4,4]\n", "x", 4
    for n, mode in enumerate(resizes):
        size *= 2
        text += RESIZE.format(out=f"r{n}", x=x, size=size, mode=mode)
        x = f"r{n}"
        if between:
            text += f"%a{n} = {between} %{x}\n"
            x = f"a{n}"
    return _gathers(parse(f"{text}return %{x}"))


def _gathers(graph: Graph) -> list[int]:
    context = PassContext(target=resolve("cpu")[1])
    fused = Fuse().run(DecomposeResize().run(graph, context), context)
    bodies = [n.body for n in fused.nodes if n.body is not None]
    return [sum(n.op.name == "gather" for n in body.nodes) for body in bodies]


@pytest.mark.parametrize(
    ("modes", "gathers"),
    [
        (["nearest"], [2]),
        (["bilinear"], [4]),
        (["nearest", "nearest"], [4]),
        (["nearest", "bilinear"], [6]),
        (["bilinear", "bilinear"], [4, 4]),
        (["bicubic"], [4, 4]),
    ],
)
@pytest.mark.parametrize("between", ["", "relu"])
def test_regions(modes: list[str], gathers: list[int], between: str) -> None:
    assert _regions(*modes, between=between) == gathers


def test_a_cube_has_eight_corners() -> None:
    graph = parse("""%x = input : f32[1,3,4,4,4]
%y = resize %x {size=[8,8,8], mode="bilinear"}
return %y""")
    assert _gathers(graph) == [6]


def test_a_product_of_two_tables_stays_whole() -> None:
    """Each is read at one place."""
    graph = parse("""%i = input : i64[5]
%t = input : f32[9,4]
%a = gather %t, %i {axis=0}
%b = relu %a
%c = gather %b, %i {axis=0}
return %c""")
    assert _gathers(graph) == [2]

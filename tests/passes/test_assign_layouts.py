"""assign-layouts: channels last for images, views for transposes and reshapes."""

from __future__ import annotations

import pytest
from graphopt_passes.layout.assign_layouts import channels_last
from graphopt_passes.pipelines import text
from real_graphs import prepared
from soups import SOUPS

from graphopt.check import NumericsGate, check_pass, random_constant, random_graph
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.ir.types import Layout
from graphopt.ir.views import is_view
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

CONV = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}"
NHWC = "f32[1,4,6,6]@[0,2,3,1]"
IMAGE = '%x = input : f32[1,4,6,6]\n%w = constant {key="w"} : f32[4,4,1,1]\n'


def assigned(body: str) -> Graph:
    return check_pass("assign-layouts", parse(body, fill=random_constant))


def test_images_lie_channels_last() -> None:
    check_pass(
        "assign-layouts",
        before=IMAGE + f"%c = conv %x, %w {CONV}\n%r = relu %c\nreturn %r",
        after=IMAGE
        + f"%i = relayout %x : {NHWC}\n%c = conv %i, %w {CONV} : {NHWC}\n%r = relu %c : {NHWC}\n"
        "%o = relayout %r : f32[1,4,6,6]\nreturn %o",
    )


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_bert"])
def test_every_layout_is_a_rewrite_of_its_own(name: str) -> None:
    """What bisect relies on: any number of layouts leaves a graph that means the same, and one more
    unit of fuel gives one more node a layout."""
    graph = prepared(name, "fold-constants,fold-batchnorm")
    ctx = PassContext(record=True)
    Pipeline.parse("assign-layouts").run(graph, ctx)
    assert ctx.rewrites == len(ctx.events) > 5
    for fuel in (0, 1, 2, ctx.rewrites // 2, ctx.rewrites - 1):
        some = PassContext(fuel=fuel, record=True)
        Pipeline.parse("assign-layouts").run(
            graph, some, verify_each=True, gate=NumericsGate(seeds=(0,))
        )
        assert [str(e.node.loc) for e in some.events] == [
            str(e.node.loc) for e in ctx.events[:fuel]
        ]


def test_padding_relays_on_its_way() -> None:
    pad = '%p = pad %x {before=[0,0,1,1], after=[0,0,1,1], value=0.0, mode="constant"}\n'
    graph = assigned(
        IMAGE + pad + f"%c = conv %p, %w {CONV}\n%y = mean %c {{axes=[2,3]}}\nreturn %y"
    )
    assert [n.op.name for n in graph.nodes] == ["constant", "pad", "conv", "mean"]


def test_a_sum_across_layouts_gets_a_copy() -> None:
    """In the convolution's epilogue each element of the image would be gathered by itself."""
    check_pass(
        "assign-layouts",
        before=IMAGE + f"%c = conv %x, %w {CONV}\n%s = add %x, %c\nreturn %s",
        after=IMAGE
        + f"%i = relayout %x : {NHWC}\n%c = conv %i, %w {CONV} : {NHWC}\n"
        + f"%s = add %i, %c : {NHWC}\n%o = relayout %s : f32[1,4,6,6]\nreturn %o",
    )


def test_a_sum_of_rows_needs_none() -> None:
    """Heads that are turned keep their rows."""
    body = "%x = input : f32[1,5,2,4]\n%y = input : f32[1,2,5,4]\n"
    graph = assigned(body + "%t = transpose %x {perm=[0,2,1,3]}\n%s = add %t, %y\nreturn %s")
    assert [n.op.name for n in graph.nodes] == ["transpose", "add"]


def test_transposes_and_reshapes_are_views() -> None:
    body = IMAGE + f"%c = conv %x, %w {CONV}\n%r = reshape %c {{shape=[1,4,36]}}\n"
    graph = assigned(body + "%t = transpose %r {perm=[0,2,1]}\n%y = softmax %t {axis=2}\nreturn %y")
    moves = {n.op.name: n for n in graph.nodes if n.op.name in ("reshape", "transpose")}
    assert all(is_view(n) for n in moves.values())
    assert moves["transpose"].result.type.layout is None  # [n, h * w, c] is row-major again


def test_attention_writes_what_its_reader_wants() -> None:
    body = "%q = input : f32[1,2,5,4]\n%a = attention %q, %q, %q {scale=0.5, causal=false}\n"
    body += "%t = transpose %a {perm=[0,2,1,3]}\n%r = reshape %t {shape=[1,5,8]}\nreturn %r"
    graph = assigned(body)
    assert [n.op.name for n in graph.nodes] == ["attention", "transpose", "reshape"]
    assert graph.nodes[0].result.type.layout == Layout.ordered((0, 2, 1, 3))
    assert all(is_view(n) for n in graph.nodes[1:])


def copied(body: str, passes: str = "assign-layouts") -> list[str]:
    """Operands of products that are copies, by position."""
    graph = check_pass(passes, parse(body, fill=random_constant))
    return [
        f"{n.op.name} {i}"
        for n in graph.nodes
        if n.op.name in ("linear", "matmul")
        for i, o in enumerate(n.operands)
        if o.producer is not None and o.producer.op.name == "relayout"
    ]


def test_a_transposed_right_factor_is_copied_once_for_kernels_that_pack_none() -> None:
    body = "%x = input : f32[5,8]\n%z = input : f32[5,8]\n%t = transpose %z {perm=[1,0]}\n"
    body += "%y = matmul %x, %t\n%v = matmul %y, %x\n%u = matmul %x, %t\nreturn %v, %u"
    packed, copy = "assign-layouts", "assign-layouts{packs-right=false}"
    assert copied(body) == []
    assert copied(body, copy) == ["matmul 1", "matmul 1"]
    graph = check_pass(copy, parse(body, fill=random_constant))
    assert [n.op.name for n in graph.nodes].count("relayout") == 1
    one_row = body.replace("%x = input : f32[5,8]", "%x = input : f32[1,8]")
    one_row = one_row.replace("%v = matmul %y, %x\n", "").replace("return %v, %u", "return %y, %u")
    assert copied(one_row, packed) == ["matmul 1", "matmul 1"]  # nobody to share a panel with


@pytest.mark.parametrize(
    ("depth", "columns", "copies"), [(128, 256, 1), (128, 255, 0), (127, 256, 0)]
)
def test_a_transposed_left_factor_is_copied_for_many_columns(
    depth: int, columns: int, copies: int
) -> None:
    body = f"%x = input : f32[{depth},9]\n%t = transpose %x {{perm=[1,0]}}\n"
    body += f'%w = constant {{key="w"}} : f32[{columns},{depth}]\n%y = linear %t, %w\nreturn %y'
    assert copied(body) == ["linear 0"] * copies


@pytest.mark.parametrize(("count", "copies"), [(8, 1), (7, 0)])
def test_rows_that_lie_across_memory_are_copied_for_a_gather(count: int, copies: int) -> None:
    """Once for two gathers, and where they read as much as there is."""
    body = (
        f"%x = input : f32[8,32]\n%i = input : i64[4,{count}]\n%t = transpose %x {{perm=[1,0]}}\n"
    )
    body += "%y = gather %t, %i {axis=0}\n%j = neg %i\n%z = gather %t, %j {axis=0}\n"
    graph = assigned(body + "%s = add %y, %z\nreturn %s")
    assert [n.op.name for n in graph.nodes].count("relayout") == copies
    fused = Pipeline.parse("fuse").run(graph)
    assert sum(n.op.name == "fused" for n in fused.nodes) == 1 + copies


@pytest.mark.parametrize("norm", ["layer_norm %t, %g, %b", "rms_norm %t, %g"])
def test_rows_that_lie_across_memory_are_copied_for_a_norm(norm: str) -> None:
    """And what it writes does not: a product reads it."""
    head = '%x = input : f32[2,6,8]\n%g = constant {key="g"} : f32[6]\n'
    head += '%b = constant {key="b"} : f32[6]\n%t = transpose %x {perm=[0,2,1]}\n'
    graph = assigned(head + f"%y = {norm} {{axes=1, eps=1e-05}}\nreturn %y")
    (copy,) = (n for n in graph.nodes if n.op.name == "relayout")
    assert copy.result.type.layout is None
    assert graph.outputs[0].type.layout is None


def test_sums_lie_as_the_next_product_wants_them() -> None:
    """A residual whose rows are turned follows the other operand; an image channels last is not
    turned."""
    head = '%x = input : f32[2,6,8]\n%w = constant {key="w"} : f32[6,6]\n'
    head += "%t = transpose %x {perm=[2,0,1]}\n%l = linear %t, %w\n"
    graph = assigned(head + "%y = add %t, %l\n%z = linear %y, %w\nreturn %z")
    add = next(n for n in graph.nodes if n.op.name == "add")
    assert add.result.type.layout is None
    image = IMAGE + f"%r = input : f32[1,4,6,6]\n%c = conv %x, %w {CONV}\n"
    graph = assigned(image + f"%y = add %r, %c\n%z = conv %y, %w {CONV}\nreturn %z")
    add = next(n for n in graph.nodes if n.op.name == "add")
    assert str(add.result.type) == NHWC


def test_products_with_layouts_of_no_elements() -> None:
    body = "%x = input : f32[4,6]\n%s = slice %x {starts=[2,0], stops=[2,6], steps=[1,1]}\n"
    graph = assigned(
        body + "%t = transpose %s {perm=[1,0]}\n%r = reshape %t {shape=[0,3]}\nreturn %r"
    )
    assert graph.outputs[0].type.layout is None


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_channels_last(rank: int) -> None:
    assert channels_last(rank).order == (0, *range(2, rank), 1)


def _check(graph: Graph) -> None:
    for value in graph.outputs:
        assert value.type.layout is None, f"{value} is returned"
    for node in graph.nodes:
        if node.op.name == "transpose" and node.result not in graph.outputs:
            assert is_view(node), f"{node} would be a copy"


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_convnext", "tiny_segformer", "tiny_bert"])
def test_models(name: str) -> None:
    graph = prepared(name, text("O2").split(",assign-layouts")[0])
    result = check_pass("assign-layouts", graph)
    _check(result)
    copies = sum(n.op.name == "relayout" for n in result.nodes)
    windows = sum(n.op.kind in ("contraction", "window") and n.op.name != "linear"
                  for n in result.nodes)  # fmt: skip
    assert copies <= max(2, windows // 4)  # the image in, the features out


@pytest.mark.parametrize("soup", ["products", "views", "attentions"])
def test_soups(soup: str) -> None:
    for seed in range(15):
        result = Pipeline.parse("assign-layouts").run(SOUPS[soup](seed), verify_each=True)
        _check(result)


@pytest.mark.parametrize("seed", range(15))
def test_random_graphs(seed: int) -> None:
    _check(Pipeline.parse("assign-layouts").run(random_graph(seed, size=20), verify_each=True))

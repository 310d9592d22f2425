"""The text of a product or a convolution that CUTLASS computes: its types, its epilogue visitor
tree, its arguments."""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.ir.types import DType
from graphopt_backends.cuda.emit.ctypes import literal
from graphopt_backends.cuda.emit.device import TEMPLATES
from graphopt_backends.cuda.vendor.convolution import Convolution
from graphopt_backends.cuda.vendor.matrices import Matrices
from graphopt_backends.cuda.vendor.schedules import Schedule
from graphopt_backends.cuda.vendor.visitor import (
    Accumulator,
    Columns,
    Compute,
    Product,
    Scalar,
    Tensor,
    Tree,
)

_ELEMENT = {DType.F32: "float", DType.F16: "go::f16", DType.BF16: "go::bf16"}
_INDENT = "    "
_LINE = 66


def emit_product(p: Product, s: Schedule, name: str) -> str:
    """`{name}.cu`: `{name}_plan` tells the bytes of workspace; `{name}_launch` takes pointers to
    the operands, the result, the workspace."""
    source = tensors(p.tree)[:1]
    added = _ELEMENT[source[0].dtype] if source else "void"
    tile, cluster = ", ".join(map(str, s.tile)), ", ".join(map(str, s.cluster))
    extents = (p.n, p.m) if s.turned else (p.m, p.n)
    factors = [(p.a, _rows(p.left)), (p.b, _right(p))]
    (left, left_lies), (right, right_lies) = factors[::-1] if s.turned else factors
    return f"""#include "{TEMPLATES}"

namespace {name} {{

struct Shape {{
    using Tile = go::Tile<{tile}>;
    using Cluster = go::Cluster<{cluster}>;
    using Schedule = go::{"Cooperative" if s.cooperative else "Pingpong"};
    using Scheduler = go::{"WholeTiles" if s.splits == 1 else "StreamK"};
    using Factor = {_ELEMENT[p.dtype]};
{_layouts(p, s.turned)}
    using Source = {added};
    using Result = {_ELEMENT[p.result]};
}};

using Tree =
{_tree_type(p.tree, source, 1, "Shape::Result", s.turned)};

using Product = go::Product<Shape, Tree>;

Product::Arguments arguments(void *const *p) {{
    const Tree::Arguments tree = {_tree_arguments(p.tree, source, 1, s.turned)};
    Product::Arguments all{{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {{{extents[0]}, {extents[1]}, {p.k}, {p.batch}}},
        {{go::read<Shape::Factor>(p[{left}]), {left_lies},
         go::read<Shape::Factor>(p[{right}]), {right_lies}}},
        {{tree, {_source(source, p.out, s.turned)},
         go::written<Shape::Result>(p[{p.operands}]), {_rows(p.out, s.turned)}}},
        go::current_device()}};
{_splits(s)}    return all;
}}

}}  // namespace {name}

{_exported(name, "Product", p.operands)}"""


def _layouts(p: Product, turned: bool) -> str:
    if not turned:
        return f"    using Right = go::{'ColumnMajor' if p.transposed_b else 'RowMajor'};"
    left = "RowMajor" if p.transposed_b else "ColumnMajor"
    return f"    using Left = go::{left};\n    using Right = go::ColumnMajor;"


def emit_convolution(c: Convolution, s: Schedule, name: str) -> str:
    """As `emit_product`. Pixels are the rows of what its tree reads and of its result."""
    source, g = tensors(c.tree)[:1], c.geometry
    added = _ELEMENT[source[0].dtype] if source else "void"
    tile, cluster = ", ".join(map(str, s.tile)), ", ".join(map(str, s.cluster))
    rows = Matrices(1, g.pixels, g.o, g.o, 0)
    return f"""#include "{TEMPLATES}"

namespace {name} {{

struct Shape {{
    using Tile = go::Tile<{tile}>;
    using Cluster = go::Cluster<{cluster}>;
    using Schedule = go::OneTile;
    using Factor = {_ELEMENT[c.dtype]};
    using Source = {added};
    using Result = {_ELEMENT[c.result]};
}};

using Tree =
{_tree_type(c.tree, source, 1, "Shape::Result")};

using Convolution = go::Convolution<Shape, Tree>;

Convolution::Arguments arguments(void *const *p) {{
    const Tree::Arguments tree = {_tree_arguments(c.tree, source, 1)};
    return {{
        go::convolved({{{g.n}, {g.h}, {g.w}, {g.c}}}, {{{g.o}, {g.r}, {g.s}, {g.c}}},
                      {{{g.pad_h}, {g.pad_w}}}, {{{g.stride_h}, {g.stride_w}}},
                      {{{g.dilation_h}, {g.dilation_w}}}),
        {{go::read<Shape::Factor>(p[{c.x}]), go::read<Shape::Factor>(p[{c.w}])}},
        {{tree, {_source(source, rows)},
         go::written<Shape::Result>(p[{c.operands}]), {_rows(rows)}}},
        go::current_device()}};
}}

}}  // namespace {name}

{_exported(name, "Convolution", c.operands)}"""


def _exported(name: str, kind: str, operands: int) -> str:
    """What a model calls: the workspace lies behind the result."""
    return f"""extern "C" int {name}_plan(size_t *workspace) {{
    void *const p[{operands + 1}] = {{}};
    return {name}::{kind}::plan({name}::arguments(p), workspace);
}}

extern "C" int {name}_launch(go_stream stream, void *const *p) {{
    return {name}::{kind}::launch({name}::arguments(p), p[{operands + 1}], stream);
}}
"""


def tensors(tree: Tree) -> list[Tensor]:
    """The different tensors of a tree, in order: the first is its source."""
    return list(dict.fromkeys(t for t in _walk(tree) if isinstance(t, Tensor)))


def _walk(tree: Tree) -> Iterator[Tree]:
    yield tree
    if isinstance(tree, Compute):
        for operand in tree.operands:
            yield from _walk(operand)


# Trees -----------------------------------------------------------------------------------------


def _tree_type(
    tree: Tree, source: list[Tensor], depth: int, result: str = "float", turned: bool = False
) -> str:
    return _INDENT * depth + _node_type(tree, source, depth, result, turned)


def _node_type(tree: Tree, source: list[Tensor], depth: int, result: str, turned: bool) -> str:
    match tree:
        case Accumulator():
            return "go::Accumulator"
        case Scalar():
            return "go::Scalar"
        case Columns():
            return f"go::{'Turned' * turned}Columns<Shape, {_ELEMENT[tree.dtype]}>"
        case Tensor():
            element = _ELEMENT[tree.dtype]
            of = f"Source<{element}>" if tree in source else f"Auxiliary<Shape, {element}>"
            return f"go::{of}"
        case Compute():
            operands = (_tree_type(o, source, depth + 1, turned=turned) for o in tree.operands)
            inner = ",\n".join(operands)
            return f"go::Compute<go::{tree.function}, {result},\n{inner}>"


def _tree_arguments(tree: Tree, source: list[Tensor], depth: int, turned: bool = False) -> str:
    """Those of the operands, then the node's own, which has none where it computes."""
    match tree:
        case Scalar(value):
            return f"{{{{{literal(value, DType.F32)}}}}}"
        case Columns():
            return f"{{{_pointer(tree)}}}"
        case Tensor() if tree not in source:
            absent = f"{_ELEMENT[tree.dtype]}(0)"  # nvcc drops a {} of a class here
            return f"{{{_pointer(tree)}, {absent}, {_rows(tree.lies, turned)}}}"
        case Compute():
            inner = [_tree_arguments(o, source, depth + 1, turned) for o in tree.operands]
            line = f"{{{', '.join(inner)}, {{}}}}"
            if len(line) + len(_INDENT) * depth < _LINE:
                return line
            indent = "\n" + _INDENT * (depth + 1)
            return f"{{{indent}{f',{indent}'.join(inner)}, {{}}}}"
        case _:
            return "{}"


def _pointer(leaf: Columns | Tensor) -> str:
    return f"go::read<{_ELEMENT[leaf.dtype]}>(p[{leaf.operand}])"


# Arguments -------------------------------------------------------------------------------------


def _rows(lies: Matrices, turned: bool = False) -> str:
    """A stride of (row, column, matrix), rows and columns changed where a product is turned."""
    return f"{{{{}}, {lies.ld}, {lies.step}}}" if turned else f"{{{lies.ld}, {{}}, {lies.step}}}"


def _right(p: Product) -> str:
    """b's stride of (column, k, matrix), be it the right factor or, turned, the left one."""
    return _rows(p.right, not p.transposed_b)


def _source(source: list[Tensor], out: Matrices, turned: bool = False) -> str:
    if not source:
        return f"nullptr, {_rows(out, turned)}"
    return f"{_pointer(source[0])}, {_rows(source[0].lies, turned)}"


def _splits(s: Schedule) -> str:
    return f"    all.scheduler.splits = {s.splits};\n" if s.splits > 1 else ""

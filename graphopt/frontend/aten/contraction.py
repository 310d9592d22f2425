"""ATen's matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.frontend.builder import Builder, Mapping, Number, UnsupportedFormError, per_axis
from graphopt.ir.graph import Value
from graphopt.ops import ConvAttrs, ConvTransposeAttrs, SumAttrs, TransposeAttrs

Ints = int | Sequence[int]


def linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.type.rank == 1:  # torch's dot product along the last axis
        y = b.reshape(matmul(b, x, weight), b.type.dims)
        return y if bias is None else b.add(y, bias)
    if bias is not None and bias.type.rank != 1:
        return b.add(b.emit("linear", x, weight), bias)
    return b.emit("linear", x, weight, *(() if bias is None else (bias,)))


def matmul(b: Builder, x: Value, y: Value) -> Value:
    """torch.matmul: a vector counts as a row on the left, as a column on the right."""
    p = b.unsqueeze(x, 0) if x.type.rank == 1 else x
    q = b.unsqueeze(y, 1) if y.type.rank == 1 else y
    return b.reshape(product(b, p, q), b.type.dims)


def product(b: Builder, x: Value, y: Value, bias: Value | None = None) -> Value:
    """x @ y, as `linear` where y is a transposed matrix: so `addmm(b, x, w.t())` is one again."""
    node = y.producer
    if y.type.rank == 2 and node is not None and isinstance(node.attrs, TransposeAttrs):
        flat_bias = bias is not None and bias.type.shape == (y.type.dims[1],)
        if bias is None or flat_bias:
            return b.emit("linear", x, node.operands[0], *(() if bias is None else (bias,)))
    out = b.emit("matmul", x, y)
    return out if bias is None else b.emit("add", out, bias)


def addmm(
    b: Builder, bias: Value, x: Value, y: Value, beta: Number = 1, alpha: Number = 1
) -> Value:
    """beta * bias + alpha * x @ y. Also baddbmm, addmv and addbmm's kin of equal meaning."""
    if beta == 1 and alpha == 1:
        return product(b, x, y, bias)
    out = product(b, x, y)
    out = out if alpha == 1 else b.mul(out, alpha)
    if beta == 0:  # torch ignores the bias then, nan and all
        return out
    return b.add(out, bias if beta == 1 else b.mul(bias, beta))


def grouped(
    b: Builder, x: Value, weight: Value, offsets: Value | None = None, bias: Value | None = None,
    *_: object,
) -> Value:  # fmt: skip
    """x: [s, k] in consecutive groups of rows, weight: [e, k, n]: row i of group e is x[i] @ w[e].

    offsets: [e], where each group ends. Rows after the last group give 0.
    """
    if offsets is None or bias is not None or (x.type.rank, weight.type.rank) != (2, 3):
        raise UnsupportedFormError("groups other than of x's rows, or a bias")
    return b.emit("grouped_matmul", x, weight, offsets)


def trilinear(b: Builder, x: Value, w: Value, y: Value, *axes: Sequence[int]) -> Value:
    """nn.Bilinear: the sum over `axes[3]` of a product of three, each with axes of extent 1 put
    in at its own of `axes[:3]`."""
    wide = []
    for value, added in zip((x, w, y), axes, strict=False):
        for axis in sorted(added):
            value = b.unsqueeze(value, axis)
        wide.append(value)
    product = b.mul(b.mul(wide[0], wide[1]), wide[2])
    return b.emit("sum", product, attrs=SumAttrs(tuple(sorted(axes[3])), False))


def _conv(
    b: Builder, x: Value, weight: Value, bias: Value | None, attrs: ConvAttrs | ConvTransposeAttrs
) -> Value:
    """x may lack the batch axis."""
    op = "conv" if isinstance(attrs, ConvAttrs) else "conv_transpose"
    batched = x if x.type.rank == weight.type.rank else b.unsqueeze(x, 0)
    y = b.emit(op, batched, weight, *(() if bias is None else (bias,)), attrs=attrs)
    return b.reshape(y, b.type.dims)


def conv(
    b: Builder, x: Value, weight: Value, bias: Value | None = None, stride: Ints = 1,
    padding: Ints | str = 0, dilation: Ints = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """padding: elements per axis, "valid" or "same"; "same" puts an odd one after."""
    n = weight.type.rank - 2
    steps, spread = per_axis(stride, n), per_axis(dilation, n)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(spread, weight.type.dims[2:], strict=True)]
        around = tuple((t // 2, t - t // 2) for t in total)
    else:
        around = tuple((p, p) for p in per_axis(0 if isinstance(padding, str) else padding, n))
    return _conv(b, x, weight, bias, ConvAttrs(steps, around, spread, groups))


def conv_transpose(
    b: Builder, x: Value, weight: Value, bias: Value | None = None, stride: Ints = 1,
    padding: Ints = 0, output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1,
) -> Value:  # fmt: skip
    n = weight.type.rank - 2
    attrs = ConvTransposeAttrs(
        per_axis(stride, n), per_axis(padding, n), per_axis(output_padding, n),
        per_axis(dilation, n), groups,
    )  # fmt: skip
    return _conv(b, x, weight, bias, attrs)


def convolution(
    b: Builder, x: Value, weight: Value, bias: Value | None, stride: Ints, padding: Ints,
    dilation: Ints, transposed: bool, output_padding: Ints, groups: int, *_: object,
) -> Value:  # fmt: skip
    if transposed:
        return conv_transpose(b, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(b, x, weight, bias, stride, padding, dilation, groups)


CONTRACTION: dict[str, Mapping] = {
    "aten.linear.default": linear,
    "aten.matmul.default": matmul,
    "aten.mm.default": lambda b, x, y: product(b, x, y),
    "aten.bmm.default": lambda b, x, y: product(b, x, y),
    "aten.mv.default": matmul,
    "aten.dot.default": matmul,
    "aten.vdot.default": matmul,
    "aten.addmm.default": addmm,
    "aten.baddbmm.default": addmm,
    "aten.addmv.default": lambda b, bias, x, v, beta=1, alpha=1: b.reshape(
        addmm(b, b.unsqueeze(b.expand(bias, b.type.dims), 1), x, b.unsqueeze(v, 1), beta, alpha),
        b.type.dims,
    ),
    "aten.conv1d.default": conv,
    "aten.conv1d.padding": conv,
    "aten.conv2d.default": conv,
    "aten.conv2d.padding": conv,
    "aten.conv3d.default": conv,
    "aten.conv3d.padding": conv,
    "aten.conv_transpose1d.default": conv_transpose,
    "aten.conv_transpose2d.input": conv_transpose,
    "aten.conv_transpose3d.input": conv_transpose,
    "aten._trilinear.default": lambda b, *args: trilinear(b, *args[:7]),
    "aten._grouped_mm.default": grouped,
    "transformers.grouped_mm_fallback.default": grouped,  # what its experts call where torch cannot
    "aten.convolution.default": convolution,
    "aten._convolution.default": convolution,
}

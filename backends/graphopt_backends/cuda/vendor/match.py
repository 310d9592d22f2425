"""What of a region a library can compute in one call: a product or a convolution, a bias, a tensor
that is added, an activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType
from graphopt.ops import ClampAttrs, ConvAttrs, GeluAttrs, PadAttrs
from graphopt_backends.cuda.vendor.matrices import channels_last, matrices

FUNCTION = {"linear": "matmul", "matmul": "matmul", "conv": "conv", "attention": "attention"}
LIBRARY = {"matmul": "cublaslt", "conv": "cudnn", "attention": "cudnn"}
ATTENTION = "cudnn-attention"
"""What asks for attention by cuDNN, which is called where it is named or measured."""
_PRODUCTS = ("linear", "matmul", "conv")
CUTLASS = "cutlass"
"""Templates that are compiled with the model: see `visitor`."""

DTYPES = (DType.F32, DType.F16, DType.BF16)
_ADDED = {"matmul": "c", "conv": "z"}


@dataclass(frozen=True)
class Match:
    """`nodes` of a body that one call computes, the result last; `roles` are what it reads, by the
    names that the runtime has for them. `padding` are the zeros around a convolution's input."""

    root: Node
    nodes: tuple[Node, ...]
    roles: Mapping[str, Value]
    activation: str = ""
    padding: tuple[tuple[int, int], ...] = field(default=())

    @property
    def function(self) -> str:
        return FUNCTION[self.root.op.name]

    @property
    def result(self) -> Value:
        return self.nodes[-1].result


@dataclass(frozen=True)
class Mismatch:
    """Why no library takes a region."""

    reason: str


def match(body: Graph) -> Match | Mismatch:
    """The most of a body that one call can compute."""
    roots = [n for n in body.nodes if n.op.name in _PRODUCTS]
    if len(roots) != 1:
        return Mismatch(f"it has {len(roots)} products")
    (root,) = roots
    if root.result.type.dtype not in DTYPES:
        return Mismatch(f"no library computes {root.result.type.dtype}")
    started = convolved(root) if root.op.name == "conv" else _product(root)
    if isinstance(started, Mismatch):
        return started
    if any(len(body.uses[n.result]) > 1 for n in started.nodes[:-1]):
        return Mismatch("its padded input is read by others")
    return _extended(started, body)


# Roots -----------------------------------------------------------------------------------------


def _product(root: Node) -> Match | Mismatch:
    a, b, *bias = root.operands
    roles = {"a": a, "b": b, **({"bias": bias[0]} if bias else {})}
    if any(v.producer is not None for v in roles.values()):
        return Mismatch("an operand is computed in the region")
    if not _rows_fit(root):
        return Mismatch("an operand or the result is no stack of matrices")
    return Match(root, (root,), roles)


def _rows_fit(root: Node) -> bool:
    a, b = (v.type for v in root.operands[:2])
    if root.op.name == "linear":
        lead = list(range(a.rank - 1))
        return None not in (
            matrices(a, lead), matrices(b, [0]), matrices(root.result.type, lead)
        )  # fmt: skip
    row = [a.rank - 2]
    stacked = matrices(a, row), matrices(b, [b.rank - 2]), matrices(root.result.type, row)
    if None in stacked:
        return False
    left, right, out = (m for m in stacked if m is not None)
    whole = left.batch == out.batch or left.batch == 1
    return whole and right.batch in (1, out.batch)


def convolved(root: Node) -> Match | Mismatch:
    """A convolution and the zeros around its input."""
    attrs = root.attrs
    assert isinstance(attrs, ConvAttrs)
    x, w, *bias = root.operands
    nodes: tuple[Node, ...] = (root,)
    padding = attrs.padding
    pad = x.producer
    if pad is not None:
        wide = _zeros(pad)
        if wide is None:
            return Mismatch("its input is computed in the region")
        x, nodes = pad.operands[0], (pad, root)
        padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(padding, wide, strict=True))
    if attrs.winograd:
        return Mismatch("it is computed by Winograd's tiles")
    roles = {"x": x, "w": w, **({"bias": bias[0]} if bias else {})}
    if any(v.producer is not None for v in roles.values()):
        return Mismatch("an operand is computed in the region")
    if root.result.type.rank > 4 or any(before != after for before, after in padding):
        return Mismatch("it has three dimensions, or padding on one side")
    if not (channels_last(x.type) and channels_last(root.result.type)):
        return Mismatch("its channels do not lie last")
    return Match(root, nodes, roles, padding=padding)


def _zeros(pad: Node) -> tuple[tuple[int, int], ...] | None:
    """The zeros that a node puts around images; None for anything else."""
    a = pad.attrs
    if not isinstance(a, PadAttrs) or a.mode != "constant" or a.value != 0:
        return None
    if any((*a.before[:2], *a.after[:2])):
        return None
    return tuple(zip(a.before[2:], a.after[2:], strict=True))


# Epilogues -------------------------------------------------------------------------------------


def _extended(found: Match, body: Graph) -> Match:
    """With the nodes behind it that the call can do as well."""
    nodes, roles, at = list(found.nodes), dict(found.roles), found.result
    while at not in body.outputs and len(body.uses[at]) == 1:
        node, position = body.uses[at][0]
        added = _added(node, position, at)
        name = _activation(node, found.function)
        if name:
            return Match(found.root, (*nodes, node), roles, name, found.padding)
        if added is None or _ADDED[found.function] in roles:
            break
        roles[_ADDED[found.function]] = added
        nodes.append(node)
        at = node.result
    return Match(found.root, tuple(nodes), roles, "", found.padding)


def _added(node: Node, position: int, at: Value) -> Value | None:
    """The tensor that is added to `at`, when it lies as that does and comes from outside."""
    if node.op.name != "add":
        return None
    other = node.operands[1 - position]
    return other if other.producer is None and other.type == at.type else None


def _activation(node: Node, function: str) -> str:
    """Its name for the runtime; "" for what no call does."""
    if node.op.name == "relu" or node.attrs == ClampAttrs(low=0.0):
        return "relu"
    tanh = isinstance(node.attrs, GeluAttrs) and node.attrs.approximate == "tanh"
    return "gelu_tanh" if tanh and function == "matmul" else ""

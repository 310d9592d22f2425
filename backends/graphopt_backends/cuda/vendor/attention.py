"""A region's attention as cuDNN computes it: tensors by their strides, wherever they lie."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ir.views import is_view
from graphopt.ops import AttentionAttrs, FullAttrs, SliceAttrs, TransposeAttrs
from graphopt.rewrite import Rewriter
from graphopt_backends.cuda.vendor.match import Match, Mismatch

_HALF = (DType.F16, DType.BF16)
_WIDEST = 256
_ALIGNED = 8
"""Halves in 16 bytes: what rows, heads and batches begin at a multiple of, and are in length."""


@dataclass(frozen=True)
class Strided:
    """A tensor somewhere in `whole`, which comes from outside: its first element is `at`."""

    whole: Value
    at: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_aligned(self) -> bool:
        """Whether all but the elements of a row begin at multiples of 16 bytes."""
        steps = [s for d, s in zip(self.dims[:-1], self.strides[:-1], strict=True) if d > 1]
        return not any(step % _ALIGNED for step in (self.at, *steps))

    @property
    def has_rows(self) -> bool:
        return self.strides[-1] == 1 or self.dims[-1] == 1


@dataclass(frozen=True)
class Attention:
    """y = softmax(q k^T scale + mask) v."""

    root: Node
    q: Strided
    k: Strided
    v: Strided
    mask: Strided | None

    @property
    def read(self) -> dict[str, Strided]:
        return {
            "q": self.q, "k": self.k, "v": self.v, **({"mask": self.mask} if self.mask else {}),
        }  # fmt: skip


def matched(body: Graph) -> Match | Mismatch:
    """The attention of a body, and the views that it reads through."""
    found = attention(body)
    if isinstance(found, Mismatch):
        return found
    through = {n for o in found.root.operands for n in _chain(o)}
    nodes = tuple(n for n in body.nodes if n in through or n is found.root)
    others = (u for n in through for u in body.uses[n.result] if u[0] not in nodes)
    if any(True for _ in others):
        return Mismatch("what it reads is read by others, too")
    return Match(found.root, nodes, {role: t.whole for role, t in found.read.items()})


def attention(body: Graph) -> Attention | Mismatch:
    roots = [n for n in body.nodes if n.op.name == "attention"]
    if len(roots) != 1:
        return Mismatch(f"it has {len(roots)} attentions")
    (root,) = roots
    y = root.result.type
    if y.dtype not in _HALF:
        return Mismatch(f"cuDNN has no attention in {y.dtype}")
    assert isinstance(root.attrs, AttentionAttrs)
    if root.attrs.window:
        return Mismatch("cuDNN is not asked for windows of keys")
    tensors = [strided(o) for o in root.operands]
    read = [t for t in tensors if t is not None]
    if len(read) < len(tensors):
        return Mismatch("an operand is computed in the region")
    q, k, v, *mask = read
    widths = (q.dims[-1], v.dims[-1])
    if any(w % _ALIGNED or w > _WIDEST for w in widths):
        return Mismatch(f"cuDNN's heads are multiples of {_ALIGNED} up to {_WIDEST} wide")
    result = Strided(root.result, y.offset, y.dims, y.strides)
    if not all(t.has_rows and t.is_aligned for t in (q, k, v, result)):
        return Mismatch("rows of an operand or of the result are no multiples of 16 bytes")
    if has_bools(root) and root.operands[3].producer is not None:
        return Mismatch("a part of a mask of bools is read, which is added whole")
    if mask and not mask[0].has_rows:
        return Mismatch("rows of the mask do not lie together")
    return Attention(root, q, k, v, mask[0] if mask else None)


def has_bools(root: Node) -> bool:
    """Whether an attention's mask says which keys count. cuDNN adds masks: one is made of it."""
    return len(root.operands) > 3 and root.operands[3].type.dtype is DType.BOOL


def added_mask(mask: TensorType, dtype: DType) -> Graph:
    """What is added in place of a mask of bools: 0 for keys that count, else -inf."""
    rw = Rewriter(Graph((Value(mask, name="mask"),), (), ()))
    keep, hide = (rw.emit("full", attrs=FullAttrs(x, (), dtype)) for x in (0.0, -math.inf))
    type = TensorType(dtype, mask.shape, mask.layout)
    rw.outputs = [rw.insert("where", [*rw.inputs, keep, hide], types=[type]).result]
    return rw.freeze()


def strided(value: Value) -> Strided | None:
    """Where a value lies in one from outside; None for what is computed."""
    node = value.producer
    if node is None:
        t = value.type
        return Strided(value, t.offset, t.dims, t.strides)
    if isinstance(node.attrs, SliceAttrs | TransposeAttrs):
        inner = strided(node.operands[0])
        return _moved(node, inner) if inner is not None else None
    if node.op.name == "reshape" and node.operands[0].producer is None and is_view(node):
        t = node.result.type
        return Strided(node.operands[0], t.offset, t.dims, t.strides)
    return None


def _moved(node: Node, inner: Strided) -> Strided:
    dims, attrs = node.result.type.dims, node.attrs
    if isinstance(attrs, TransposeAttrs):
        return Strided(inner.whole, inner.at, dims, tuple(inner.strides[p] for p in attrs.perm))
    assert isinstance(attrs, SliceAttrs)
    at = inner.at + sum(b * s for b, s in zip(attrs.starts, inner.strides, strict=True))
    steps = tuple(s * step for s, step in zip(inner.strides, attrs.steps, strict=True))
    return Strided(inner.whole, at, dims, steps)


def _chain(value: Value) -> Iterator[Node]:
    while value.producer is not None:
        yield value.producer
        value = value.producer.operands[0]


# For the runtime -------------------------------------------------------------------------------


def attention_fields(found: Attention) -> dict[str, int]:
    """What `go_attention` has besides the data type."""
    attrs = found.root.attrs
    assert isinstance(attrs, AttentionAttrs)
    (b, h, s, d), (_, hk, t, e) = found.q.dims, found.v.dims
    y = found.root.result.type
    out = {"b": b, "h": h, "hk": hk, "s": s, "t": t, "d": d, "e": e}
    for name, strides in [*((n, x.strides) for n, x in found.read.items()), ("y", y.strides)]:
        if name != "mask":
            row = "t" if name in "kv" else "s"
            out |= dict(zip((f"{name}_b", f"{name}_h", f"{name}_{row}"), strides, strict=False))
    out |= {f"{name}_at": tensor.at for name, tensor in found.read.items()}
    if found.mask is not None:
        missing = (1,) * (4 - len(found.mask.dims))
        for name, numbers in (("mask_dims", found.mask.dims), ("mask", found.mask.strides)):
            out |= {
                f"{name}_{axis}": n for axis, n in zip("bhst", (*missing, *numbers), strict=True)
            }
    (bits,) = struct.unpack("<I", struct.pack("<f", attrs.scale))
    return {
        **out, "has_mask": int(found.mask is not None), "causal": int(attrs.causal),
        "scale_bits": bits,
    }  # fmt: skip


def attention_roles(found: Attention, body: Graph) -> tuple[str, ...]:
    """What each operand of a region is to the call: one may be several, `q+k+v`."""
    return tuple(
        "+".join(role for role, t in found.read.items() if t.whole is value)
        for value in body.inputs
    )  # fmt: skip

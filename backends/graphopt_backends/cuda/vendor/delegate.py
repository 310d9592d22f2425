"""A region that a library computes, as the runtime is told."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from graphopt.errors import InternalError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.lower.region import Delegated, Packing
from graphopt.ops import ConvAttrs
from graphopt.program import LibraryCall
from graphopt_backends.cuda.targets import GpuTarget
from graphopt_backends.cuda.vendor.instance import emit_product
from graphopt_backends.cuda.vendor.match import CUTLASS, LIBRARY, Match, match
from graphopt_backends.cuda.vendor.matrices import matrices
from graphopt_backends.cuda.vendor.schedules import schedule
from graphopt_backends.cuda.vendor.visitor import Product, product

_ACTIVATION = {"": 0, "relu": 1, "gelu_tanh": 2}
_DTYPE = {DType.F32: 0, DType.F16: 1, DType.BF16: 2}
_RESULT = {"matmul": "d", "conv": "y"}


def delegate(node: Node, target: GpuTarget) -> Delegated:
    """The call for a fused node whose attributes name a library."""
    body = node.body
    assert body is not None
    if node.attrs.library == CUTLASS:  # type: ignore[attr-defined]
        return _instantiated(node, target)
    found = match(body)
    if not isinstance(found, Match) or found.result not in body.outputs:
        raise InternalError(f"no library computes the region at {node.loc}")
    precision = node.attrs.library.partition(".")[2]  # type: ignore[attr-defined]
    fields = _matmul(found) if found.function == "matmul" else _conv(found)
    common = {
        "activation": _ACTIVATION[found.activation],
        "dtype": _DTYPE[found.result.type.dtype],
        "precision": int(precision == "tf32"),
    }
    call = LibraryCall(
        LIBRARY[found.function],
        found.function,
        tuple({**fields, **common}.items()),
        (*_roles(found, body), _RESULT[found.function]),
    )
    packings = {body.inputs.index(found.roles["w"]): _filter(found)} if "w" in found.roles else {}
    return Delegated(_name(found, precision, fields), call, packings)


def _instantiated(node: Node, target: GpuTarget) -> Delegated:
    """A product by CUTLASS: its name has the digest of its text, and says what it is."""
    assert node.body is not None
    p = product(node.body)
    if not isinstance(p, Product):
        raise InternalError(f"CUTLASS does not compute the region at {node.loc}: {p.reason}")
    s = schedule(p, target.sms)
    digest = hashlib.sha256(emit_product(p, s, "product").encode()).hexdigest()[:8]
    tile = "x".join(map(str, s.tile))
    name = f"{CUTLASS}_{p.dtype}_{p.m}x{p.n}x{p.k}_{tile}_{digest}__{target.isa}"
    fields = {"m": p.m, "n": p.n, "k": p.k, "batch": p.batch, "splits": s.splits}
    roles = ["a" if i == p.a else "b" if i == p.b else f"x{i}" for i in range(p.operands)]
    source = emit_product(p, s, name)
    call = LibraryCall(CUTLASS, "product", tuple(fields.items()), (*roles, "d"), source)
    return Delegated(name, call)


def _roles(found: Match, body: Graph) -> tuple[str, ...]:
    of: dict[Value, str] = {v: role for role, v in found.roles.items()}
    if set(of) != set(body.inputs) or len(of) != len(found.roles):
        raise InternalError("a library's region reads what the library does not")
    return tuple(of[v] for v in body.inputs)


def _name(found: Match, precision: str, fields: Mapping[str, int]) -> str:
    dtype = precision or str(found.result.type.dtype)
    keys = ("m", "n", "k") if found.function == "matmul" else ("p", "q", "c", "o", "r", "s")
    extents = "x".join(str(fields[k]) for k in keys)
    tail = "_".join(
        [*(role for role in ("bias", "c", "z") if role in found.roles), found.activation]
    )
    return f"{LIBRARY[found.function]}_{dtype}_{extents}" + (f"_{tail.strip('_')}" if tail else "")


# Products --------------------------------------------------------------------------------------


def _matmul(found: Match) -> dict[str, int]:
    a, b, d = found.roles["a"].type, found.roles["b"].type, found.root.result.type
    linear = found.root.op.name == "linear"
    rows = list(range(a.rank - 1)) if linear else [a.rank - 2]
    left, right = matrices(a, rows), matrices(b, [b.rank - 2])
    out = matrices(d, rows)
    assert left is not None
    assert right is not None
    assert out is not None
    return {
        "m": out.rows,
        "n": out.columns,
        "k": left.columns,
        "batch": out.batch,
        "lda": left.ld,
        "ldb": right.ld,
        "ldd": out.ld,
        "step_a": left.step,
        "step_b": right.step,
        "step_d": out.step,
        "transposed_b": int(linear),
        "has_bias": int("bias" in found.roles),
        "has_c": int("c" in found.roles),
    }


# Convolutions ----------------------------------------------------------------------------------


def _conv(found: Match) -> dict[str, int]:
    """A convolution over one axis is one over an axis of extent 1 and that one."""
    attrs = found.root.attrs
    assert isinstance(attrs, ConvAttrs)
    n, c, h, w = _image(found.roles["x"].type)
    o, _, r, s = _image(found.roles["w"].type)
    _, _, p, q = _image(found.result.type)
    pad_h, pad_w = _pair(tuple(before for before, _ in found.padding), 0)
    stride_h, stride_w = _pair(attrs.stride, 1)
    dilation_h, dilation_w = _pair(attrs.dilation, 1)
    return {
        "n": n, "h": h, "w": w, "c": c, "o": o, "r": r, "s": s, "p": p, "q": q,
        "pad_h": pad_h, "pad_w": pad_w, "stride_h": stride_h, "stride_w": stride_w,
        "dilation_h": dilation_h, "dilation_w": dilation_w, "groups": attrs.groups,
        "has_bias": int("bias" in found.roles), "has_z": int("z" in found.roles),
    }  # fmt: skip


def _image(type: TensorType) -> tuple[int, int, int, int]:
    first, second, *spatial = type.dims
    height, width = _pair(tuple(spatial), 1)
    return first, second, height, width


def _pair(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    return (values[0], values[1]) if len(values) == 2 else (missing, values[0])


def _filter(found: Match) -> Packing:
    """Weights [o, c / groups, *k] with their channels last."""
    size = math.prod(found.roles["w"].type.dims)

    def pack(w: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(w, 1, -1))

    return Packing("channels_last", size, pack)

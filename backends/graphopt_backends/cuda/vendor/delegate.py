"""A region that a library computes, as the runtime is told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from graphopt.errors import InternalError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.lower.region import Delegated, Lowered, Packing
from graphopt.ops import FusedAttrs
from graphopt.program import LibraryCall
from graphopt.target import Target
from graphopt.tune.space import Point
from graphopt_backends.cuda.lower import lower_region
from graphopt_backends.cuda.targets import GpuTarget
from graphopt_backends.cuda.vendor.attention import (
    attention,
    attention_fields,
    attention_roles,
)
from graphopt_backends.cuda.vendor.convolution import Convolution, computed
from graphopt_backends.cuda.vendor.geometry import geometry
from graphopt_backends.cuda.vendor.instance import emit_convolution, emit_product
from graphopt_backends.cuda.vendor.match import CUTLASS, LIBRARY, Match, Mismatch, match
from graphopt_backends.cuda.vendor.matrices import matrices
from graphopt_backends.cuda.vendor.schedules import Schedule, named
from graphopt_backends.cuda.vendor.visitor import Product

_ACTIVATION = {"": 0, "relu": 1, "gelu_tanh": 2}
_DTYPE = {DType.F32: 0, DType.F16: 1, DType.BF16: 2}
_RESULT = {"matmul": "d", "conv": "y"}


def lower_or_delegate(node: Node, target: Target, point: Point | None) -> Lowered | Delegated:
    """A region's kernel, or the library's call for it."""
    assert isinstance(target, GpuTarget)
    assert isinstance(node.attrs, FusedAttrs)
    return delegate(node, target) if node.attrs.library else lower_region(node, target, point)


def delegate(node: Node, target: GpuTarget) -> Delegated:
    """The call for a fused node whose attributes name a library."""
    body = node.body
    assert body is not None
    library, _, how = node.attrs.library.partition(".")  # type: ignore[attr-defined]
    if library == CUTLASS:
        return _instantiated(node, target, how)
    if node.attrs.kind == "attention":  # type: ignore[attr-defined]
        return _attention(node, body)
    found = match(body)
    if not isinstance(found, Match) or found.result not in body.outputs:
        raise InternalError(f"no library computes the region at {node.loc}")
    fields = _matmul(found) if found.function == "matmul" else _conv(found)
    common = {
        "activation": _ACTIVATION[found.activation],
        "dtype": _DTYPE[found.result.type.dtype],
        "precision": int(how == "tf32"),
    }
    call = LibraryCall(
        LIBRARY[found.function],
        found.function,
        tuple({**fields, **common}.items()),
        (*_roles(found, body), _RESULT[found.function]),
    )
    packings = (
        {body.inputs.index(found.roles["w"]): _filter(found.roles["w"].type)}
        if "w" in found.roles
        else {}
    )
    return Delegated(_name(found, how, fields), call, packings)


def _attention(node: Node, body: Graph) -> Delegated:
    found = attention(body)
    if isinstance(found, Mismatch) or body.outputs != (found.root.result,):
        raise InternalError(f"cuDNN does not compute the region at {node.loc}")
    fields = attention_fields(found)
    dtype = found.root.result.type.dtype
    call = LibraryCall(
        LIBRARY["attention"],
        "attention",
        tuple({**fields, "dtype": _DTYPE[dtype]}.items()),
        (*attention_roles(found, body), "y"),
    )
    extents = "x".join(str(fields[k]) for k in ("h", "s", "t", "d"))
    tail = "_mask" * fields["has_mask"] + "_causal" * fields["causal"]
    return Delegated(f"cudnn_attention_{dtype}_{extents}{tail}", call)


def _instantiated(node: Node, target: GpuTarget, how: str) -> Delegated:
    """A kernel by CUTLASS: its name has the digest of its text, and says what it is. `how` is its
    schedule; "" is the table's."""
    assert node.body is not None
    found = computed(node.body)
    if isinstance(found, Mismatch):
        raise InternalError(f"CUTLASS does not compute the region at {node.loc}: {found.reason}")
    s = named(found, target.sms, how)
    if s is None:
        raise InternalError(f"CUTLASS has no schedule {how!r} for the region at {node.loc}")
    if isinstance(found, Convolution):
        return _instantiated_convolution(found, s, node.body.inputs[found.w].type, target)
    return _instantiated_product(found, s, target)


def _instantiated_product(p: Product, s: Schedule, target: GpuTarget) -> Delegated:
    digest = _digest(emit_product(p, s, "product"))
    name = f"{CUTLASS}_{p.dtype}_{p.m}x{p.n}x{p.k}_{_tile(s)}_{digest}__{target.isa}"
    fields = {"m": p.m, "n": p.n, "k": p.k, "batch": p.batch, "splits": s.splits}
    roles = _operand_roles({p.a: "a", p.b: "b"}, p.operands)
    source = emit_product(p, s, name)
    call = LibraryCall(CUTLASS, "product", tuple(fields.items()), (*roles, "d"), source)
    return Delegated(name, call)


def _instantiated_convolution(
    c: Convolution, s: Schedule, w: TensorType, target: GpuTarget
) -> Delegated:
    g = c.geometry
    digest = _digest(emit_convolution(c, s, "convolution"))
    extents = f"{g.pixels}x{g.o}x{g.r}x{g.s}x{g.c}"
    name = f"{CUTLASS}_conv_{c.dtype}_{extents}_{_tile(s)}_{digest}__{target.isa}"
    roles = _operand_roles({c.x: "x", c.w: "w"}, c.operands)
    source = emit_convolution(c, s, name)
    call = LibraryCall(CUTLASS, "convolution", tuple(asdict(g).items()), (*roles, "y"), source)
    return Delegated(name, call, {c.w: _filter(w)})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _tile(s: Schedule) -> str:
    return "x".join(map(str, s.tile))


def _operand_roles(factors: Mapping[int, str], operands: int) -> list[str]:
    return [factors.get(i, f"x{i}") for i in range(operands)]


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
    present = {f"has_{role}": int(role in found.roles) for role in ("bias", "z")}
    return {**asdict(geometry(found)), **present}


def _filter(weights: TensorType) -> Packing:
    """Weights [o, c / groups, *k] with their channels last."""
    size = weights.numel

    def pack(w: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(w, 1, -1))

    return Packing("channels_last", size, pack)

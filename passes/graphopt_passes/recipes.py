"""What simplifying passes share: replacements as data, and tables of rules that make them.

A rule looks at one node and returns what may stand in its place: a value that exists, or a `Make`,
a node (and the nodes it reads) to be added. `RulePass` tries the rules of the node's op in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Loc, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import OPS, ExpandAttrs, FullAttrs
from graphopt.ops.base import Attrs, NoAttrs
from graphopt.passbase import RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter

_NO_ATTRS = NoAttrs()


@dataclass(frozen=True)
class Make:
    """A node to add. `op` "constant" takes its data from `array` instead of operands."""

    op: str
    operands: tuple[Recipe, ...] = ()
    attrs: Attrs = _NO_ATTRS
    array: np.ndarray | None = None
    name: str = "const"

    def type(self) -> TensorType:
        """Of the result. Raises: IRError for operands that do not fit."""
        if self.array is not None:
            return TensorType.of(self.array)
        inferred = OPS[self.op].infer(*(type_of(o).logical for o in self.operands), self.attrs)
        assert isinstance(inferred, TensorType), f"{self.op} has several results"
        return inferred


Recipe = Value | Make
Rule = Callable[[Node, Rewriter], Recipe | Reject | None]
"""`rule(node, rw)`: what replaces the node, None where the rule has nothing to say about it, or the
reason why it came close."""


def make(op: str, *operands: Recipe, attrs: Attrs | None = None) -> Make:
    return Make(op, operands, OPS[op].defaults() if attrs is None else attrs)


def full(value: float, shape: tuple[int, ...], dtype: DType) -> Make:
    """A splat: it costs no memory."""
    return Make("full", attrs=FullAttrs(float(value), shape, dtype))


def full_like(type: TensorType, value: float) -> Make | None:
    """A splat of this type; None where a dimension is symbolic."""
    return full(value, type.dims, type.dtype) if type.is_static else None


def constant(array: np.ndarray, name: str) -> Make:
    return Make("constant", array=np.ascontiguousarray(array), name=name)


def type_of(recipe: Recipe) -> TensorType:
    return recipe.type if isinstance(recipe, Value) else recipe.type()


def realize(recipe: Recipe, rw: Rewriter, loc: Loc) -> Value:
    """Add the nodes of a recipe, with the provenance of the node they replace."""
    if isinstance(recipe, Value):
        return recipe
    if recipe.array is not None:
        return rw.constant(recipe.array, name=recipe.name, loc=loc)
    operands = [realize(o, rw, loc) for o in recipe.operands]
    return rw.emit(recipe.op, *operands, attrs=recipe.attrs, loc=loc)


class RulePass(RewritePass):
    """A pass that is a table of rules by op name. Runs until no rule applies.

    What a rule returns may be narrower than the node, where the node broadcast it. Nodes whose
    layout is chosen are left alone: these passes run before that.
    """

    rules: ClassVar[Mapping[str, tuple[Rule, ...]]]
    """By op name; `root` names the same ops."""

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        nearest = Reject("no rule applies")
        for rule in self.rules[node.op.name]:
            found = rule(node, rw)
            if isinstance(found, Reject):
                nearest = found
            elif found is not None:
                return Plan(node, recipe=as_wide(found, node.result.type))
        return nearest

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.replace(plan.node.result, realize(plan.recipe, rw, plan.node.loc))


LAID_OUT = "its layout is chosen already"


def laid_out(node: Node) -> bool:
    """Whether a node's layout is chosen: too late for passes that make new nodes, which would have
    another one."""
    return any(r.type.layout is not None for r in node.results)


def as_wide(recipe: Recipe, type: TensorType) -> Recipe:
    """A recipe of this type: what a constant has broadcast so far, an expand does."""
    if type_of(recipe) == type:
        return recipe
    shape = tuple(d if isinstance(d, int) else -1 for d in type.shape)
    wide = make("expand", recipe, attrs=ExpandAttrs(shape))
    assert wide.type() == type, f"{type_of(recipe)} cannot take the place of {type}"
    return wide


# Reading -----------------------------------------------------------------------------------------


def producer(value: Value, *ops: str) -> Node | None:
    """The node that makes a value, if its op is one of these."""
    node = value.producer
    return node if node is not None and node.op.name in ops else None


def splat(rw: Rewriter, value: Value) -> float | None:
    """The number that every element of a value is known to be; None when there is none."""
    node = value.producer
    if node is not None and isinstance(node.attrs, FullAttrs):
        return node.attrs.value
    array = rw.array(value)
    return None if array is None else uniform(array)


def uniform(array: np.ndarray) -> float | None:
    """The number that every element is, -0 told from 0; None when there is none, or when it is an
    integer too large for a float."""
    if not array.size:
        return None
    flat = np.ascontiguousarray(array).reshape(-1)
    bits = flat.view(f"u{flat.itemsize}")
    # The first and the last differ in all but a few arrays: the scan of a large one is rare.
    if bits[0] != bits[-1] or not (bits == bits[0]).all():
        return None
    number = float(flat[0])
    exact = DType.of(flat.dtype).is_float or int(number) == int(flat[0])
    return number if exact else None


def known(rw: Rewriter, value: Value) -> np.ndarray | None:
    """The value's data, when it is a constant or a splat; a splat as a scalar array."""
    array = rw.array(value)
    node = value.producer
    if array is None and node is not None and isinstance(node.attrs, FullAttrs):
        with np.errstate(over="ignore"):  # 1e39 is an infinity in f32
            return np.asarray(node.attrs.value).astype(node.attrs.dtype.numpy)
    return array


def written_out(rw: Rewriter, value: Value) -> np.ndarray | None:
    """The value's data in its own shape, when it is a constant or a splat."""
    array = rw.array(value)
    node = producer(value, "full")
    return node.op.reference(node.attrs) if array is None and node is not None else array


def evaluated(node: Node, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A node's results, by the reference, of operands that are written out."""
    made = node.op.reference(*arrays, node.attrs)
    parts = made if isinstance(made, tuple) else (made,)
    return [
        np.ascontiguousarray(p).astype(r.type.dtype.numpy, copy=False).reshape(r.type.dims)
        for p, r in zip(parts, node.results, strict=True)
    ]


def with_known(rw: Rewriter, node: Node) -> tuple[Value, Value] | None:
    """(operand computed at run time, known operand) of a node with one of each, else None."""
    x, y = node.operands
    if is_known(rw, y):
        return None if is_known(rw, x) else (x, y)
    return (y, x) if is_known(rw, x) else None


def is_known(rw: Rewriter, value: Value) -> bool:
    return rw.array(value) is not None or producer(value, "full") is not None

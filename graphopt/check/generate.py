"""Random typed graphs over every op: from a seed, or as a hypothesis strategy that shrinks.

random_graph(seed=7)                     # the same graph every time
@given(graphs()) def test_..(graph): ..  # needs hypothesis
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.graph import NOWHERE, Graph, Loc, Node, State, Value
from graphopt.ir.infer import infer
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ops import CONSTANT, OPS, ConstantAttrs
from graphopt.ops.base import Attrs

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

T = TypeVar("T")

MAX_ELEMENTS = 4096
"""Of one value: large enough for every edge case, small enough for thousands of graphs."""

# Ops that overflow, leave the reals or jump: after them, a regrouped sum may differ without limit.
WILD = frozenset(
    {"exp", "exp2", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal", "tan", "pow",
     "div", "floor_div", "mod", "fmod", "floor", "ceil", "round", "trunc", "sign", "prod",
     "argmax", "argmin", "topk", "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf"}
)  # fmt: skip


class Chooser(Protocol):
    """Where randomness comes from. Smaller integers are simpler: hypothesis shrinks to them."""

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""


class Seeded:
    """From a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


class Drawn:
    """From hypothesis, which shrinks."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        from hypothesis import strategies as st

        return self._draw(st.integers(low, high))


def random_graph(
    seed: int, *, size: int = 12, tame: bool = True, planned: bool = False, ops: Sequence[str] = ()
) -> Graph:
    """A verified graph of about `size` nodes. The same arguments give the same graph.

    `tame` leaves out ops whose results overflow or jump, so that two graphs of equal meaning agree
    to within rounding; `planned` gives some values a layout and an arena offset and adds fused
    regions, as the last passes of a pipeline leave them; `ops` restricts the choice (constants
    that they need are added).
    """
    return _generate(Seeded(seed), size, tame, planned, ops)


def graphs(
    *, max_size: int = 12, tame: bool = True, planned: bool = False, ops: Sequence[str] = ()
) -> SearchStrategy[Graph]:
    """A hypothesis strategy of such graphs, of up to `max_size` nodes."""
    from hypothesis import strategies as st

    @st.composite
    def build(draw: DrawFn) -> Graph:
        chooser = Drawn(draw)
        return _generate(chooser, chooser.integer(1, max_size), tame, planned, ops)

    return build()


def _generate(chooser: Chooser, size: int, tame: bool, planned: bool, ops: Sequence[str]) -> Graph:
    from graphopt.check.rules import RULES  # which needs Builder

    wanted = set(ops) or set(OPS)
    weights = [(r, 1 + len(makes & wanted) // 8) for r, makes in RULES if makes & wanted]
    rules = [r for r, weight in weights for _ in range(weight)]
    builder = Builder(chooser, wanted - (WILD if tame else frozenset()), planned)
    for _ in range(2 * size):  # about half of the attempts fit nothing
        builder.choice(rules)(builder)
        if len(builder.nodes) >= size:
            break
    return builder.finish()


class Builder:
    """A graph under construction. Rules ask it for operands and give it ops."""

    def __init__(self, chooser: Chooser, allowed: set[str], planned: bool) -> None:
        self._chooser, self.allowed, self.planned = chooser, allowed, planned
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.inputs = [Value(t, name=f"x{i}") for i, t in enumerate(self._input_types())]
        self.pool = list(self.inputs)

    def _input_types(self) -> list[TensorType]:
        shapes: list[tuple[int, ...]] = [(2, 4, 6, 6), (2, 6, 8), (4, 8), (8,), (2, 3, 9), (1, 1)]
        out = [TensorType(DType.F32, self.choice(shapes)) for _ in range(self.integer(1, 3))]
        if self.boolean():
            out.append(TensorType(DType.I64, self.choice([(4,), (2, 3), (2, 6, 8)])))
        if self.boolean():
            out.append(TensorType(self.choice([DType.BF16, DType.F64, DType.BOOL]), (2, 6, 8)))
        return out

    # Choosing ------------------------------------------------------------------------------------

    def integer(self, low: int, high: int) -> int:
        return self._chooser.integer(low, high)

    def boolean(self) -> bool:
        return self.integer(0, 1) == 1

    def choice(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def op(self, names: Sequence[str]) -> str | None:
        """One of these ops, if any is allowed."""
        allowed = [n for n in names if n in self.allowed]
        return self.choice(allowed) if allowed else None

    def pick(self, fits: Callable[[TensorType], bool]) -> Value | None:
        """A value whose type fits, if there is one; later values are likelier."""
        found = [v for v in self.pool if fits(v.type)]
        if not found:
            return None
        return found[max(self.integer(0, len(found) - 1), self.integer(0, len(found) - 1))]

    # Building ------------------------------------------------------------------------------------

    def constant(self, dtype: DType, shape: tuple[int, ...], *, below: int = 4) -> Value:
        """Random data: floats around 0, integers in [0, below)."""
        numbers = np.random.default_rng(self.integer(0, 1 << 16))
        if dtype.is_float:
            array = (numbers.standard_normal(shape) * 0.5).astype(dtype.numpy)
        else:
            array = numbers.integers(0, max(below, 1), shape).astype(dtype.numpy)
        return self.keep(np.asarray(array))

    def positive(self, shape: tuple[int, ...], dtype: DType) -> Value:
        """Random data in [0.5, 1.5): variances, scales."""
        numbers = np.random.default_rng(self.integer(0, 1 << 16))
        return self.keep((numbers.random(shape) + 0.5).astype(dtype.numpy))

    def keep(self, array: np.ndarray) -> Value:
        key = f"c{len(self.constants)}"
        self.constants[key] = array
        node = Node(CONSTANT, (), ConstantAttrs(key), (TensorType.of(array),), names=(key,))
        self.nodes.append(node)
        return node.result

    def add(
        self, op: str | None, operands: Sequence[Value | None], attrs: Attrs | None = None
    ) -> None:
        """Add a node if its operands exist, it is allowed, infers, and stays small."""
        if op is None or op not in self.allowed or None in operands:
            return
        given = [o for o in operands if o is not None]
        attrs = OPS[op].defaults() if attrs is None else attrs
        try:
            types = infer(OPS[op], [o.type for o in given], attrs)
        except IRError:
            return
        if any(t.numel > MAX_ELEMENTS for t in types):
            return
        self.append(Node(OPS[op], given, attrs, self._laid_out(types), loc=self._loc()))

    def append(self, node: Node) -> None:
        for i, result in enumerate(node.results):
            result.name = f"{node.op.name}{len(self.nodes)}" + (f".{i}" if i else "")
            if self.planned and self.integer(0, 7) == 7:
                result.offset = 64 * self.integer(0, 100)
        self.nodes.append(node)
        self.pool += node.results

    def _laid_out(self, types: tuple[TensorType, ...]) -> list[TensorType]:
        return [self._layout(t) if self.planned and self.boolean() else t for t in types]

    def _layout(self, t: TensorType) -> TensorType:
        order = list(range(t.rank))
        for i in range(t.rank - 1, 0, -1):
            j = self.integer(0, i)
            order[i], order[j] = order[j], order[i]
        halo = {a: (self.integer(0, 2), self.integer(0, 2)) for a in order if self.boolean()}
        return t.with_layout(Layout.ordered(order, halo))

    def _loc(self) -> Loc:
        n = self.integer(0, 3)
        return Loc(f'layers.{n}."q"', f"modèle.py:{n}") if n else NOWHERE

    def finish(self) -> Graph:
        """Unread results are returned, so that nothing is dead; sometimes a state is paired."""
        read = {o for n in self.nodes for o in n.operands}
        nodes = [n for n in self.nodes if n.op is not CONSTANT or n.result in read]
        outputs = [v for v in self.pool if v not in read and v.producer is not None]
        outputs = outputs or [self.pool[-1]]
        kept = {n.attrs.key for n in nodes if isinstance(n.attrs, ConstantAttrs)}
        names = tuple(f"out {i}" for i in range(len(outputs))) if self.boolean() else ()
        return Graph(
            tuple(self.inputs),
            tuple(nodes),
            tuple(outputs),
            {k: a for k, a in self.constants.items() if k in kept},
            self._states(outputs),
            names,
        )

    def _states(self, outputs: Sequence[Value]) -> tuple[State, ...]:
        pairs = [
            State(i, j)
            for i, x in enumerate(self.inputs)
            for j, y in enumerate(outputs)
            if x.type == y.type
        ]
        return (self.choice(pairs),) if pairs and self.boolean() else ()


def is_float(t: TensorType) -> bool:
    return t.dtype.is_float


def of_rank(*ranks: int) -> Callable[[TensorType], bool]:
    """Float tensors of one of these ranks."""
    return lambda t: t.dtype.is_float and t.rank in ranks


def dims(value: Value) -> tuple[int, ...]:
    return value.type.dims

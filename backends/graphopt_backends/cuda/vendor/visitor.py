"""A product's region as a CUTLASS epilogue visitor tree: what is done to each element of the
accumulator before it is stored, once.

  linear %x, %w, %b; gelu; add %r   →   plus(gelu(plus(accumulator, columns(b))), source(r))
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import ClampAttrs, FullAttrs, GeluAttrs
from graphopt_backends.cuda.vendor.match import Mismatch
from graphopt_backends.cuda.vendor.matrices import Matrices, matrices

_HALF = (DType.F16, DType.BF16)
_STORED = (*_HALF, DType.F32)
_TMA_BYTES = 16
"""What rows and matrices begin at a multiple of, or TMA does not move them."""

_FUNCTIONS = {
    "add": "plus", "sub": "minus", "mul": "multiplies", "relu": "relu", "silu": "silu",
    "sigmoid": "sigmoid", "tanh": "tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Accumulator:
    """a b, in f32."""


@dataclass(frozen=True)
class Scalar:
    value: float


@dataclass(frozen=True)
class Columns:
    """One element for each column. `operand` is the position among the region's."""

    operand: int
    dtype: DType


@dataclass(frozen=True)
class Tensor:
    """One element for each of the result's. The first of a tree is its source, which the
    collective loads in any case; others are loaded beside it."""

    operand: int
    dtype: DType
    lies: Matrices


@dataclass(frozen=True)
class Compute:
    function: str
    operands: tuple[Tree, ...]


Tree = Accumulator | Scalar | Columns | Tensor | Compute


@dataclass(frozen=True)
class Product:
    """d = tree(a b): a [m, k], b [k, n] (`transposed_b`: it lies as [n, k]), d [m, n], `batch` of
    them. `a` and `b` are positions of operands, `operands` is how many there are."""

    m: int
    n: int
    k: int
    batch: int
    a: int
    b: int
    operands: int
    left: Matrices
    right: Matrices
    out: Matrices
    transposed_b: bool
    dtype: DType
    result: DType
    tree: Tree


def product(body: Graph) -> Product | Mismatch:
    """All of a region as one product, or what no tree says of it."""
    try:
        return _ProductReader(body).product()
    except NoTreeError as said:
        return Mismatch(f"CUTLASS: {said}")


class NoTreeError(Exception):
    """Carries the reason to who asked for a tree."""


class TreeReader:
    """Walks a body from its result to its root, the one product or convolution."""

    def __init__(self, body: Graph, roots: tuple[str, ...], what: str) -> None:
        self.body, self.what = body, what
        found = [n for n in body.nodes if n.op.name in roots]
        if len(found) != 1 or len(body.outputs) != 1:
            raise NoTreeError(f"it has {len(found)} {what}s and {len(body.outputs)} results")
        self.root, self.result = found[0], body.outputs[0]

    def root_tree(self) -> Tree:
        """Of the result. What is stored is what a node computes."""
        if self.result.type.dims != self.root.result.type.dims:
            raise NoTreeError(f"its result has another shape than the {self.what}")
        tree = self._tree(self.result)
        return tree if isinstance(tree, Compute) else Compute("identity", (tree,))

    def operand(self, value: Value) -> int:
        if value.producer is not None:
            raise NoTreeError("an operand is computed in the region")
        return self.body.inputs.index(value)

    def leaf(self, value: Value) -> Tree:
        """What the epilogue reads."""
        operand, type = self.operand(value), value.type
        if type.dtype not in _STORED:
            raise NoTreeError(f"an operand of the epilogue is {type.dtype}")
        if self.is_columns(type):
            if type.offset or max(type.strides) > type.numel or 1 not in type.strides:
                raise NoTreeError("what is added to columns does not lie dense")
            return Columns(operand, type.dtype)
        if type.dims != self.root.result.type.dims:
            raise NoTreeError(f"an operand of the epilogue is {type.logical}")
        return Tensor(operand, type.dtype, self.rows_of(type, "an operand of the epilogue"))

    def is_columns(self, type: TensorType) -> bool:
        """Whether a tensor is one element for each column of the result."""
        raise NotImplementedError

    def rows_of(self, type: TensorType, what: str) -> Matrices:
        """Where rows of a tensor of the result's shape lie."""
        raise NotImplementedError

    def _tree(self, value: Value) -> Tree:
        node = value.producer
        if node is None:
            return self.leaf(value)
        if node is self.root:
            return self._accumulated(node)
        if isinstance(node.attrs, FullAttrs):
            return Scalar(float(node.attrs.value))
        if value.type.dtype not in _STORED:
            raise NoTreeError(f"the tree computes in f32, not in {value.type.dtype}")
        if value is not self.result and len(self.body.uses[value]) > 1:
            raise NoTreeError(f"what {node.op.name} makes is read twice")
        if node.op.name == "cast":
            return self._tree(node.operands[0])
        return Compute(_function(node), tuple(self._tree(o) for o in node.operands))

    def _accumulated(self, node: Node) -> Tree:
        if node.result is not self.result and len(self.body.uses[node.result]) > 1:
            raise NoTreeError(f"the {self.what} is read twice")
        bias = node.operands[2:]
        if not bias:
            return Accumulator()
        return Compute("plus", (Accumulator(), self.bias(bias[0])))

    def bias(self, value: Value) -> Tree:
        return self.leaf(value)


class _ProductReader(TreeReader):
    def __init__(self, body: Graph) -> None:
        super().__init__(body, ("linear", "matmul"), "product")
        self.rows = self._rows()
        self.out = self.rows_of(self.result.type, "the result")

    def product(self) -> Product:
        a, b, *_ = self.root.operands
        check_factor(a.type)
        tree = self.root_tree()
        left = self.rows_of(a.type, "a factor")
        right = aligned(matrices(b.type, [b.type.rank - 2]), b.type, "a factor")
        if right.batch not in (1, self.out.batch) or left.batch not in (1, self.out.batch):
            raise NoTreeError("its stacks of matrices do not fit each other")
        if self.out.batch > 1 and 1 in (left.batch, right.batch):
            raise NoTreeError("one factor serves a stack of the other")
        return Product(
            self.out.rows, self.out.columns, left.columns, self.out.batch, self.operand(a),
            self.operand(b), len(self.body.inputs), left, right, self.out,
            self.root.op.name == "linear", a.type.dtype, self.result.type.dtype,
            tree,
        )  # fmt: skip

    def is_columns(self, type: TensorType) -> bool:
        return bool(type.rank) and type.numel == type.dims[-1] == self.out.columns

    def rows_of(self, type: TensorType, what: str) -> Matrices:
        if self.root.result.type.rank != type.rank:
            raise NoTreeError(f"{what} has another rank than the product")
        return aligned(matrices(type, self.rows), type, what)

    def _rows(self) -> list[int]:
        """The axes of the result that count rows; where one matrix is on the right, all but the
        last."""
        y, b = self.root.result.type, self.root.operands[1].type
        if self.root.op.name == "linear" or b.rank == 2:
            return list(range(y.rank - 1))
        return [y.rank - 2]


def check_factor(type: TensorType) -> None:
    if type.dtype not in _HALF:
        raise NoTreeError(f"its factors are {type.dtype}, not halves")


def aligned(found: Matrices | None, type: TensorType, what: str) -> Matrices:
    if found is None:
        raise NoTreeError(f"{what} is no stack of matrices")
    steps = (found.columns, found.ld, found.step)
    if any(s * type.dtype.size_bytes % _TMA_BYTES for s in steps):
        raise NoTreeError(f"rows of {what} are no multiples of {_TMA_BYTES} bytes")
    return found


def _function(node: Node) -> str:
    attrs = node.attrs
    if isinstance(attrs, GeluAttrs):
        return "gelu_tanh" if attrs.approximate == "tanh" else "gelu"
    if attrs == ClampAttrs(low=0.0):
        return "relu"
    if node.op.name not in _FUNCTIONS:
        raise NoTreeError(f"the tree has no {node.op.name}")
    return _FUNCTIONS[node.op.name]

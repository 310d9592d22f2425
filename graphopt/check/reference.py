"""The reference interpreter: a graph's meaning, node by node, by each op's numpy definition."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from graphopt.errors import InputError, InternalError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import Dim, DType, SymDim, TensorType
from graphopt.ops.base import Attrs
from graphopt.ops.creation import ConstantAttrs

Observer = Callable[[Node, tuple[np.ndarray, ...]], None]
"""Called with each node and its results, the nodes of a fused body before the fused node."""


def execute(
    graph: Graph,
    inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    *,
    precision: DTypeLike | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    observer: Observer | None = None,
) -> tuple[np.ndarray, ...]:
    """The graph's outputs, in order, for these inputs. Layouts do not matter: arrays are logical.

    inputs: one array per graph input, in order or by input name.
    precision: None computes in the graph's own types (f16 and bf16 rounded after every op). A float
        dtype replaces every float type of the graph, constants, `full` and casts included: with
        float64 this is what the graph means, rounding aside, and float outputs are float64.
    constants: arrays to use in place of the graph's, by key (for weights loaded lazily).

    An array is freed after its last use, so that a large model needs its widest cut, not its sum.

    Raises: InputError for inputs that do not fit, or indices outside the tensor they index.
    """
    run = _Run(None if precision is None else np.dtype(precision), observer)
    arrays = _ordered(graph, inputs)
    symbols: dict[str, int] = {}
    for value, array in zip(graph.inputs, arrays, strict=True):
        run.check_input(value, array, symbols)
    return run.graph(graph, arrays, constants or {})


def _ordered(
    graph: Graph, inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray]
) -> tuple[np.ndarray, ...]:
    if isinstance(inputs, Mapping):
        names = [v.name for v in graph.inputs]
        if set(names) != set(inputs):
            raise InputError(
                f"inputs {sorted(inputs)} given, the graph takes {sorted(names)}",
                hint="pass one array for each input, by its name",
            )
        inputs = [inputs[n] for n in names]
    if len(inputs) != len(graph.inputs):
        raise InputError(
            f"{len(inputs)} inputs given, the graph takes {len(graph.inputs)}",
            hint="pass " + (", ".join(map(repr, graph.inputs)) or "none"),
        )
    return tuple(np.asarray(x) for x in inputs)


class _Run:
    """One execution: `float_dtype` replaces float types unless None."""

    def __init__(self, float_dtype: np.dtype | None, observer: Observer | None) -> None:
        self.float_dtype, self.observer = float_dtype, observer
        self.attrs_dtype = None if float_dtype is None else DType.of(float_dtype)

    def check_input(self, value: Value, array: np.ndarray, symbols: dict[str, int]) -> None:
        """Raises: InputError unless dtype and shape fit; symbolic dims must agree on one size."""
        dtype = DType.of(array.dtype)
        floats = dtype.is_float and value.type.dtype.is_float and self.float_dtype is not None
        if dtype is not value.type.dtype and not floats:
            raise InputError(
                f"input {value} got {TensorType.of(array)}", hint=f"cast it to {value.type.dtype}"
            )
        pairs = zip(value.type.shape, array.shape, strict=False)
        if len(value.type.shape) != array.ndim or not all(_fits(*p, symbols) for p in pairs):
            raise InputError(
                f"input {value} got {TensorType.of(array)}", hint="pass an array of this shape"
            )

    def graph(
        self, graph: Graph, inputs: Sequence[np.ndarray], constants: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """Outputs of a graph or a region's body. `constants` come before the graph's own."""
        known = ChainMap(dict(constants), dict(graph.constants))
        values = {v: self._cast(x) for v, x in zip(graph.inputs, inputs, strict=True)}
        last_use = _last_uses(graph)
        for node in graph.nodes:
            results = self._results(node, [values[o] for o in node.operands], known)
            if self.observer is not None:
                self.observer(node, results)
            values.update(zip(node.results, results, strict=True))
            for value in last_use.get(node, ()):
                del values[value]
        return tuple(values[v] for v in graph.outputs)

    def _results(
        self, node: Node, operands: list[np.ndarray], constants: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        if node.body is not None:
            return self.graph(node.body, operands, constants)
        if isinstance(node.attrs, ConstantAttrs):
            return (self._cast(_constant(node, node.attrs.key, constants)),)
        try:
            out = node.op.reference(*operands, self._attrs(node.attrs))
        except IndexError as error:
            types = ", ".join(repr(o) for o in node.operands)
            raise InputError(
                f"{node.op.name} of {types} at {node.loc}: {error}",
                hint="check the integer inputs, such as token ids, against the tensor they index",
            ) from error
        results = tuple(out) if isinstance(out, tuple) else (np.asarray(out),)
        self._check(node, results)
        return results

    def _cast(self, array: np.ndarray) -> np.ndarray:
        if self.float_dtype is None or not DType.of(array.dtype).is_float:
            return array
        return array.astype(self.float_dtype, copy=False)

    def _attrs(self, attrs: Attrs) -> Attrs:
        """`full`, `iota` and `cast` name the dtype they make."""
        dtype = getattr(attrs, "dtype", None)
        if self.attrs_dtype is None or not isinstance(dtype, DType) or not dtype.is_float:
            return attrs
        return dataclasses.replace(attrs, dtype=self.attrs_dtype)  # type: ignore[call-arg]

    def _check(self, node: Node, results: tuple[np.ndarray, ...]) -> None:
        """Raises: InternalError when an op's meaning and its inference disagree."""
        for value, array in zip(node.results, results, strict=True):
            got = TensorType.of(array)
            dtype = value.type.dtype
            if dtype.is_float and self.attrs_dtype is not None:
                dtype = self.attrs_dtype
            fits = all(_fits(d, n, {}) for d, n in zip(value.type.shape, got.dims, strict=False))
            if got.dtype is not dtype or got.rank != value.type.rank or not fits:
                raise InternalError(
                    f"{node.op.name} at {node.loc}: inference says {value.type}, "
                    f"its reference gave {got}"
                )


def _constant(node: Node, key: str, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    array = constants.get(key)
    if array is None:
        raise InternalError(f"constant {key!r} at {node.loc} has no array")
    return array


def _fits(dim: Dim, size: int, symbols: dict[str, int]) -> bool:
    """Whether an extent is `dim`; `symbols` remembers the size each name was first seen with."""
    if isinstance(dim, SymDim):
        return dim.low <= size <= dim.high and symbols.setdefault(dim.name, size) == size
    return dim == size


def _last_uses(graph: Graph) -> dict[Node, list[Value]]:
    """For each node, the values that nobody reads after it: its own unread results included."""
    seen = set(graph.outputs)
    out: dict[Node, list[Value]] = {}
    for node in reversed(graph.nodes):
        for value in (*node.results, *node.operands):
            if value not in seen:
                seen.add(value)
                out.setdefault(node, []).append(value)
    return out

"""A planned graph of regions to a Program: kernels shared by content, arguments resolved."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from graphopt.errors import InternalError
from graphopt.ir.digest import SOURCES, region_digest
from graphopt.ir.graph import Graph, Loc, Node, Value
from graphopt.ir.types import TensorType
from graphopt.ir.views import Storages, is_view, storage_of, stored_parts
from graphopt.kernel.footprint import aligned, workspace
from graphopt.kernel.ir import Kernel
from graphopt.kernel.text import print_kernel
from graphopt.lower.placed import alone_in_memory
from graphopt.lower.region import Delegated, Lowered, Packing
from graphopt.ops import OPS, FusedAttrs
from graphopt.ops.base import NoAttrs
from graphopt.program import Arg, CallResult, KernelCall, Port, Program, Space, Weight
from graphopt.rewrite import Rewriter
from graphopt.target import Target
from graphopt.tune.space import Point, Schedules

Lower = Callable[[Node, Target, Point | None], Lowered | Delegated]


class Linker:
    """Walks the graph once; every value gets an address, every region a call.

    `lower` makes a region's kernel, or says which library computes it; what the linker places
    begins at multiples of `align` bytes.
    """

    def __init__(
        self, graph: Graph, target: Target, schedules: Schedules, lower: Lower, align: int
    ) -> None:
        self.graph, self.target, self.schedules = graph, target, schedules
        self.lower, self.align = lower, align
        self.storages = Storages(graph)
        self.where: dict[Value, Arg] = {}
        self.kernels: dict[str, Kernel] = {}
        self.regions: dict[str, tuple[str, Lowered | Delegated]] = {}
        self.calls: list[KernelCall] = []
        self.weights: dict[str, Weight] = {}
        self.arena_bytes = 0
        self.scratch_bytes = 0

    def program(self) -> Program:
        g = self.graph
        for i, v in enumerate(g.inputs):
            self.where[v] = Arg(Space.INPUT, i)
        self._place_outputs()
        for node in g.nodes:
            self._visit(node)
        self._copy_outputs()
        names = g.output_names or tuple(f"output{i}" for i in range(len(g.outputs)))
        return Program(
            tuple(self.kernels.values()),
            tuple(self.calls),
            tuple(self.weights.values()),
            tuple(Port(v.name, v.type) for v in g.inputs),
            tuple(Port(n, v.type) for n, v in zip(names, g.outputs, strict=True)),
            aligned(self.arena_bytes, self.align),
            lower_bound(g, self.align),
            self.scratch_bytes,
            tuple((s.input, s.output) for s in g.states),
        )

    # Addresses ---------------------------------------------------------------------------------

    def _place_outputs(self) -> None:
        """A result that is a graph output, or a view away from one, is written in place."""
        for i, v in enumerate(self.graph.outputs):
            storage = self.storages.of(v)
            producer = storage.producer
            computed = producer is not None and producer.op.name == "fused"
            if computed and storage not in self.where:
                self.where[storage] = Arg(Space.OUTPUT, i)

    def _visit(self, node: Node) -> None:
        if node.op.name in SOURCES:
            return
        if is_view(node):
            self.where[node.result] = self._address(node.operands[0])
            return
        if node.op.name != "fused":
            raise InternalError(f"{node.op.name} at {node.loc} is in no region")
        self._call(node)

    def _address(self, value: Value, packing: Packing | None = None) -> Arg:
        node = value.producer
        if node is not None and node.op.name in SOURCES:
            return self._weight(value, packing)
        if value in self.where:
            return self.where[value]
        storage = self.storages.of(value)
        if storage not in self.where:
            self.where[storage] = Arg(Space.ARENA, offset=self._arena(storage))
        return self.where[storage]

    def _arena(self, value: Value) -> int:
        offset = getattr(value, "offset", None)
        if offset is None:
            offset = aligned(self.arena_bytes, self.align)
        self.arena_bytes = max(self.arena_bytes, offset + value.type.size_bytes)
        return int(offset)

    def _weight(self, value: Value, packing: Packing | None) -> Arg:
        array = self._array(value)
        name = value.name if packing is None else f"{value.name}.{packing.key}"
        if name not in self.weights:
            size = (packing.size if packing else array.size) * array.dtype.itemsize
            self.weights[name] = Weight(
                name, size, (lambda: packing.pack(array)) if packing else (lambda: array)
            )
        return Arg(Space.WEIGHT, list(self.weights).index(name))

    def _array(self, value: Value) -> np.ndarray:
        array = self.graph.constant(value)
        if array is not None:
            return array
        assert value.producer is not None
        return np.asarray(value.producer.op.reference(value.producer.attrs))

    # Calls -------------------------------------------------------------------------------------

    def _call(self, node: Node) -> None:
        region = region_digest(node)
        alone, places = alone_in_memory(node, self.align)
        alike = region if alone is node else region_digest(alone)
        name, lowered = self._lowered(alone, region, alike)
        args = [self._address(v, lowered.packings.get(i)) for i, v in enumerate(node.operands)]
        args += [self._address(v) for v in node.results]
        args = [
            dataclasses.replace(a, offset=a.offset + n) for a, n in zip(args, places, strict=True)
        ]
        assert node.body is not None
        locs = tuple(dict.fromkeys(n.loc for n in node.body.nodes if n.loc != Loc()))
        results = tuple(CallResult(v.name, v.type) for v in node.results)
        library = lowered.library if isinstance(lowered, Delegated) else None
        self.calls.append(
            KernelCall(
                name, tuple(args), locs, flops(node), bytes_moved(node), results,
                self._reads(node), region, library, error_bound(node.body),
            )
        )  # fmt: skip

    def _reads(self, node: Node) -> tuple[str, ...]:
        """The inputs and results that a region reads, views of them by the name of the whole."""
        storages = (part for v in node.operands for part in stored_parts(v))
        computed = (v for v in storages if v.producer is None or v.producer.op.name == "fused")
        return tuple(dict.fromkeys(v.name for v in computed))

    def _lowered(self, node: Node, region: str, alike: str) -> tuple[str, Lowered | Delegated]:
        """The region's kernel by name: regions that compute `alike` are lowered once. `region` is
        what records know it by."""
        schedule = self.schedules.get(region)
        key = alike if schedule is None else region
        if key not in self.regions:
            lowered = self.lower(node, self.target, schedule)
            name = lowered.name if isinstance(lowered, Delegated) else self._kernel(node, lowered)
            self.regions[key] = name, lowered
        return self.regions[key]

    def _kernel(self, node: Node, lowered: Lowered) -> str:
        """Kernels of equal text are one function, whatever weights they run on."""
        name = kernel_name(node, lowered, self.target)
        if name not in self.kernels:
            self.kernels[name] = dataclasses.replace(lowered.kernel, name=name)
            self.scratch_bytes = max(self.scratch_bytes, workspace(lowered.kernel.body, self.align))
        return name

    def _copy_outputs(self) -> None:
        """Outputs that are inputs, constants or a second name of another output are copied."""
        for i, v in enumerate(self.graph.outputs):
            if not v.type.size_bytes:
                continue
            source = self._address(storage_of(v))
            if source != Arg(Space.OUTPUT, i):
                node = _copy_region(v)
                region = region_digest(node)
                name, _ = self._lowered(node, region, region)
                args = (source, Arg(Space.OUTPUT, i))
                results, reads = (CallResult(v.name, v.type),), self._reads(node)
                moved = 2 * _moved_bytes(v.type)
                self.calls.append(KernelCall(name, args, (), 0, moved, results, reads, region))


def kernel_name(node: Node, lowered: Lowered, target: Target) -> str:
    """`go_<kind>_<dtype>_<tile>_<digest of its text>__<isa>`: equal for equal code."""
    kind: str = node.attrs.kind  # type: ignore[attr-defined]
    dtype = node.results[0].type.dtype
    text = print_kernel(dataclasses.replace(lowered.kernel, name="kernel"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    tile = f"_{lowered.label}" if lowered.label else ""
    return f"go_{kind}_{dtype}{tile}_{digest}__{target.isa}"


def packed_operands(node: Node, graph: Graph, lowered: Lowered) -> dict[int, np.ndarray]:
    """The operands that a region's kernel wants rearranged, by position."""
    out: dict[int, np.ndarray] = {}
    for i, packing in lowered.packings.items():
        array = graph.constant(node.operands[i])
        if array is None:
            raise InternalError(f"operand {i} of {node.loc} is packed and no constant")
        out[i] = np.ascontiguousarray(packing.pack(array))
    return out


def _moved_bytes(type: TensorType) -> int:
    """Of a tensor's own elements: others may lie between, and around."""
    return type.numel * type.dtype.size_bytes


def _copy_region(value: Value) -> Node:
    """A fused node that copies a tensor."""
    type = TensorType(value.type.dtype, value.type.shape, value.type.layout)
    rw = Rewriter(Graph((Value(type, name="x"),), (), ()))
    rw.outputs = [rw.insert("relayout", rw.inputs, NoAttrs(), types=(type,)).result]
    attrs = FusedAttrs("movement")
    return Node(OPS["fused"], (value,), attrs, (type,), body=rw.freeze())


def flops(node: Node) -> int:
    """Floating-point operations of a region."""
    assert node.body is not None
    return sum(n.op.flops(*(o.type for o in n.operands), n.attrs) for n in node.body.nodes)


def bytes_moved(node: Node) -> int:
    """What a region reads and writes: of a table of which it picks parts, no more than those."""
    assert node.body is not None
    read = {v: _moved_bytes(v.type) for v in node.body.inputs}
    for inner in node.body.nodes:
        table, picked = _picked(inner)
        if table in read and len(node.body.uses[table]) == 1:
            read[table] = min(read[table], picked)
    return sum(read.values()) + sum(_moved_bytes(r.type) for r in node.results)


def _picked(node: Node) -> tuple[Value | None, int]:
    """The table that a node picks parts of by data, and their bytes together."""
    if node.op.name == "gather":
        return node.operands[0], node.result.type.size_bytes
    if node.op.name == "gathered_matmul":
        x, table, _ = node.operands
        return table, x.type.dims[0] * (table.type.size_bytes // table.type.dims[0])
    return None, 0


def error_bound(body: Graph) -> float:
    """What the algorithms of a region may be off by: theirs added up."""
    inner = sum(error_bound(n.body) for n in body.nodes if n.body is not None)
    return inner + sum(n.attrs.error_bound(*(o.type for o in n.operands)) for n in body.nodes)


def lower_bound(graph: Graph, align: int) -> int:
    """Bytes that must live at once, whatever the placement: the peak over the node order. Results
    that lie in one place (in-place updates) count once."""
    storages = Storages(graph)
    last = storages.last_reads()
    outputs = set(map(storages.of, graph.outputs))
    live: dict[Value, int] = {}
    peak = 0
    for t, node in enumerate(graph.nodes):
        if node.op.name == "fused":
            made = {r: storages.of(r) for r in node.results}
            live.update({r: last.get(s, t) for r, s in made.items() if s not in outputs})
            peak = max(peak, _distinct_bytes(live, align))
        live = {v: end for v, end in live.items() if end > t}
    return peak


def _distinct_bytes(values: Iterable[Value], align: int) -> int:
    """Sizes added up, each a multiple of `align` bytes, those at one offset once."""
    sizes: dict[object, int] = {}
    for v in values:
        place = v if v.offset is None else v.offset
        sizes[place] = max(sizes.get(place, 0), aligned(v.type.size_bytes, align))
    return sum(sizes.values())

"""One kernel as one CUDA C++ file: a `__global__` function per grid, and the launch of them all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from graphopt.errors import IRError
from graphopt.ir.graph import Loc
from graphopt.ir.types import DType
from graphopt.kernel.affine import simplify_index
from graphopt.kernel.bounds import Interval, interval, tightened
from graphopt.kernel.gpu import Grid, between_grids, grids, is_gpu, shuffle_width
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Binary,
    Block,
    Buffer,
    Cast,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    LoopKind,
    Prefetch,
    Ramp,
    Scope,
    Select,
    Stmt,
    Store,
    Var,
    binary,
)
from graphopt.kernel.scope import IndexScope
from graphopt.kernel.sharing import share
from graphopt.kernel.visit import ExprMap, uses_var, walk
from graphopt.target import Target
from graphopt_backends.cuda.emit.barriers import barriers, copies_to_shared
from graphopt_backends.cuda.emit.ctypes import HALF, MEMORY, register, value_type
from graphopt_backends.cuda.emit.expressions import ExpressionPrinter, Text, position
from graphopt_backends.cuda.emit.launch import (
    grid_names,
    launch,
    parameter,
    shared_bytes,
    shared_size,
    used_parameters,
)
from graphopt_backends.cuda.emit.launchable import check_launchable, shared_limit
from graphopt_backends.cuda.emit.names import Names
from graphopt_backends.cuda.emit.registers import moved_halves, vector_registers
from graphopt_backends.cuda.fragments import tiles_of
from graphopt_backends.cuda.targets import WARP

_ASSIGN = {"+": "+=", "*": "*=", "and": "&=", "or": "|="}
_INT = 2**31
_PAIRED = 256


def emit_kernel(
    kernel: Kernel,
    target: Target,
    *,
    locs: Iterable[Loc] = (),
    aliased: frozenset[str] = frozenset(),
) -> str:
    """The CUDA C++ file of a kernel: `{name}_launch` takes a stream and pointers to the parameters,
    then to the workspace where there is one. `aliased` parameters may overlap others.

    Raises: IRError when the kernel is not a GPU's, or one that the target cannot run.
    """
    if not is_gpu(kernel):
        raise IRError(
            f"kernel {kernel.name!r} has no loop over blocks",
            hint="lower the region for a CUDA target",
        )
    parts = [_header(kernel, target, tuple(dict.fromkeys(locs))), '#include "go_kernel.h"']
    launches = grids(kernel)
    for grid, name in zip(launches, grid_names(kernel, launches), strict=True):
        parts.append(_Writer(kernel, grid, target, aliased).function(name))
    return "\n\n".join([*parts, launch(kernel, launches)]) + "\n"


def _header(kernel: Kernel, target: Target, locs: tuple[Loc, ...]) -> str:
    lines = [f"{kernel.name}, for {target.name}", *(f"  computes {loc}" for loc in locs)]
    return "\n".join(f"// {line}" for line in lines)


def _fits_int(kernel: Kernel) -> bool:
    """Whether every index fits an int: no grid runs past twice the elements of a buffer."""
    buffers = (*kernel.params, *between_grids(kernel))
    return all(math.prod(b.shape) + b.offset < _INT // 2 for b in buffers)


class _Writer:
    """The `__global__` function of one grid."""

    def __init__(self, kernel: Kernel, grid: Grid, target: Target, aliased: frozenset[str]) -> None:
        self.kernel, self.grid, self.aliased = kernel, grid, aliased
        self.limit = shared_limit(target)
        check_launchable(grid, kernel.name, target)
        self.names = Names(
            small=_fits_int(kernel),
            per_thread=frozenset(grid.per_thread),
            vectors=vector_registers(grid.loop),
            moved=moved_halves(grid.loop),
        )
        read_only = {b.name for b in kernel.params} - {*kernel.outputs} - aliased
        self.print = ExpressionPrinter(self.names, frozenset(read_only))
        self.waits = barriers(grid)
        self.copies = copies_to_shared(grid, frozenset(read_only))
        self.lines: list[str] = []
        self.depth, self.temporaries, self.shared = 1, 0, 0
        self.scope = IndexScope()

    def _bounds(self) -> str:
        """Two blocks of 256 threads fit a multiprocessor if each thread has 128 registers: one
        multiplies while the other waits."""
        two = self.grid.threads == _PAIRED and 2 * shared_bytes(self.grid) <= self.limit
        return f"{self.grid.threads}, 2" if two else str(self.grid.threads)

    def function(self, name: str) -> str:
        used = used_parameters(self.kernel, self.grid)
        parameters = [parameter(b, self.kernel, self.aliased) for b in used]
        for b in used:
            self.names.declare_buffer(b)
        if self.grid.shared:
            self._line("GO_SHARED(shared);")
        loop = self.grid.loop
        if loop.extent > 1:
            self._line(f"const {self.names.index_type} {self.names.declare(loop.var, loop.extent)}"
                       " = blockIdx.x;")  # fmt: skip
        else:
            self.names.ranges[loop.var] = 1
        self.scope = self.scope.with_loop(loop.var, loop.extent)
        self._thread_index()
        self._body(loop.body)
        head = f"__global__ void __launch_bounds__({self._bounds()})\n{name}("
        return "\n".join([head + _wrapped(parameters, len(name) + 1) + ")", "{", *self.lines, "}"])

    def _thread_index(self) -> None:
        """All thread loops share one variable, where they call it by one name."""
        names = {
            s.var for s in walk(self.grid.loop) if isinstance(s, For) and s.kind is LoopKind.THREAD
        }
        for name in sorted(names):
            c = self.names.declare(name, self.grid.threads)
            self._line(f"const {self.names.index_type} {c} = threadIdx.x;")

    def _line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def _braces(self, head: str) -> Iterator[None]:
        self._line(head)
        self.depth += 1
        saved = self.scope
        with self.names.inner():
            yield
        self.scope = saved
        self.depth -= 1

    # Statements ----------------------------------------------------------------------------------

    def _body(self, s: Stmt) -> None:
        parts = s.body if isinstance(s, Block) else (s,)
        for n, c in enumerate(parts):
            if isinstance(c, Let) and not any(uses_var(later, c.var) for later in parts[n + 1 :]):
                continue
            self._statement(c, last=c is parts[-1])

    def _nested(self, s: Stmt, *, last: bool) -> None:
        """A body in place, in braces where it declares something and more comes after it."""
        parts = s.body if isinstance(s, Block) else (s,)
        if not last and any(isinstance(c, (Let, Alloc)) for c in parts):
            with self._braces("{"):
                self._body(s)
            self._line("}")
        else:
            self._body(s)

    def _statement(self, s: Stmt, *, last: bool) -> None:
        match s:
            case Block():
                self._nested(s, last=last)
            case For() if s.kind is LoopKind.THREAD:
                self._thread(s, last=last)
            case For() if s.kind is LoopKind.TENSOR:
                self._tensor(s)
            case For():
                self._for(s)
            case Store():
                self._store(s)
            case Let():
                self._let(s)
            case If():
                self._if(s)
            case Alloc():
                self._alloc(s.buffer)
            case Prefetch():
                return
            case _:
                raise IRError(f"the CUDA emitter does not know the statement {type(s).__name__}")

    def _thread(self, s: For, *, last: bool) -> None:
        if id(s) in self.waits:
            if self.copies:
                self._line("go::wait_copies();")
            self._line("__syncthreads();" if self.grid.threads > WARP else "__syncwarp();")
        self.names.thread, saved = s, self.scope
        self.scope = self.scope.with_loop(s.var, s.extent)
        self.names.ranges[s.var] = s.extent
        if s.extent < self.grid.threads:
            with self._braces(f"if ({self.names.variable(s.var)} < {s.extent}) {{"):
                self._body(s.body)
            self._line("}")
        else:
            self._nested(s.body, last=last)
        self.names.thread, self.scope = None, saved

    def _for(self, s: For) -> None:
        if s.kind not in (LoopKind.SERIAL, LoopKind.UNROLL):
            raise IRError(f"a {s.kind.value} loop {s.var!r} is inside of a grid",
                          hint="loops over elements are serial or unrolled")  # fmt: skip
        saved = self.scope
        with self.names.inner():
            self.scope = self.scope.with_loop(s.var, s.extent)
            var = self.names.declare(s.var, s.extent)
            if s.kind is LoopKind.UNROLL:
                self._line("#pragma unroll")
            kind = self.names.index_type
            with self._braces(f"for ({kind} {var} = 0; {var} < {s.extent}; {var}++) {{"):
                self._body(s.body)
            self._line("}")
        self.scope = saved

    def _tensor(self, s: For) -> None:
        """A product on tensor cores: the whole nest is one call."""
        assert self.names.thread is not None
        tiles = tiles_of(s, self.names.thread, self.names.ranges)
        places = []
        for f in (tiles.left, tiles.right):
            at = position(f.buffer, f.start)
            places.append(f"{self.print.address(f.buffer, at)}, {f.buffer.strides[0]}")
        acc = self.names.buffer(tiles.acc)
        order = "_by_k" if tiles.right.by_k else ""
        self._line(f"go::multiply_tiles{order}({acc}, {', '.join(places)});")

    def _if(self, s: If) -> None:
        condition = self.print.value(self._shuffled(s.condition)).text
        with self._braces(f"if ({condition}) {{"):
            self.scope = self.scope.with_guard(s.condition)
            self._body(s.then)
        if s.otherwise is not None:
            with self._braces("} else {"):
                self._body(s.otherwise)
        self._line("}")

    def _let(self, s: Let) -> None:
        (value,) = self._shared((s.value,))
        self._declare(s.var, value)
        self.scope = self.scope.with_let(s.var, s.value)

    def _shared(self, roots: Sequence[Expr]) -> list[Expr]:
        """Expressions in terms of names for what they hold more than once, and for reductions over
        neighbours: C++ may pass over a branch or an operand, and all threads must take part."""
        bindings, out = share([self._shuffled(e) for e in roots], self.temporaries)
        self._bind(bindings)
        return out

    def _shuffled(self, e: Expr) -> Expr:
        return e if self._is_shuffle(e) else ExprMap(self._named_shuffle)(e)

    def _is_shuffle(self, e: Expr) -> bool:
        thread = self.names.thread
        return thread is not None and shuffle_width(e, self.names.per_thread, thread) > 1

    def _named_shuffle(self, e: Expr) -> Expr:
        if not self._is_shuffle(e):
            return e
        name = f"t{self.temporaries}"
        self._bind([(name, e)])
        return Var(e.dtype, e.lanes, name)

    def _bind(self, bindings: list[tuple[str, Expr]]) -> None:
        self.temporaries += len(bindings)
        for name, value in bindings:
            self._declare(name, value)
            self.scope = self.scope.with_let(name, value)

    def _declare(self, name: str, value: Expr) -> None:
        text = self.print.value(value).text  # before the name is bound: it may shadow
        kind, wide, extent = value_type(value.dtype, value.lanes), False, None
        if value.dtype is INDEX and value.lanes == 1:
            wide = self._is_data(value)
            kind = kind if wide else self.names.index_type
            low, high = self._interval(value)
            extent = int(high) + 1 if low >= 0 and math.isfinite(high) else None
        self._line(f"const {kind} {self.names.declare(name, extent, wide=wide)} = {text};")

    def _is_data(self, e: Expr) -> bool:
        return any(
            isinstance(x, (Load, Cast, Select))
            or (isinstance(x, Var) and x.name in self.names.wide)
            for x in walk(e)
        )

    def _interval(self, e: Expr) -> Interval:
        """The values an index takes here, under the conditions around."""
        at = simplify_index(self.scope.resolve(e), self.scope.ranges)
        return tightened(at, interval(at, self.scope.ranges), self.scope)

    # Buffers -------------------------------------------------------------------------------------

    def _alloc(self, b: Buffer) -> None:
        if b.scope is Scope.SHARED:
            kind, name = MEMORY[b.dtype], self.names.declare_buffer(b)
            plus = f" + {self.shared}" if self.shared else ""
            place = f"(shared{plus})" if plus else "shared"
            extents = "".join(f"[{e}]" for e in b.shape)
            self._line(f"{kind} *const {name} = ({kind} *){place};  // {extents}")
            self.shared += shared_size(b)
            return
        shape = b.shape[1:] if b in self.names.per_thread else b.shape
        kind = MEMORY[b.dtype] if b in self.names.moved else register(b.dtype)
        if b.scope is Scope.STACK:
            kind, shape = MEMORY[b.dtype], (math.prod(shape),)
        elif b in self.names.vectors:
            kind, shape = f"go::vec<{kind}, {shape[-1]}>", shape[:-1]
        extents = "".join(f"[{e}]" for e in shape)
        self._line(f"{kind} {self.names.declare_buffer(b)}{extents};")

    # Stores --------------------------------------------------------------------------------------

    def _store(self, s: Store) -> None:
        value, *index = self._shared((s.value, *s.index))
        s = dataclasses.replace(s, value=value, index=tuple(index))
        if s.buffer.scope is Scope.REGISTER:
            self._store_register(s)
        else:
            self._store_memory(s)

    def _store_register(self, s: Store) -> None:
        if s.buffer in self.names.moved:
            where = self.print.register(s.buffer, s.index).text
            vector = s.buffer in self.names.vectors
            if vector or s.value.lanes == 1:
                self._line(f"{where} = {self._raw(s.value)};")
            else:
                address = self.print.register_address(s.buffer, s.index)
                self._line(f"go::spread({address}, {self._raw(s.value)});")
            return
        if s.value.lanes > 1 and s.buffer not in self.names.vectors:
            address = self.print.register_address(s.buffer, s.index)
            self._line(f"go::spread({address}, {self._combined(s).text});")
            return
        self._assign(self.print.register(s.buffer, s.index).text, s)

    def _assign(self, where: str, s: Store) -> None:
        simple = s.buffer.dtype not in HALF and s.buffer.dtype is not DType.BOOL
        if s.reduce in _ASSIGN and simple:
            self._line(f"{where} {_ASSIGN[s.reduce]} {self.print.value(s.value).text};")
        else:
            self._line(f"{where} = {self._combined(s).text};")

    def _combined(self, s: Store) -> Text:
        """What is stored, in its register type, the old value combined with it."""
        value = s.value
        if s.reduce:
            old = Load(s.buffer.dtype, value.lanes, s.buffer, s.index)
            value = (
                Binary(old.dtype, old.lanes, s.reduce, old, value)
                if s.reduce in ("and", "or")
                else binary(s.reduce, old, value)
            )
        return self.print.value(value)

    def _store_memory(self, s: Store) -> None:
        at = simplify_index(position(s.buffer, s.index), self.names.ranges)
        lanes = s.value.lanes
        if lanes == 1 and at.lanes == 1:
            where = self.print.element(s.buffer, at).text
            if s.buffer.dtype in HALF or s.buffer.dtype is DType.BOOL:
                self._line(f"{where} = {self._stored(s)};")
            else:
                self._assign(where, s)
            return
        if s in self.copies and self._copy(s, at):
            return
        value = self._stored(s)
        if isinstance(at, Ramp) and at.stride == 1:
            how = "store" if self.print.is_aligned(at) else "spread"
            self._line(f"go::{how}({self.print.address(s.buffer, at.base)}, {value});")
        elif s.reduce:
            raise IRError(f"lanes accumulate into {s.buffer.name!r} at indices anywhere",
                          hint="accumulate one after the other")  # fmt: skip
        elif isinstance(at, Ramp):
            address = self.print.address(s.buffer, at.base)
            self._line(f"go::spread({address}, {value}, {at.stride});")
        else:
            name = self.names.buffer(s.buffer)
            self._line(f"go::scatter({name}, {self.print.value(at).text}, {value});")

    def _copy(self, s: Store, at: Expr) -> bool:
        """From memory to shared memory without a stop, where both lie in words."""
        assert isinstance(s.value, Load)
        source = simplify_index(position(s.value.buffer, s.value.index), self.names.ranges)
        for place in (at, source):
            if not (isinstance(place, Ramp) and place.stride == 1 and self.print.is_aligned(place)):
                return False
        assert isinstance(at, Ramp)
        assert isinstance(source, Ramp)
        if at.lanes * s.buffer.dtype.size_bytes not in (4, 8, 16):
            return False
        to = self.print.address(s.buffer, at.base)
        from_ = self.print.address(s.value.buffer, source.base)
        self._line(f"go::copy_async<{at.lanes}>({to}, {from_});")
        return True

    def _stored(self, s: Store) -> str:
        """A value as it lies in memory."""
        if s.buffer.dtype in HALF:
            v = s.value
            if not s.reduce and isinstance(v, (Load, Const)) and self._is_raw(v):
                return self._raw(v)
            if not s.reduce and isinstance(v, Cast) and v.a.dtype is DType.F32:
                s = dataclasses.replace(s, value=v.a)
                return f"go::to_{s.buffer.dtype}({self.print.value(v.a).text})"
            return f"go::to_{s.buffer.dtype}({self._combined(s).text})"
        if s.buffer.dtype is DType.BOOL and s.value.lanes > 1:
            return f"go::cast<uint8_t>({self._combined(s).text})"
        return self._combined(s).text

    def _is_raw(self, e: Load | Const) -> bool:
        """Whether a half is at hand as it lies in memory."""
        if isinstance(e, Const):
            return e.value == 0
        return e.buffer.scope is not Scope.REGISTER or e.buffer in self.names.moved

    def _raw(self, e: Expr) -> str:
        """A half as it lies in memory: loaded, or 0."""
        if isinstance(e, Load):
            return self.print.raw(e).text
        return (
            f"{MEMORY[e.dtype]}{{}}"
            if e.lanes == 1
            else f"go::vec<{MEMORY[e.dtype]}, {e.lanes}>{{}}"
        )


def _wrapped(parts: list[str], indent: int) -> str:
    text = ", ".join(parts)
    if indent + len(text) <= 96:
        return text
    return (",\n" + " " * 4).join(["\n    " + parts[0], *parts[1:]])

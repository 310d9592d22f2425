"""One kernel as one C translation unit: declarations, then the function."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

from graphopt.errors import IRError
from graphopt.ir.graph import Loc
from graphopt.ir.types import DType
from graphopt.kernel.footprint import aligned, span_bytes, workspace
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Binary,
    Block,
    Broadcast,
    Buffer,
    Cast,
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
    Stmt,
    Store,
    binary,
    shared_within,
)
from graphopt.kernel.sharing import share
from graphopt.target import Target
from graphopt_backends.cpu.emit.ctypes import C_TYPE, HALF, INTEGER_OF_SIZE, register_dtype
from graphopt_backends.cpu.emit.expressions import ExpressionPrinter, Names, Text, fills_no_register
from graphopt_backends.cpu.emit.prelude import Prelude
from graphopt_backends.cpu.emit.registers import (
    register_file,
    unroll_registers,
)

ALIGNMENT = 64
"""Bytes; a cache line and the widest vector."""

_UNROLL_LIMIT = 64
_ASSIGN = {"+": "+=", "*": "*=", "and": "&=", "or": "|="}


def emit_kernel(
    kernel: Kernel,
    target: Target,
    *,
    locs: Iterable[Loc] = (),
    aliased: frozenset[str] = frozenset(),
) -> str:
    """The C translation unit of a kernel. `aliased` parameters may overlap others.

    Raises: IRError when the kernel cannot be C (a GPU loop, a register indexed by a variable).
    """
    return _Writer(kernel, target, aliased).unit(tuple(dict.fromkeys(locs)))


def parallel_extent(kernel: Kernel) -> int:
    """How many iterations threads may share: the range of the kernel's begin and end."""
    return max((_shares(loop) for loop in _parallel_loops(kernel.body)), default=1)


def parallel_run(kernel: Kernel) -> int:
    """How many neighbouring ones have something prepared for all of them, again by every thread
    that gets some."""
    return max((_run(loop) for loop in _parallel_loops(kernel.body)), default=1)


def scratch_bytes(kernel: Kernel) -> int:
    """Bytes of per-thread workspace that a kernel's SCRATCH buffers take."""
    return workspace(kernel.body, ALIGNMENT)


def prototype(kernel: Kernel, aliased: frozenset[str] = frozenset()) -> str:
    """The C declaration of a kernel's function, without a semicolon."""
    names = Names()
    return _prototype(kernel, [names.declare_buffer(b.name) for b in kernel.params], aliased)


def _prototype(kernel: Kernel, names: list[str], aliased: frozenset[str]) -> str:
    parts = []
    for buffer, name in zip(kernel.params, names, strict=True):
        const = "" if buffer.name in kernel.outputs else "const "
        restrict = "" if buffer.name in aliased else "restrict "
        parts.append(f"{const}{C_TYPE[buffer.dtype]} *{restrict}{name}")
    parts += ["char *scratch", "int64_t begin", "int64_t end"]
    head = f"void {kernel.name}("
    lines, line = [], head
    for i, part in enumerate(parts):
        piece = part + (")" if i == len(parts) - 1 else ",")
        if len(line) + len(piece) > 96 and line != head:
            lines.append(line.rstrip())
            line = "    "
        line += piece + " "
    return "\n".join([*lines, line.rstrip()])


def _parallel_loops(body: Stmt) -> tuple[For, ...]:
    """The PARALLEL loops that threads share: all there is to a kernel, but for declarations before
    a single one, or serial loops beside them.

    Nests side by side are independent of each other: where one is parallel, so are all.
    """
    parts = body.body if isinstance(body, Block) else (body,)
    loops = tuple(s for s in parts if _is_shared(s))
    declared = any(isinstance(s, (Alloc, Let)) for s in parts)
    work = [s for s in parts if not isinstance(s, (Alloc, Let))]
    return () if declared and len(work) > 1 else loops


def _is_shared(s: Stmt) -> TypeGuard[For]:
    return isinstance(s, For) and s.kind is LoopKind.PARALLEL and _shares(s) > 1


def _shares(loop: For) -> int:
    return loop.extent * _run(loop)


def _run(loop: For) -> int:
    """Iterations of the parallel loop that this one ends in."""
    inner = shared_within(loop)
    return inner.extent if inner else 1


class _Writer:
    def __init__(self, kernel: Kernel, target: Target, aliased: frozenset[str]) -> None:
        self.kernel, self.target, self.aliased = kernel, target, aliased
        self.prelude, self.names = Prelude(), Names()
        self.print = ExpressionPrinter(self.prelude, self.names)
        self.lines: list[str] = []
        self.depth, self.scratch, self.streams, self.temporaries = 1, 0, False, 0
        self.parallel = _parallel_loops(kernel.body)
        self.shared = parallel_extent(kernel)
        self.pairs: dict[int, tuple[str, str, str]] = {}
        """By the identity of a loop that a shared one ends in: the pairs before its own, and the
        range of all of them."""

    def unit(self, locs: tuple[Loc, ...]) -> str:
        names = [self.names.declare_buffer(b.name) for b in self.kernel.params]
        body = unroll_registers(self.kernel.body)
        self._silence_unused(body)
        self._top(body.body if isinstance(body, Block) else (body,))
        if self.streams:
            self.lines += ["#if defined(__x86_64__)", "    __builtin_ia32_sfence();", "#endif"]
        head = _prototype(self.kernel, names, self.aliased)
        comment = _header(self.kernel, self.target, locs)
        function = "\n".join([f"{head} {{", *self.lines, "}"])
        prelude = self.prelude.text()
        parts = [comment, "#include <stdint.h>", prelude, f"{head};", function]
        return "\n\n".join(p for p in parts if p) + "\n"

    def _silence_unused(self, body: Stmt) -> None:
        unused = [] if self.parallel else ["begin", "end"]
        if not workspace(body, ALIGNMENT):
            unused.append("scratch")
        if unused:
            self._line(" ".join(f"(void){name};" for name in unused))

    def _line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def _braces(self, head: str) -> Iterator[None]:
        """A C block and a scope of names and scratch."""
        self._line(head)
        self.depth += 1
        saved = self.scratch
        with self.names.inner():
            yield
        self.scratch = saved
        self.depth -= 1

    # Statements --------------------------------------------------------------------------------

    def _top(self, body: tuple[Stmt, ...]) -> None:
        """Nests that no thread shares belong to whoever has the first iteration of the others."""
        if len(self.parallel) == 0 or len(body) == 1 or any(isinstance(s, Alloc) for s in body):
            self._statements(body)
            return
        for s in body:
            if _is_shared(s):
                self._for(s)
            else:
                with self._braces("if (begin == 0) {"):
                    self._body(s)
                self._line("}")

    def _range(self, s: For, var: str) -> tuple[str, str]:
        """A loop's bounds."""
        if self.depth == 1 and self.parallel and _is_shared(s):
            return self._shared_range(s, var)
        if id(s) in self.pairs:
            return self._range_of_pairs(s, *self.pairs[id(s)])
        return "0", str(s.extent)

    def _shared_range(self, s: For, var: str) -> tuple[str, str]:
        """Several nests split begin..end in proportion to their extents; of pairs of iterations,
        the outer loop takes the ones that have any."""
        whole, run, inner = _shares(s), _run(s), shared_within(s)
        part = "" if whole == self.shared else f" * {whole} / {self.shared}"
        begin, end = f"begin{part}", f"end{part}"
        if inner is not None:
            self.pairs[id(inner)] = f"{run} * {var}", begin, end
        return (begin, end) if run == 1 else (f"{begin} / {run}", f"({end} + {run - 1}) / {run}")

    def _range_of_pairs(self, s: For, before: str, begin: str, end: str) -> tuple[str, str]:
        """Of the loop that a shared one ends in: what of begin..end falls to this iteration."""
        first, last = self.names.fresh("first"), self.names.fresh("last")
        rest = f"{end} - {before}"
        self._line(f"const int64_t {first} = {begin} > {before} ? {begin} - {before} : 0;")
        self._line(f"const int64_t {last} = {rest} < {s.extent} ? {rest} : {s.extent};")
        return first, last

    def _statements(self, body: tuple[Stmt, ...]) -> None:
        for i, s in enumerate(body):
            if isinstance(s, Alloc):
                self._alloc(s.buffer, body[i + 1 :])
            elif isinstance(s, Block):
                self._nested(s)
            else:
                self._statement(s)

    def _nested(self, stmt: Block) -> None:
        if any(isinstance(s, (Let, Alloc)) for s in stmt.body):
            with self._braces("{"):
                self._statements(stmt.body)
            self._line("}")
        else:
            self._statements(stmt.body)

    def _body(self, stmt: Stmt) -> None:
        self._statements(stmt.body if isinstance(stmt, Block) else (stmt,))

    def _statement(self, s: Stmt) -> None:
        if isinstance(s, For):
            self._for(s)
        elif isinstance(s, Store):
            self._share_and_store(s)
        elif isinstance(s, Let):
            self._let(s)
        elif isinstance(s, If):
            self._if(s)
        elif isinstance(s, Prefetch):
            self._prefetch(s)
        else:
            raise IRError(f"the C emitter does not know the statement {type(s).__name__}")

    def _for(self, s: For) -> None:
        if s.kind in (LoopKind.BLOCK, LoopKind.THREAD):
            raise IRError(
                f"kernel {self.kernel.name!r} has a GPU {s.kind.value} loop {s.var!r}",
                hint="lower the region for a CPU target",
            )
        if s.extent == 1 and not (self.depth == 1 and _run(s) > 1):
            with self.names.inner():
                self.names.declare(s.var)
                self.names.ranges[s.var] = 1
                self._nested(s.body if isinstance(s.body, Block) else Block((s.body,)))
            return
        with self.names.inner():
            var = self.names.declare(s.var)
            self.names.ranges[s.var] = s.extent
            low, high = self._range(s, var)
            if s.kind is LoopKind.UNROLL and s.extent <= _UNROLL_LIMIT and self._vectors:
                self._line(f"#pragma GCC unroll {s.extent}")
            with self._braces(f"for (int64_t {var} = {low}; {var} < {high}; {var}++) {{"):
                self._body(s.body)
            self._line("}")

    @property
    def _vectors(self) -> bool:
        """False where nothing but C99 may come out."""
        return self.target.lanes_f32 > 1

    def _if(self, s: If) -> None:
        with self._braces(f"if ({self.print.value(s.condition).text}) {{"):
            self._body(s.then)
        if s.otherwise is not None:
            with self._braces("} else {"):
                self._body(s.otherwise)
        self._line("}")

    def _let(self, s: Let) -> None:
        bindings, (value,) = share((s.value,), self.temporaries)
        self._bind(bindings)
        text = self.print.value(value).text  # before the name is bound: it may shadow
        ctype = self.prelude.type(register_dtype(s.value.dtype), s.value.lanes)
        self._line(f"const {ctype} {self.names.declare(s.var)} = {text};")

    def _prefetch(self, s: Prefetch) -> None:
        if not self._vectors:
            return
        at = self.print.place(s.buffer, s.index)
        base = at.base if isinstance(at, Ramp) else at
        cache = ", 0, 2" if s.level == 2 else ""
        self._line(f"__builtin_prefetch({self.print.address(s.buffer, base).text}{cache});")

    # Buffers -----------------------------------------------------------------------------------

    def _alloc(self, buffer: Buffer, rest: tuple[Stmt, ...]) -> None:
        if buffer.scope is Scope.REGISTER:
            self._registers(buffer, rest)
        elif buffer.scope is Scope.STACK:
            count = max(1, span_bytes(buffer) // buffer.dtype.size_bytes)
            name = self.names.declare_buffer(buffer.name)
            align = f" __attribute__((aligned({ALIGNMENT})))" if self._vectors else ""
            self._line(f"{C_TYPE[buffer.dtype]} {name}[{count}]{align};")
        elif buffer.scope is Scope.SCRATCH:
            name, ctype = self.names.declare_buffer(buffer.name), C_TYPE[buffer.dtype]
            self._line(f"{ctype} *const {name} = ({ctype} *)(scratch + {self.scratch});")
            self.scratch = aligned(self.scratch + span_bytes(buffer), ALIGNMENT)
        else:
            raise IRError(f"a {buffer.scope.value} buffer {buffer.name!r} cannot be allocated in C")

    def _registers(self, buffer: Buffer, rest: tuple[Stmt, ...]) -> None:
        file = register_file(buffer, rest, self.names.fresh)
        crowded = self._vectors and 2 * file.vectors > self.target.vector_registers
        if crowded and not any(f.vectors for f in self.names.registers.values()):
            self._line(f"{self.prelude.helper('vacate', DType.F32, self.target.lanes_f32)}();")
        self.names.registers[buffer.name] = file
        by_type: dict[str, list[str]] = {}
        for part in file.parts:
            ctype = self.prelude.type(register_dtype(buffer.dtype), part.lanes)
            by_type.setdefault(ctype, []).append(part.name)
        for ctype, names in by_type.items():
            for i in range(0, len(names), 8):
                self._line(f"{ctype} {', '.join(names[i : i + 8])};")

    def _bind(self, bindings: list[tuple[str, Expr]]) -> None:
        self.temporaries += len(bindings)
        for name, value in bindings:
            text = self.print.value(value).text
            ctype = self.prelude.type(register_dtype(value.dtype), value.lanes)
            self._line(f"const {ctype} {self.names.declare(name)} = {text};")

    # Stores ------------------------------------------------------------------------------------

    def _share_and_store(self, s: Store) -> None:
        bindings, (value, *index) = share((s.value, *s.index), self.temporaries)
        self._bind(bindings)
        self._store(dataclasses.replace(s, value=value, index=tuple(index)) if bindings else s)

    def _store(self, s: Store) -> None:
        if s.buffer.scope is Scope.REGISTER:
            self._store_register(s)
            return
        lanes = max(s.value.lanes, *(i.lanes for i in s.index), 1) if s.index else s.value.lanes
        at = self.print.place(s.buffer, s.index)
        contiguous = isinstance(at, Ramp) and at.stride == 1
        if lanes > 1 and not contiguous:
            self._scatter(s, at, lanes)
            return
        if isinstance(at, Ramp) and fills_no_register(at):
            self._store_part(s, at)
            return
        where = (
            self.print.vector(s.buffer, at, store=True)
            if isinstance(at, Ramp)
            else self.print.element(s.buffer, at)
        )
        simple = s.buffer.dtype not in HALF and s.buffer.dtype is not DType.BOOL
        if s.reduce in _ASSIGN and simple:
            self._line(f"{where.text} {_ASSIGN[s.reduce]} {self.print._operand(s.value).text};")
            return
        text = self._stored(s.buffer.dtype, _combined(s, lanes), lanes).text
        if s.nontemporal and isinstance(at, Ramp):
            self.streams = True
            helper = self.prelude.helper("stream", _bits_dtype(s.buffer.dtype), lanes)
            self._line(f"{helper}({self.print.address(s.buffer, at.base).text}, {text});")
        else:
            self._line(f"{where.text} = {text};")

    def _store_part(self, s: Store, at: Ramp) -> None:
        """Of a vector that leaves lanes of its register over; a mere copy needs no register."""
        dtype, to = s.buffer.dtype, self.print.address(s.buffer, at.base).text
        copied = None if s.reduce else self.print.source(s.value)
        if copied is not None:
            self._line(f"__builtin_memcpy({to}, {copied}, {at.lanes * dtype.size_bytes});")
            return
        text = self._stored(dtype, _combined(s, at.lanes), at.lanes).text
        helper = self.prelude.helper("store_part", _bits_dtype(dtype), at.lanes)
        self._line(f"{helper}({to}, {text});")

    def _stored(self, dtype: DType, value: Expr, lanes: int) -> Text:
        """A value as it lies in memory."""
        if dtype in HALF:
            exact = value.a if isinstance(value, Cast) and value.a.dtype is DType.F32 else value
            text = self.print.value(exact).text
            return Text(f"{self.prelude.helper(f'store_{dtype}', DType.F32, lanes)}({text})")
        if dtype is DType.BOOL and lanes > 1:
            mask = self.print.mask(value, DType.I8)
            return Text(f"({self.prelude.type(DType.U8, lanes)})({mask.at(85)} & 1)", 90)
        return self.print.value(value)

    def _store_register(self, s: Store) -> None:
        where = self.print.register(s.buffer, s.index).text
        simple = s.buffer.dtype not in HALF
        if s.reduce in _ASSIGN and simple:
            self._line(f"{where} {_ASSIGN[s.reduce]} {self._register_operand(s).text};")
            return
        value = s.value
        if s.reduce:
            old = Load(s.buffer.dtype, value.lanes, s.buffer, s.index)
            value = Binary(s.buffer.dtype, value.lanes, s.reduce, old, value)
        self._line(f"{where} = {self.print.value(value).text};")

    def _register_operand(self, s: Store) -> Text:
        if s.value.dtype is DType.BOOL:
            return self.print.value(s.value)
        return self.print._operand(s.value)

    def _scatter(self, s: Store, at: Expr, lanes: int) -> None:
        """Lanes one by one, in order: equal indices accumulate, and the last one wins."""
        vector = at if at.lanes > 1 else Broadcast(INDEX, lanes, at)
        index_type = self.prelude.type(DType.I64, lanes)
        value_type = self.prelude.type(s.buffer.dtype, lanes)
        with self._braces("{"):
            index, value = self.names.fresh("at"), self.names.fresh("lanes")
            self._line(f"const {index_type} {index} = {self.print.value(vector).text};")
            text = self._stored(s.buffer.dtype, s.value, lanes).text
            self._line(f"const {value_type} {value} = {text};")
            place = f"{self.names.buffers[s.buffer.name]}[{index}[lane]]"
            update = self._lane_update(s, place, f"{value}[lane]")
            self._line(f"for (int lane = 0; lane < {lanes}; lane++) {update};")
        self._line("}")

    def _lane_update(self, s: Store, place: str, value: str) -> str:
        if not s.reduce:
            return f"{place} = {value}"
        if s.buffer.dtype in HALF:
            raise IRError(
                f"scattered accumulation into {s.buffer.dtype} buffer {s.buffer.name!r}",
                hint="accumulate in f32",
            )
        if s.reduce in _ASSIGN:
            return f"{place} {_ASSIGN[s.reduce]} {value}"
        helper = self.prelude.helper(s.reduce, s.buffer.dtype, 1)
        return f"{place} = {helper}({place}, {value})"


def _combined(s: Store, lanes: int) -> Expr:
    """What a store leaves where it writes."""
    if not s.reduce:
        return s.value
    return binary(s.reduce, Load(s.buffer.dtype, lanes, s.buffer, s.index), s.value)


def _bits_dtype(dtype: DType) -> DType:
    return INTEGER_OF_SIZE[dtype.size_bytes] if dtype in HALF else dtype


def _header(kernel: Kernel, target: Target, locs: tuple[Loc, ...]) -> str:
    lines = [f"{kernel.name}, for {target.name} ({target.isa})"]
    lines += [f"  computes {loc}" for loc in locs]
    text = "\n * ".join(line.replace("*/", "* /") for line in lines)
    return f"/* {text} */" if len(lines) == 1 else f"/* {text}\n */"

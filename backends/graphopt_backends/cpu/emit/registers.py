"""REGISTER buffers as named variables, and the unrolling that makes their indices constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from graphopt.errors import IRError
from graphopt.kernel.affine import simplify_index
from graphopt.kernel.ir import (
    Alloc,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    Let,
    Load,
    LoopKind,
    Ramp,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    index_const,
)
from graphopt.kernel.visit import map_stmts, substitute, walk


@dataclass(frozen=True)
class Part:
    """One variable: elements [start, start + lanes) of its buffer."""

    name: str
    start: int
    lanes: int


class RegisterFile:
    """The variables of one REGISTER buffer."""

    def __init__(self, buffer: Buffer, parts: tuple[Part, ...]) -> None:
        self.buffer, self.parts = buffer, parts

    @property
    def vectors(self) -> int:
        """How many of them are vectors."""
        return sum(p.lanes > 1 for p in self.parts)

    def find(self, start: int, lanes: int) -> tuple[Part, int]:
        """The variable that holds elements [start, start + lanes), and at which lane they begin.

        Raises: IRError when they lie in several.
        """
        for part in self.parts:
            if part.start <= start and start + lanes <= part.start + part.lanes:
                return part, start - part.start
        raise IRError(
            f"elements {start}..{start + lanes} of register buffer {self.buffer.name!r} "
            "are in more than one register",
            hint="vectorize every access of the buffer alike",
        )


def register_file(buffer: Buffer, scope: tuple[Stmt, ...], rename: Callable[[str], str]) -> (
    RegisterFile
):  # fmt: skip
    """Variables for every element range that the statements of `scope` access, widest first."""
    ranges = sorted({*_accesses(buffer, scope)}, key=lambda r: (-r[1], r[0]))
    parts: list[Part] = []
    for start, lanes in ranges:
        if any(p.start <= start and start + lanes <= p.start + p.lanes for p in parts):
            continue
        if any(start < p.start + p.lanes and p.start < start + lanes for p in parts):
            raise IRError(
                f"accesses of register buffer {buffer.name!r} overlap at element {start}",
                hint="vectorize every access of the buffer alike",
            )
        parts.append(Part(rename(_name(buffer, start, lanes)), start, lanes))
    return RegisterFile(buffer, tuple(sorted(parts, key=lambda p: p.start)))


def _name(buffer: Buffer, start: int, lanes: int) -> str:
    """acc_3_1: row 3, second vector."""
    if not buffer.shape:
        return buffer.name
    index, rest = [], start
    for axis in range(len(buffer.shape)):
        step = buffer.strides[axis]
        index.append(rest // step if step else 0)
        rest -= index[-1] * step
    if index[-1] % lanes == 0:
        index[-1] //= lanes
    return "_".join([buffer.name, *map(str, index)])


def _accesses(buffer: Buffer, scope: tuple[Stmt, ...]) -> Iterator[tuple[int, int]]:
    for stmt in scope:
        for part in walk(stmt):
            if isinstance(part, (Load, Store)) and part.buffer == buffer:
                yield constant_range(buffer, part.index)


def constant_range(buffer: Buffer, index: tuple[Expr, ...]) -> tuple[int, int]:
    """(first element, lanes) of a register access. Raises: IRError when not constant."""
    start, step, lanes = buffer.offset, 0, 1
    for i, stride in zip(index, buffer.strides, strict=True):
        at = simplify_index(i, {})
        base, by = (at.base, at.stride) if isinstance(at, Ramp) else (at, 0)
        if not isinstance(base, Const):
            raise _not_constant(buffer)
        start, step = start + int(base.value) * stride, step + by * stride
        lanes = max(lanes, at.lanes)
    if lanes > 1 and step != 1:
        raise _not_constant(buffer)
    return start, lanes


def _not_constant(buffer: Buffer) -> IRError:
    return IRError(
        f"register buffer {buffer.name!r} is indexed by a loop variable or with a stride",
        hint="unroll the loops around its accesses, or allocate it on the stack",
    )


def position(buffer: Buffer, index: tuple[Expr, ...]) -> Expr:
    """Elements from a buffer's pointer to an index; a vector for a vector index."""
    out: Expr = index_const(buffer.offset)
    for i, stride in zip(index, buffer.strides, strict=True):
        out = binary("+", out, binary("*", i, index_const(stride)))
    return out


# Unrolling -------------------------------------------------------------------------------------


def unroll_registers(stmt: Stmt) -> Stmt:
    """Write out UNROLL loops whose variable indexes a register buffer."""

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.kind is not LoopKind.UNROLL:
            return s
        if not _indexes_register(s.var, s.body):
            return s
        copies = (substitute(s.body, {s.var: index_const(i)}) for i in range(s.extent))
        return Block(tuple(c for copy in copies for c in _flattened(copy)))

    return map_stmts(stmt, visit)


def _flattened(stmt: Stmt) -> tuple[Stmt, ...]:
    """The statements of a block that binds nothing; others stay whole, for what they bind."""
    if isinstance(stmt, Block) and not any(isinstance(s, (Let, Alloc)) for s in stmt.body):
        return stmt.body
    return (stmt,)


def _indexes_register(var: str, body: Stmt) -> bool:
    return any(
        isinstance(p, (Load, Store)) and p.buffer.scope is Scope.REGISTER
        and any(isinstance(e, Var) and e.name == var for i in p.index for e in walk(i))
        for p in walk(body)
    )  # fmt: skip

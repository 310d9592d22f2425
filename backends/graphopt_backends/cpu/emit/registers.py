"""REGISTER buffers as named variables, and the unrolling that makes their indices constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from graphopt.errors import IRError
from graphopt.kernel.affine import linear, simplify_index
from graphopt.kernel.ir import (
    Alloc,
    Binary,
    Block,
    Broadcast,
    Buffer,
    Expr,
    For,
    If,
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
    for part in walk(scope):
        if isinstance(part, (Load, Store)) and part.buffer == buffer:
            yield constant_range(buffer, part.index)


def constant_range(buffer: Buffer, index: tuple[Expr, ...]) -> tuple[int, int]:
    """(first element, lanes) of a register access. Raises: IRError when not constant."""
    at = simplify_index(position(buffer, index), {})
    base, stride, lanes = (at.base, at.stride, at.lanes) if isinstance(at, Ramp) else (at, 1, 1)
    form = linear(base, {})
    if not form.is_constant or stride != 1:
        raise IRError(
            f"register buffer {buffer.name!r} is indexed by a loop variable or with a stride",
            hint="unroll the loops around its accesses, or allocate it on the stack",
        )
    return form.constant, lanes


def position(buffer: Buffer, index: tuple[Expr, ...]) -> Expr:
    """Elements from a buffer's pointer to an index; a vector for a vector index."""
    out: Expr = index_const(buffer.offset)
    for i, stride in zip(index, buffer.strides, strict=True):
        out = binary("+", out, binary("*", i, index_const(stride)))
    return out


# Trees -----------------------------------------------------------------------------------------


def walk(node: object, seen: set[int] | None = None) -> Iterator[Expr | Stmt]:
    """Every expression and statement below, each object once; buffers are not entered."""
    seen = set() if seen is None else seen
    if isinstance(node, tuple):
        for item in node:
            yield from walk(item, seen)
    elif isinstance(node, (Expr, Stmt)) and id(node) not in seen:
        seen.add(id(node))
        yield node
        for field in dataclasses.fields(node):
            yield from walk(getattr(node, field.name), seen)


def unroll_registers(stmt: Stmt) -> Stmt:
    """Write out UNROLL loops whose variable indexes a register buffer."""
    if isinstance(stmt, Block):
        return Block(tuple(unroll_registers(s) for s in stmt.body))
    if isinstance(stmt, If):
        other = unroll_registers(stmt.otherwise) if stmt.otherwise else None
        return If(stmt.condition, unroll_registers(stmt.then), other)
    if not isinstance(stmt, For):
        return stmt
    body = unroll_registers(stmt.body)
    if stmt.kind is LoopKind.UNROLL and _indexes_register(stmt.var, body):
        copies = (substitute(body, stmt.var, index_const(i)) for i in range(stmt.extent))
        return Block(tuple(s for copy in copies for s in _flattened(copy)))
    return dataclasses.replace(stmt, body=body)


def _flattened(stmt: Stmt) -> tuple[Stmt, ...]:
    """The statements of a block that binds nothing; others stay whole."""
    if isinstance(stmt, Block) and not any(isinstance(s, (Let, Alloc)) for s in stmt.body):
        return stmt.body
    return (stmt,)


def _indexes_register(var: str, body: Stmt) -> bool:
    return any(
        isinstance(p, (Load, Store)) and p.buffer.scope is Scope.REGISTER
        and any(isinstance(e, Var) and e.name == var for e in walk(p.index))
        for p in walk(body)
    )  # fmt: skip


def substitute(node: Stmt, var: str, value: Expr) -> Stmt:
    """`value` for a loop variable, up to inner loops of the same name."""
    done: dict[int, Expr] = {}  # by identity: hashing shared trees takes exponential time

    def expr(e: Expr) -> Expr:
        if id(e) not in done:
            mine = isinstance(e, Var) and e.name == var
            done[id(e)] = value if mine else _rebuilt(e, expr)
        return done[id(e)]

    def stmt(s: Stmt) -> Stmt:
        if isinstance(s, For) and s.var == var:
            return s
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(s):
            old = getattr(s, field.name)
            changes[field.name] = _mapped(old, expr, stmt)
        return dataclasses.replace(s, **changes)

    return stmt(node)


def _rebuilt(e: Expr, expr: Callable[[Expr], Expr]) -> Expr:
    if isinstance(e, Binary):
        return binary(e.op, expr(e.a), expr(e.b))
    if isinstance(e, Broadcast):
        return Broadcast(e.dtype, e.lanes, expr(e.a))
    fields: dict[str, Any] = {
        f.name: _mapped(getattr(e, f.name), expr, None) for f in dataclasses.fields(e)
    }
    return dataclasses.replace(e, **fields)


def _mapped(
    value: object, expr: Callable[[Expr], Expr], stmt: Callable[[Stmt], Stmt] | None
) -> object:
    if isinstance(value, tuple):
        return tuple(_mapped(v, expr, stmt) for v in value)
    if isinstance(value, Expr):
        return expr(value)
    if isinstance(value, Stmt) and stmt is not None:
        return stmt(value)
    return value

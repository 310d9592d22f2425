"""Statements as functions that change a state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from graphopt.errors import IRError
from graphopt.kernel.dependence import conflicts
from graphopt.kernel.interpret.expressions import ExprCompiler
from graphopt.kernel.interpret.state import Frame, Memory, State, Types, size_of
from graphopt.kernel.ir import (
    Alloc,
    Block,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Prefetch,
    Stmt,
    Store,
)
from graphopt.kernel.scope import IndexScope
from graphopt.kernel.visit import walk

_ELEMENTS = 1 << 20
"""Of the values of all rows together: what numpy computes at once without leaving the cache far
behind."""


@dataclass(frozen=True)
class Action:
    """A compiled statement, and how many statements one execution of it runs."""

    run: Callable[[State], None]
    steps: int


class Compiler:
    """Compiles a kernel's body. Names and buffers become slots."""

    def __init__(self, kernel: Kernel, types: Types, *, in_order: bool = False) -> None:
        self.kernel, self.types, self.in_order = kernel, types, in_order
        self.slots = 0
        self.names: dict[str, int] = {}
        self.buffers = {p.name: self._slot() for p in kernel.params}
        self.scope = IndexScope()
        self.rows = 1

    def program(self) -> Action:
        return self._stmt(self.kernel.body)

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    @contextmanager
    def _inner(self) -> Iterator[None]:
        saved = dict(self.names), dict(self.buffers), self.scope, self.rows
        yield
        self.names, self.buffers, self.scope, self.rows = saved

    def _stmt(self, s: Stmt) -> Action:
        match s:
            case Block():
                return _sequence([self._stmt(c) for c in s.body])
            case For():
                return self._for(s)
            case If():
                return self._if(s)
            case Store():
                return self._store(s)
            case Let():
                return self._let(s)
            case Alloc():
                return self._alloc(s)
            case Prefetch():
                return Action(lambda state: None, 0)
            case _:
                raise IRError(f"{type(s).__name__} is no statement")

    # Simple statements -------------------------------------------------------------------------

    def _exprs(self, *roots: Expr) -> ExprCompiler:
        return ExprCompiler(roots, self.types, self.names, self.buffers)

    def _store(self, s: Store) -> Action:
        compiler = self._exprs(s.value, *s.index)
        value, place = compiler(s.value), compiler.place(s.buffer, s.index, s.value.lanes)
        shared, reduce = len(compiler.shared), s.reduce

        def run(state: State) -> None:
            state.shared = [None] * shared
            place.store(state, value(state), reduce)

        return Action(run, 1)

    def _let(self, s: Let) -> Action:
        compiler = self._exprs(s.value)
        value, shared = compiler(s.value), len(compiler.shared)
        slot = self.names[s.var] = self._slot()
        self.scope = self.scope.with_let(s.var, s.value)

        def run(state: State) -> None:
            state.shared = [None] * shared
            bound = value(state)
            if isinstance(bound, np.ndarray) and bound.base is not None:
                bound = bound.copy()  # a view of memory that may change
            state.values[slot] = bound, state.frame

        return Action(run, 1)

    def _alloc(self, s: Alloc) -> Action:
        slot = self.buffers[s.buffer.name] = self._slot()
        dtype, size, types = s.buffer.dtype, size_of(s.buffer), self.types

        def run(state: State) -> None:
            poisoned = types.poisoned(dtype, state.frame.size, size)
            state.memory[slot] = Memory(poisoned, state.frame)

        return Action(run, 1)

    def _if(self, s: If) -> Action:
        compiler = self._exprs(s.condition)
        condition, shared = compiler(s.condition), len(compiler.shared)
        with self._inner():
            then = self._stmt(s.then)
        with self._inner():
            otherwise = None if s.otherwise is None else self._stmt(s.otherwise)

        def run(state: State) -> None:
            state.shared = [None] * shared
            holds = condition(state)
            _in_rows(state, holds, then)
            if otherwise is not None:
                _in_rows(state, np.logical_not(holds), otherwise)

        return Action(run, 1 + then.steps + (otherwise.steps if otherwise else 0))

    # Loops -------------------------------------------------------------------------------------

    def _for(self, s: For) -> Action:
        chunk = self._at_once(s)
        with self._inner():
            slot = self.names[s.var] = self._slot()
            self.scope = self.scope.with_loop(s.var, s.extent)
            self.rows *= chunk
            body = self._stmt(s.body)
        trips = -(-s.extent // chunk)
        run = _one_by_one(slot, s.extent, body) if chunk == 1 else _chunks(slot, s, chunk, body)
        return Action(run, trips * body.steps)

    def _at_once(self, s: For) -> int:
        """How many iterations run as rows."""
        if self.in_order or s.extent < 2 or conflicts(s, self.scope):
            return 1
        local = sum(size_of(p.buffer) for p in walk(s.body) if isinstance(p, Alloc))
        lanes = max((p.value.lanes for p in walk(s.body) if isinstance(p, Store)), default=1)
        most = _ELEMENTS // (max(local, lanes) * self.rows)
        return max(1, min(s.extent, most))


def _sequence(parts: list[Action]) -> Action:
    runs = [p.run for p in parts]

    def run(state: State) -> None:
        for each in runs:
            each(state)

    return Action(run, sum(p.steps for p in parts))


def _one_by_one(slot: int, extent: int, body: Action) -> Callable[[State], None]:
    def run(state: State) -> None:
        for i in range(extent):
            state.values[slot] = i, state.frame
            body.run(state)

    return run


def _chunks(slot: int, loop: For, chunk: int, body: Action) -> Callable[[State], None]:
    """Iterations as rows of a new frame, `chunk` at a time."""

    def run(state: State) -> None:
        outer = state.frame
        for start in range(0, loop.extent, chunk):
            count = min(chunk, loop.extent - start)
            rows = np.repeat(np.arange(outer.size), count)
            state.frame = Frame(outer.size * count, outer, rows)
            i = np.tile(np.arange(start, start + count), outer.size)[:, None]
            state.values[slot] = i, state.frame
            body.run(state)
        state.frame = outer

    return run


def _in_rows(state: State, holds: np.ndarray | bool, action: Action) -> None:
    """Run an action in the rows in which a condition holds."""
    if not isinstance(holds, np.ndarray) or holds.size == 1:
        if bool(holds):
            action.run(state)
        return
    (rows,) = np.nonzero(holds[:, 0])
    if not len(rows):
        return
    outer = state.frame
    state.frame = Frame(len(rows), outer, rows)
    action.run(state)
    state.frame = outer

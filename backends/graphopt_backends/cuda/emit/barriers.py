"""Where the threads of a block wait for each other: before a thread loop that touches memory which
another thread may have touched since they last did, one of the two writing."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.kernel.gpu import Grid, thread_loops
from graphopt.kernel.ir import Block, Buffer, For, If, Load, LoopKind, Scope, Stmt, Store
from graphopt.kernel.visit import walk


def copies_to_shared(grid: Grid, read_only: frozenset[str]) -> frozenset[Store]:
    """Stores to shared memory of what was loaded, as it is, in thread loops that do not read it: by
    the barrier that stands before whoever does, the copy may still be on its way."""
    found: set[Store] = set()
    for loop in thread_loops(grid.loop):
        read = _touched(loop).read
        for s in walk(loop):
            if (
                isinstance(s, Store)
                and s.buffer.scope is Scope.SHARED
                and s.buffer not in read
                and isinstance(s.value, Load)
                and s.value.lanes > 1
                and s.value.buffer.name in read_only
                and s.value.buffer.dtype is s.buffer.dtype
            ):
                found.add(s)
    return frozenset(found)


@dataclass(frozen=True)
class _Touched:
    """Buffers that threads have read and written since the last barrier."""

    read: frozenset[Buffer] = frozenset()
    written: frozenset[Buffer] = frozenset()

    def __or__(self, other: _Touched) -> _Touched:
        return _Touched(self.read | other.read, self.written | other.written)

    def meets(self, next_: _Touched) -> bool:
        again = {b for b in self.written & next_.written if b.scope is Scope.SHARED}
        return bool(self.written & next_.read or self.read & next_.written or again)


def barriers(grid: Grid) -> frozenset[int]:
    """The ids of the thread loops before which a barrier stands."""
    search = _Search()
    search.after(grid.loop.body, _Touched())
    return frozenset(search.found)


class _Search:
    def __init__(self) -> None:
        self.found: set[int] = set()

    def after(self, s: Stmt, before: _Touched) -> _Touched:
        """What is touched since the last barrier once `s` has run."""
        match s:
            case Block():
                for c in s.body:
                    before = self.after(c, before)
                return before
            case For() if s.kind is LoopKind.THREAD:
                return self._thread(s, before)
            case For():
                return self._repeated(s, before)
            case If():
                then = self.after(s.then, before)
                return then | (before if s.otherwise is None else self.after(s.otherwise, before))
            case _:
                return before

    def _repeated(self, s: For, before: _Touched) -> _Touched:
        """The barriers of a loop are those that any iteration needs, begun after any other."""
        while True:
            trial = _Search()
            after = trial.after(s.body, before)
            if s.extent == 1 or before | after == before:
                self.found |= trial.found
                return after
            before = before | after

    def _thread(self, s: For, before: _Touched) -> _Touched:
        touched = _touched(s)
        if before.meets(touched):
            self.found.add(id(s))
        return touched if id(s) in self.found else before | touched


def _touched(s: Stmt) -> _Touched:
    """Memory that several threads may reach: registers and local arrays are their own."""
    reachable = (Scope.SHARED, Scope.PARAM, Scope.SCRATCH)
    read, written = set(), set()
    for part in walk(s):
        if isinstance(part, Load) and part.buffer.scope in reachable:
            read.add(part.buffer)
        if isinstance(part, Store) and part.buffer.scope in reachable:
            written.add(part.buffer)
            if part.reduce:
                read.add(part.buffer)
    return _Touched(frozenset(read), frozenset(written))

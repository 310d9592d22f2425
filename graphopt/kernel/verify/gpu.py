"""The form of GPU kernels: grids, thread loops, whose registers are read where."""

from __future__ import annotations

from graphopt.errors import IRError
from graphopt.kernel.gpu import (
    MOST_THREADS,
    WARP,
    Grid,
    grids,
    is_own,
    shuffle_width,
    thread_loops,
)
from graphopt.kernel.ir import (
    Alloc,
    Block,
    Buffer,
    Call,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    LoopKind,
    Scope,
    Stmt,
    Store,
)
from graphopt.kernel.verify.structure import shown
from graphopt.kernel.visit import children, walk

_IN_BLOCKS = (Scope.SHARED, Scope.REGISTER)
_OWN = (LoopKind.SERIAL, LoopKind.UNROLL, LoopKind.VECTOR, LoopKind.TENSOR)
_IN_THREADS = (Scope.STACK, Scope.REGISTER)


def check_gpu(kernel: Kernel) -> None:
    """Raises: IRError saying which statement no GPU could run, with a hint."""
    parts = kernel.body.body if isinstance(kernel.body, Block) else (kernel.body,)
    for s in parts:
        if isinstance(s, Alloc) and s.buffer.scope is Scope.SCRATCH:
            continue
        if not isinstance(s, For) or s.kind is not LoopKind.BLOCK:
            raise _wrong(kernel, s, "this is outside of a grid", "put it into a block loop")
    for grid in grids(kernel):
        _Form(kernel, grid).block(grid.loop.body)


def _wrong(kernel: Kernel, s: Stmt, what: str, hint: str) -> IRError:
    return IRError(f"{kernel.name}: {what}\nin: {shown(s, [])}", hint=hint)


class _Form:
    def __init__(self, kernel: Kernel, grid: Grid) -> None:
        self.kernel, self.grid = kernel, grid
        self.per_thread = frozenset(grid.per_thread)
        self.changed: set[Buffer] = set()
        if grid.threads > MOST_THREADS:
            raise _wrong(
                kernel, next(thread_loops(grid.loop)),
                f"a block has {grid.threads} threads", f"it can have {MOST_THREADS}",
            )  # fmt: skip
        for b in grid.per_thread:
            if not b.shape or b.shape[0] < grid.threads:
                raise _wrong(
                    kernel, Alloc(b), f"registers {b.name!r} are not for {grid.threads} threads",
                    "the first axis of registers outside of thread loops is the thread",
                )  # fmt: skip

    # What all threads do together ----------------------------------------------------------------

    def block(self, s: Stmt) -> None:
        match s:
            case Block():
                for c in s.body:
                    self.block(c)
            case For() if s.kind is LoopKind.THREAD:
                self.changed = {p.buffer for p in walk(s.body) if isinstance(p, Store)}
                self.thread(s.body, s, alone=True)
            case For() if s.kind in (LoopKind.SERIAL, LoopKind.UNROLL):
                self.block(s.body)
            case If():
                self.block(s.then)
                if s.otherwise is not None:
                    self.block(s.otherwise)
            case Let():
                return
            case Alloc() if s.buffer.scope in _IN_BLOCKS:
                return
            case Alloc():
                raise _wrong(self.kernel, s, f"a block declares {s.buffer.scope.value} memory",
                             "declare it in a thread loop")  # fmt: skip
            case _:
                raise _wrong(self.kernel, s, "no thread does this", "put it into a thread loop")

    # What each does by itself --------------------------------------------------------------------

    def thread(self, s: Stmt, loop: For, *, alone: bool) -> None:
        """`alone`: no condition or loop of its own stands between a thread and its neighbours."""
        match s:
            case Block():
                for c in s.body:
                    self.thread(c, loop, alone=alone)
            case For() if s.kind in _OWN:
                self.thread(s.body, loop, alone=alone)
            case For():
                raise _wrong(self.kernel, s, f"a {s.kind.value} loop is inside of a thread",
                             "threads have no threads of their own")  # fmt: skip
            case Alloc() if s.buffer.scope not in _IN_THREADS:
                raise _wrong(self.kernel, s, f"a thread declares {s.buffer.scope.value} memory",
                             "declare it in the block")  # fmt: skip
            case If():
                self._reads(s.condition, s, loop, alone)
                for branch in (s.then, s.otherwise):
                    if branch is not None:
                        self.thread(branch, loop, alone=False)
            case Store():
                if s.buffer in self.per_thread and not is_own(s.index[0], loop):
                    raise self._foreign(s, s.buffer)
                for e in (*s.index[s.buffer in self.per_thread :], s.value):
                    self._reads(e, s, loop, alone)
            case Let():
                self._reads(s.value, s, loop, alone)
            case _:
                return

    def _reads(self, e: Expr, s: Stmt, loop: For, alone: bool) -> None:
        """Registers of other threads are read in reductions over neighbours alone."""
        stack: list[Expr] = [e]
        seen: set[int] = set()
        while stack:
            at = stack.pop()
            if id(at) in seen:
                continue
            seen.add(id(at))
            if isinstance(at, Call) and shuffle_width(at, self.per_thread, loop):
                self._shuffle(s, at, loop, alone)
                continue
            if isinstance(at, Load) and at.buffer in self.per_thread:
                if not is_own(at.index[0], loop):
                    raise self._foreign(s, at.buffer)
                stack += at.index[1:]
                continue
            stack += [c for c in children(at) if isinstance(c, Expr)]

    def _shuffle(self, s: Stmt, e: Call, loop: For, alone: bool) -> None:
        (a,) = e.args
        if isinstance(a, Load) and a.buffer in self.changed:
            raise _wrong(
                self.kernel, s, f"{a.buffer.name!r} changes while neighbours read it",
                "write it in a thread loop of its own",
            )  # fmt: skip
        if not alone:
            raise _wrong(self.kernel, s, "neighbours are read under a condition",
                         "read them before it: all threads of a warp must")  # fmt: skip
        if loop.extent % WARP:
            raise _wrong(
                self.kernel, s, f"neighbours are read by {loop.extent} threads",
                f"whole warps must: a multiple of {WARP}",
            )  # fmt: skip

    def _foreign(self, s: Stmt, b: Buffer) -> IRError:
        return _wrong(
            self.kernel, s, f"{b.name!r} of another thread is touched",
            "its first index is the thread, or ramp(t // w * w, 1, w) in a reduction",
        )  # fmt: skip

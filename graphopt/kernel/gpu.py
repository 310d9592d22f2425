"""What a GPU kernel is made of: grids of blocks, whose threads run loop by loop.

A kernel is a sequence of grids, each a BLOCK loop at top level; what one leaves to the next lies in
scratch that is allocated before them. A block is a sequence of THREAD
loops, which serial loops and conditions may repeat and choose: all threads have finished one before
any begins the next. Registers declared outside of thread loops are each thread's own: their first
index is the thread. A reduction over a run of them is one over neighbouring threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.kernel.affine import linear
from graphopt.kernel.ir import (
    Alloc,
    Binary,
    Block,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Load,
    LoopKind,
    Ramp,
    Scope,
    Stmt,
    Var,
)
from graphopt.kernel.visit import walk

WARP = 32
MOST_THREADS = 1024


@dataclass(frozen=True)
class Grid:
    """One launch: `loop` over its blocks, `threads` of which each has."""

    loop: For
    threads: int

    @property
    def shared(self) -> tuple[Buffer, ...]:
        return tuple(b for b in self._allocated() if b.scope is Scope.SHARED)

    @property
    def per_thread(self) -> tuple[Buffer, ...]:
        """Registers that live from one thread loop to the next."""
        inside = {
            s.buffer for loop in thread_loops(self.loop) for s in walk(loop) if isinstance(s, Alloc)
        }
        return tuple(b for b in self._allocated() if b.scope is Scope.REGISTER and b not in inside)

    def _allocated(self) -> Iterator[Buffer]:
        yield from dict.fromkeys(s.buffer for s in walk(self.loop) if isinstance(s, Alloc))


def is_gpu(kernel: Kernel) -> bool:
    """Whether a kernel has a loop over blocks or threads."""
    gpu = (LoopKind.BLOCK, LoopKind.THREAD)
    return any(isinstance(s, For) and s.kind in gpu for s in walk(kernel.body))


def grids(kernel: Kernel) -> tuple[Grid, ...]:
    """A verified kernel's launches in order."""
    parts = kernel.body.body if isinstance(kernel.body, Block) else (kernel.body,)
    return tuple(
        Grid(s, max((t.extent for t in thread_loops(s)), default=1))
        for s in parts
        if isinstance(s, For)
    )


def between_grids(kernel: Kernel) -> tuple[Buffer, ...]:
    """The scratch in which a verified kernel's grids leave results to later ones."""
    parts = kernel.body.body if isinstance(kernel.body, Block) else (kernel.body,)
    return tuple(s.buffer for s in parts if isinstance(s, Alloc))


def thread_loops(s: Stmt) -> Iterator[For]:
    """Loops over threads, in the order of the text."""
    match s:
        case For() if s.kind is LoopKind.THREAD:
            yield s
        case For():
            yield from thread_loops(s.body)
        case Block():
            for c in s.body:
                yield from thread_loops(c)
        case If():
            yield from thread_loops(s.then)
            if s.otherwise is not None:
                yield from thread_loops(s.otherwise)
        case _:
            return


def is_own(e: Expr, thread: For) -> bool:
    """Whether an index is the thread itself."""
    return isinstance(e, Var) and e.name == thread.var


def neighbours(e: Expr, thread: For) -> int:
    """How many threads, the thread among them, `ramp(t // w * w, 1, w)` names; 0 for any other
    index."""
    if not isinstance(e, Ramp) or e.stride != 1 or e.lanes > WARP or thread.extent % e.lanes:
        return 0
    form = linear(e.base, {thread.var: thread.extent})
    if form.is_constant:
        return e.lanes if form.constant == 0 and thread.extent == e.lanes else 0
    (atom, c), *more = form.terms
    group = (
        isinstance(atom, Binary)
        and atom.op == "//"
        and is_own(atom.a, thread)
        and isinstance(atom.b, Const)
        and atom.b.value == c == e.lanes
    )
    return e.lanes if group and not more and not form.constant else 0


def shuffle_width(e: Expr, per_thread: frozenset[Buffer], thread: For) -> int:
    """The threads over which a call reduces their registers; 0 when it is another expression."""
    if not isinstance(e, Call) or not e.name.startswith("reduce_"):
        return 0
    (a,) = e.args
    if not isinstance(a, Load) or a.buffer not in per_thread:
        return 0
    return neighbours(a.index[0], thread)

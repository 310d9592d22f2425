"""What a GPU asks of a grid that a CPU, playing one, may not notice: how large a launch may be, and
that all threads of a warp take part in a shuffle, all of a block in a barrier."""

from __future__ import annotations

from graphopt.errors import IRError
from graphopt.kernel.gpu import Grid, shuffle_width, thread_loops
from graphopt.kernel.ir import Block, Expr, For, If, Let, Load, LoopKind, Stmt, Store
from graphopt.kernel.visit import walk
from graphopt.target import Target
from graphopt_backends.cuda.emit.launch import shared_bytes
from graphopt_backends.cuda.targets import MOST_THREADS, WARP, GpuTarget

_MOST_BLOCKS = 2**31 - 1
"""Along x, the one axis that kernels use."""


def shared_limit(target: Target) -> int:
    """Bytes of shared memory that a block can have."""
    return target.shared_bytes if isinstance(target, GpuTarget) else 0


def check_launchable(grid: Grid, name: str, target: Target) -> None:
    """Raises: IRError for a grid of kernel `name` that the target cannot run."""
    _check_size(grid, name, target)
    _Threads(grid, name).check(grid.loop.body)


def _check_size(grid: Grid, name: str, target: Target) -> None:
    need, limit = shared_bytes(grid), shared_limit(target)
    if need > limit:
        raise IRError(
            f"kernel {name!r} wants {need} bytes of shared memory for a block; "
            f"{target.name} has {limit}",
            hint="choose a smaller tile",
        )
    if grid.threads > MOST_THREADS:
        raise IRError(
            f"kernel {name!r} has blocks of {grid.threads} threads; a GPU's have {MOST_THREADS}",
            hint="choose a smaller tile",
        )
    if grid.loop.extent > _MOST_BLOCKS:
        raise IRError(
            f"kernel {name!r} has {grid.loop.extent} blocks; a GPU starts {_MOST_BLOCKS} at most",
            hint="give each block more to do",
        )


class _Threads:
    """Walks a grid outside of thread loops, where all threads of a block must decide alike, then
    each thread loop."""

    def __init__(self, grid: Grid, name: str) -> None:
        self.grid, self.name = grid, name
        self.own = frozenset(grid.per_thread)
        self.written = {
            s.buffer for loop in thread_loops(grid.loop) for s in walk(loop) if isinstance(s, Store)
        }

    def check(self, s: Stmt) -> None:
        match s:
            case Block():
                for c in s.body:
                    self.check(c)
            case For() if s.kind is LoopKind.THREAD:
                self._shuffles(s.body, s, alone=False)
            case For():
                self.check(s.body)
            case If():
                self._alike(s.condition)
                self.check(s.then)
                if s.otherwise is not None:
                    self.check(s.otherwise)
            case Let():
                self._alike(s.value)
            case _:
                return

    def _alike(self, e: Expr) -> None:
        found = [x for x in walk(e) if isinstance(x, Load) and x.buffer in self.written]
        if found:
            raise IRError(
                f"kernel {self.name!r} decides for a block by {found[0].buffer.name!r}, which its "
                "threads write meanwhile",
                hint="decide by what the grid does not write",
            )

    def _shuffles(self, s: Stmt, thread: For, *, alone: bool) -> None:
        """`alone`: under a condition that some threads of a warp may not meet."""
        match s:
            case Block():
                for c in s.body:
                    self._shuffles(c, thread, alone=alone)
            case For():
                self._shuffles(s.body, thread, alone=alone)
            case If():
                self._check_shuffle(s.condition, thread, alone)
                for branch in (s.then, s.otherwise):
                    if branch is not None:
                        self._shuffles(branch, thread, alone=True)
            case _:
                self._check_shuffle(s, thread, alone)

    def _check_shuffle(self, part: Stmt | Expr, thread: For, alone: bool) -> None:
        if not any(isinstance(e, Expr) and self._is_shuffle(e, thread) for e in walk(part)):
            return
        if alone or thread.extent % WARP:
            why = "in a branch" if alone else f"in a loop over {thread.extent} of them"
            raise IRError(
                f"kernel {self.name!r} reduces over neighbouring threads {why}, to which a warp "
                "does not come whole",
                hint=f"let all of {WARP} threads reduce, and choose what is kept afterwards",
            )

    def _is_shuffle(self, e: Expr, thread: For) -> bool:
        return shuffle_width(e, self.own, thread) > 1

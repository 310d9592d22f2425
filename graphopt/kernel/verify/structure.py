"""What needs no arithmetic to check: names, types, scopes and the forms of statements."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.grammar import ASSIGN, ASSIGN_WORDS
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Block,
    Buffer,
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
    Var,
    block,
    shared_within,
)
from graphopt.kernel.text import print_stmt
from graphopt.kernel.verify.types import ExprChecker
from graphopt.kernel.visit import walk

_REDUCTIONS = frozenset({*ASSIGN.values(), *ASSIGN_WORDS})
_SHOWN = 160  # characters of a statement in a message


def check_interface(k: Kernel) -> None:
    names = [p.name for p in k.params]
    for p in k.params:
        if names.count(p.name) > 1:
            raise IRError(f"{k.name}: two parameters are called {p.name!r}", hint="rename one")
        if p.scope is not Scope.PARAM:
            raise IRError(
                f"{k.name}: parameter {p.name!r} has scope {p.scope.value}",
                hint="local buffers are declared by alloc",
            )
    if [n for n in names if n in k.outputs] != list(k.outputs):
        raise IRError(
            f"{k.name}: outputs {list(k.outputs)} are not among its parameters {names}, in order",
            hint="name every output once, in the order of the parameters",
        )


class Structure:
    """Names, types, scopes and the forms of statements."""

    def __init__(self, kernel: Kernel, complete: bool) -> None:
        self.kernel, self.complete = kernel, complete
        self.check = ExprChecker()
        self.loops: list[For] = []
        self.unrolled: set[str] = set()
        self.per_thread: set[str] = set()

    def run(self) -> None:
        for p in self.kernel.params:
            _check_buffer(self.kernel.name, p)
            self.check.buffers[p.name] = p
        with self._inner():
            self._stmt(self.kernel.body)

    @contextmanager
    def _inner(self) -> Iterator[None]:
        saved = (
            dict(self.check.names), dict(self.check.buffers), set(self.unrolled),
            set(self.per_thread),
        )  # fmt: skip
        yield
        self.check.names, self.check.buffers, self.unrolled, self.per_thread = saved
        self.check.forget()

    def _fail(self, s: Stmt, what: str, hint: str) -> IRError:
        return IRError(f"{self.kernel.name}: {what}\nin: {shown(s, self.loops)}", hint=hint)

    def _stmt(self, s: Stmt) -> None:
        match s:
            case Block():
                for c in s.body:
                    self._stmt(c)
            case For():
                self._for(s)
            case Alloc():
                self._alloc(s)
            case _:
                self._simple(s)

    def _simple(self, s: Stmt) -> None:
        try:
            match s:
                case Store():
                    self._store(s)
                case Let():
                    self.check.expr(s.value)
                    self.check.bind(s.var, s.value.dtype, s.value.lanes)
                case If():
                    self.check.expr(s.condition)
                    self.check.expect(s.condition, DType.BOOL, 1, "the condition of an if")
                case Prefetch():
                    self.check.access(s.buffer, s.index)
                case _:
                    raise IRError(f"{type(s).__name__} is no statement")
            self._registers(s)
        except IRError as error:
            where = dataclasses.replace(s, then=block(), otherwise=None) if isinstance(s, If) else s
            hint = error.hint or "see graphopt/kernel/README.md"
            raise self._fail(where, error.message, hint) from error
        if isinstance(s, If):
            for branch in (s.then, s.otherwise):
                if branch is not None:
                    with self._inner():
                        self._stmt(branch)

    # Loops -------------------------------------------------------------------------------------

    def _for(self, s: For) -> None:
        head = dataclasses.replace(s, body=block())
        if s.extent < 0:
            raise self._fail(head, f"loop {s.var!r} runs {s.extent} times", "extents are positive")
        if s.kind is LoopKind.PARALLEL and self.loops:
            self._shared_within(self.loops[-1], s, head)
        if s.kind is LoopKind.VECTOR:
            self._vector_body(s, head)
        with self._inner():
            self.check.bind(s.var, INDEX, 1)
            if s.kind is LoopKind.UNROLL:
                self.unrolled.add(s.var)
            else:
                self.unrolled.discard(s.var)
            self.loops.append(s)
            self._stmt(s.body)
            self.loops.pop()

    def _shared_within(self, outer: For, s: For, head: Stmt) -> None:
        if len(self.loops) > 1 or shared_within(outer) is not s:
            raise self._fail(
                head, f"parallel loop {s.var!r} is inside loop {outer.var!r}",
                "threads share outermost loops, and one that such a loop ends in: fuse the two",
            )  # fmt: skip
        before = block(*outer.body.body[:-1]) if isinstance(outer.body, Block) else block()
        own = {a.buffer for a in walk(before) if isinstance(a, Alloc)}
        for store in (p for p in walk(before) if isinstance(p, Store) and p.buffer not in own):
            raise self._fail(
                store, f"what stands before parallel loop {s.var!r} writes {store.buffer.name!r}",
                "every thread that shares the loop does it: write to a buffer allocated there",
            )  # fmt: skip

    def _vector_body(self, s: For, head: Stmt) -> None:
        inner = next((c for c in walk(s.body) if isinstance(c, (For, Alloc))), None)
        if inner is not None:
            noun = f"loop {inner.var!r}" if isinstance(inner, For) else "an alloc"
            raise self._fail(
                head, f"vector loop {s.var!r} holds {noun}",
                "its iterations run at once: move what repeats out of it",
            )  # fmt: skip

    # Buffers -----------------------------------------------------------------------------------

    def _alloc(self, s: Alloc) -> None:
        if s.buffer.scope is Scope.PARAM:
            raise self._fail(s, f"{s.buffer.name!r} is allocated as a parameter",
                             "give it the scope scratch, stack or register")  # fmt: skip
        _check_buffer(self.kernel.name, s.buffer)
        self.check.declare(s.buffer)
        kinds = {loop.kind for loop in self.loops}
        if LoopKind.BLOCK in kinds and LoopKind.THREAD not in kinds:
            self.per_thread.add(s.buffer.name)
        else:
            self.per_thread.discard(s.buffer.name)

    def _store(self, s: Store) -> None:
        if s.reduce not in _REDUCTIONS:
            raise IRError(f"{s.reduce!r} is no reduction", hint=f"one of {sorted(_REDUCTIONS)}")
        if s.buffer.scope is Scope.PARAM and s.buffer.name not in self.kernel.outputs:
            raise IRError(f"{s.buffer.name!r} is an input", hint="declare it as an output")
        for e in (*s.index, s.value):
            self.check.expr(e)
        lanes = self.check.access(s.buffer, s.index)
        self.check.expect(s.value, s.buffer.dtype, lanes, f"what is stored in {s.buffer.name!r}")
        if s.reduce in ("and", "or") and s.buffer.dtype.is_float:
            raise IRError(f"{s.reduce} of {s.buffer.dtype}", hint="it is for integers and bool")

    def _registers(self, s: Stmt) -> None:
        """Register buffers become variables: no loop may index them once unrolling is done. The
        first index of a GPU thread's own is the thread, which `check_gpu` looks at."""
        if not self.complete:
            return
        for part in _parts(s):
            if part.buffer.scope is not Scope.REGISTER:
                continue
            for i in part.index[part.buffer.name in self.per_thread :]:
                base = i.base if isinstance(i, Ramp) and i.stride == 1 else i
                names = {e.name for e in walk(base) if isinstance(e, Var)} - self.unrolled
                if base.lanes > 1 or names or any(isinstance(e, Load) for e in walk(base)):
                    raise IRError(
                        f"register buffer {part.buffer.name!r} is indexed by "
                        + (", ".join(sorted(names)) or "a vector"),
                        hint="unroll the loops around it, or allocate it on the stack",
                    )


def _parts(s: Stmt) -> Iterator[Load | Store]:
    """The accesses of a statement without its nested statements."""
    roots = (s.condition,) if isinstance(s, If) else (s,)
    seen: set[int] = set()
    for root in roots:
        for part in walk(root):
            if isinstance(part, (Load, Store)) and id(part) not in seen:
                seen.add(id(part))
                yield part


def _check_buffer(kernel: str, b: Buffer) -> None:
    if any(extent < 0 for extent in b.shape):
        raise IRError(f"{kernel}: buffer {b.name!r} has a negative extent: {list(b.shape)}")
    if len(b.strides) != len(b.shape) or (b.halo and len(b.halo) != len(b.shape)):
        raise IRError(f"{kernel}: strides or halo of {b.name!r} do not have {len(b.shape)} axes")
    lowest = b.offset + sum(min(0, (e - 1) * s) - h[0] * abs(s) for e, s, h in _axes(b))
    if lowest < 0:
        raise IRError(
            f"{kernel}: buffer {b.name!r} starts {-lowest} elements before its pointer",
            hint="its offset must leave room for the halo",
        )


def _axes(b: Buffer) -> Iterator[tuple[int, int, tuple[int, int]]]:
    return zip(b.shape, b.strides, b.halo or ((0, 0),) * len(b.shape), strict=True)


def shown(s: Stmt, loops: list[For]) -> str:
    """A statement with the loops around it, on one line."""
    heads = "".join(f"{x.kind.value} {x.var} in 0..{x.extent} > " for x in loops)
    text = " ".join(print_stmt(s).split())
    return heads + (text if len(text) <= _SHOWN else text[:_SHOWN] + "..")

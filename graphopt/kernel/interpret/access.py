"""Loads and stores: an element, neighbouring elements, or lanes anywhere, each in every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.errors import IRError
from graphopt.kernel.interpret.state import Memory, State, Types, Value
from graphopt.kernel.ir import Buffer, Expr, Ramp

Run = Callable[[State], Value]
_REDUCE: dict[str, np.ufunc] = {
    "+": np.add, "*": np.multiply, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
    "or": np.bitwise_or,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a statement reads or writes. `apart`: lanes never meet in one element. `run` of 1 or
    more: that many neighbours from one position; 0: positions are given lane by lane."""

    buffer: Buffer
    slot: int
    axes: tuple[Run, ...]
    reach: tuple[int, ...]
    run: int
    lanes: int
    apart: bool
    types: Types

    def position(self, state: State) -> Value:
        """Elements from the buffer's pointer. Raises: IRError outside its bounds."""
        at: Value = self.buffer.offset
        for axis, index in enumerate(self.axes):
            i = index(state)
            self._check(axis, i)
            at = at + i * self.buffer.strides[axis]
        return at

    def _check(self, axis: int, i: Value) -> None:
        low, high = self.buffer.bounds(axis)
        reach = self.reach[axis]
        first, last = (i.min(), i.max()) if isinstance(i, np.ndarray) else (i, i)
        if first + min(reach, 0) < low or last + max(reach, 0) >= high:
            bad = first if first < low else last + max(reach, 0)
            raise IRError(
                f"index {axis} of {self.buffer.name!r} is {bad}, outside {low}..{high}",
                hint="verify the kernel: an index must stay inside its buffer",
            )

    def load(self, state: State) -> Value:
        """[rows or 1, lanes or 1]; may be a view."""
        memory, at = state.memory[self.slot], self.position(state)
        if self.run and not isinstance(at, np.ndarray):
            out = memory.array[:, at : at + self.run]
            if memory.frame is not state.frame and out.shape[0] > 1:
                out = out[state.frame.rows_in(memory.frame)]
        else:
            out = self._picked(memory, at, state)
        return out.astype(np.float32) if self.types.rounds(self.buffer.dtype) else out

    def _picked(self, memory: Memory, at: Value, state: State) -> np.ndarray:
        if self.run:
            at = at + np.arange(self.run)
        elif not isinstance(at, np.ndarray):
            at = np.array([[at]])
        alone = memory.array.shape[0] == 1
        rows = 0 if alone else state.frame.rows_in(memory.frame)[:, None]
        return np.asarray(memory.array[rows, at])

    def store(self, state: State, value: Value, reduce: str) -> None:
        """In every row; where rows or lanes meet in one element, in order."""
        memory, at = state.memory[self.slot], self.position(state)
        plain = self.run > 0 and not isinstance(at, np.ndarray)
        if plain and memory.frame is state.frame:
            view = memory.array[:, at : at + self.run]
            view[...] = self._combined(view, value, reduce)
            return
        at = np.atleast_2d(at)
        at = at + np.arange(self.run) if self.run else np.broadcast_to(at, (len(at), self.lanes))
        where = state.frame.rows_in(memory.frame)[:, None], at
        if reduce and not self.apart:
            value = np.broadcast_to(value, np.broadcast_shapes(where[0].shape, at.shape))
            _REDUCE[reduce].at(memory.array, where, value)
        else:
            memory.array[where] = self._combined(memory.array[where], value, reduce)

    def _combined(self, old: np.ndarray, value: Value, reduce: str) -> Value:
        if not reduce:
            return value
        if self.types.rounds(self.buffer.dtype):
            return _REDUCE[reduce](old.astype(np.float32), value)
        return _REDUCE[reduce](old, value)


def place(
    buffer: Buffer,
    slot: int,
    index: Sequence[Expr],
    lanes: int,
    compile: Callable[[Expr], Run],
    types: Types,
) -> Place:
    """The place of an access; one ramp of unit step in memory makes neighbours of its lanes."""
    vectors = [n for n, i in enumerate(index) if i.lanes > 1]
    ramp = index[vectors[0]] if len(vectors) == 1 else None
    steps = ramp.stride * buffer.strides[vectors[0]] if isinstance(ramp, Ramp) else 0
    if isinstance(ramp, Ramp) and steps == 1:
        bases = [ramp.base if n == vectors[0] else i for n, i in enumerate(index)]
        reach = tuple(
            ramp.stride * (lanes - 1) if n == vectors[0] else 0 for n in range(len(index))
        )
        return Place(buffer, slot, tuple(map(compile, bases)), reach, lanes, lanes, True, types)
    axes, none, run = tuple(map(compile, index)), (0,) * len(index), int(lanes == 1)
    return Place(buffer, slot, axes, none, run, lanes, lanes == 1 or steps != 0, types)

"""The kernel interpreter: what a kernel means, in numpy.

Loops whose iterations are proved independent run at once, as rows of arrays; all others run one
after the other. Every element of an iteration is computed in the order the kernel states, so both
ways give the same bits. Buffers that the kernel has not written hold NaN (integers: 0xa5a5..), so
that whoever reads them shows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from graphopt.errors import InputError, IRError
from graphopt.kernel.interpret.state import Memory, State, Types, size_of
from graphopt.kernel.interpret.statements import Compiler
from graphopt.kernel.ir import Buffer, Kernel

__all__ = ["TooLongError", "interpret", "serial_steps"]


class TooLongError(IRError):
    """A kernel needs more steps than allowed."""


def interpret(
    kernel: Kernel,
    arrays: Mapping[str, np.ndarray],
    *,
    precision: DTypeLike | None = None,
    in_order: bool = False,
    max_steps: int | None = None,
) -> dict[str, np.ndarray]:
    """The kernel's outputs by name.

    arrays: one per input parameter, by name, in the buffer's shape or as its flat memory from the
        pointer on (halo included). An output may be given, too: then that is what it holds at
        first. They stay as they are.
    precision: None computes in the kernel's own types; a float dtype replaces every float type.
    in_order: run all iterations one after the other, for tests of the interpreter itself.
    max_steps: see `serial_steps`.

    Raises: InputError for arrays that do not fit; TooLongError; IRError for an access outside its
    buffer, or a kernel that is broken.
    """
    types = Types(None if precision is None else np.dtype(precision))
    compiler = Compiler(kernel, types, in_order=in_order)
    program = compiler.program()
    if max_steps is not None and program.steps > max_steps:
        raise TooLongError(f"{kernel.name} takes {program.steps} steps, allowed are {max_steps}")
    state = State(compiler.slots)
    memories = [_parameter(kernel, p, arrays.get(p.name), types) for p in kernel.params]
    for slot, memory in enumerate(memories):
        state.memory[slot] = Memory(memory, state.frame)
    with np.errstate(all="ignore"):
        program.run(state)
    outputs = {}
    for p, memory in zip(kernel.params, memories, strict=True):
        if p.name in kernel.outputs:
            outputs[p.name] = _shaped(p, memory[0], arrays.get(p.name))
    return outputs


def serial_steps(kernel: Kernel) -> int:
    """How many statements the interpreter runs one after the other: about 10 us each."""
    return Compiler(kernel, Types(None)).program().steps


def _parameter(k: Kernel, b: Buffer, array: np.ndarray | None, types: Types) -> np.ndarray:
    """A parameter's memory: [1, size]."""
    size = size_of(b)
    if array is None:
        if b.name not in k.outputs:
            names = ", ".join(p.name for p in k.params if p.name not in k.outputs)
            raise InputError(f"no array for {b.name!r}", hint=f"{k.name} takes {names}")
        return types.poisoned(b.dtype, 1, size)
    flat = np.asarray(array).reshape(1, -1)
    if flat.shape[1] != size:
        raise InputError(
            f"{b.name!r} of {k.name} got {flat.shape[1]} elements, not {size}",
            hint=f"pass an array of {list(b.shape)} elements, or its memory",
        )
    if flat.dtype != b.dtype.numpy and flat.dtype != types.memory(b.dtype):
        raise InputError(f"{b.name!r} of {k.name} got {flat.dtype}, not {b.dtype}")
    return flat.astype(types.memory(b.dtype))


def _shaped(b: Buffer, flat: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    if given is not None:
        return flat.reshape(np.asarray(given).shape)
    return flat.reshape(b.shape) if flat.size == b.numel and not b.halo else flat

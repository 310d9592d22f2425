"""The gate of kernel passes: both kernels run in the interpreter, in float64, on seeded arrays.

What is allowed follows from what the pass declares:

- `exact`: nothing. Loops, vectors and copies compute every element as before, bit for bit.
- `reassociates`: NOISE_REASSOCIATED, as for graphs.
- `approximates(bound)`: `bound` times the output's largest magnitude, and the above.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.check.gate import NOISE_REASSOCIATED, Allowance
from graphopt.errors import GateError, IRError
from graphopt.kernel.interpret import interpret, serial_steps
from graphopt.kernel.ir import Kernel
from graphopt.kernel.passbase import KernelPass, Numerics

MAX_STEPS = 200_000
"""Statements that the interpreter may run one after the other: 2 s or so for each kernel."""

_COUNTED = 2  # integers are 0 and 1: whatever they index has that many elements
Outputs = dict[str, np.ndarray]


class KernelNumericsGate:
    """`gate(pass, before, after)`, for `KernelPipeline.run`. `notes` say what it left unchecked."""

    def __init__(self, seeds: Sequence[int] = (0, 1), max_steps: int = MAX_STEPS) -> None:
        self.seeds, self.max_steps = tuple(seeds), max_steps
        self.notes: list[str] = []

    def __call__(self, pass_: KernelPass, before: Kernel, after: Kernel) -> None:
        """Raises: GateError naming the pass, the kernel and the element that is off."""
        steps = max(serial_steps(before), serial_steps(after))
        if steps > self.max_steps:
            self._note(before, f"it takes {steps} steps, allowed are {self.max_steps}")
            return
        for seed in self.seeds:
            arrays = seeded_arrays(before, seed)
            try:
                wanted = interpret(before, arrays, precision=np.float64)
            except IRError as error:
                self._note(before, f"it does not run on seeded arrays: {error.message}")
                return
            _compare(pass_, before, wanted, _run_after(pass_, after, arrays))

    def _note(self, kernel: Kernel, why: str) -> None:
        text = f"{kernel.name} was not compared: {why}"
        if text not in self.notes:
            self.notes.append(text)


def seeded_arrays(kernel: Kernel, seed: int = 0) -> dict[str, np.ndarray]:
    """An array for every input of a kernel: floats around 0 for even seeds and in [0.1, 1.1) for
    odd ones, integers 0 or 1, so that they may index anything."""
    numbers = np.random.default_rng(seed)
    out = {}
    for p in kernel.params:
        if p.name in kernel.outputs:
            continue
        shape = _memory_size(kernel, p.name)
        if p.dtype.is_float:
            array = numbers.random(shape) + 0.1 if seed % 2 else numbers.standard_normal(shape)
            out[p.name] = array.astype(p.dtype.numpy)
        else:
            out[p.name] = numbers.integers(0, _COUNTED, shape).astype(p.dtype.numpy)
    return out


def _memory_size(kernel: Kernel, name: str) -> int:
    from graphopt.kernel.interpret.state import size_of

    return size_of(next(p for p in kernel.params if p.name == name))


def allowance_of(numerics: Numerics) -> Allowance:
    """What the declared numerics allow; see the module's text."""
    return Allowance(0.0 if numerics.kind == "exact" else NOISE_REASSOCIATED, numerics.bound)


def _run_after(pass_: KernelPass, after: Kernel, arrays: dict[str, np.ndarray]) -> Outputs:
    try:
        return interpret(after, arrays, precision=np.float64)
    except IRError as error:
        raise GateError(
            f"after kernel pass {pass_.name}, {after.name} no longer runs: {error.message}",
            hint=error.hint,
        ) from error


def _compare(pass_: KernelPass, kernel: Kernel, wanted: Outputs, got: Outputs) -> None:
    allowance = allowance_of(pass_.numerics)
    for name, x in wanted.items():
        y = got[name]
        if not allowance.excess(x, y):
            continue
        at = _first_difference(x.ravel(), y.ravel())
        raise GateError(
            f"kernel pass {pass_.name} declares {pass_.numerics}, but element {at} of {name!r} of "
            f"{kernel.name} became {y.ravel()[at]!s}; it was {x.ravel()[at]!s}",
            hint="compare the kernels before and after: --print-after-all",
        )


def _first_difference(x: np.ndarray, y: np.ndarray) -> int:
    """The element that is furthest off; one that is NaN on one side comes first."""
    nan = np.isnan(x) != np.isnan(y) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
    if nan.any():
        return int(np.argmax(nan))
    with np.errstate(invalid="ignore"):
        distance = np.where(x == y, 0, np.abs(x.astype(np.float64) - y.astype(np.float64)))
    return int(np.argmax(np.nan_to_num(distance)))

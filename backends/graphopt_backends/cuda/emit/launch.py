"""How a kernel's grids are launched, and with what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from graphopt.kernel.footprint import aligned, span_bytes, workspace
from graphopt.kernel.gpu import Grid, between_grids
from graphopt.kernel.ir import Buffer, Kernel, Load, Scope, Store
from graphopt.kernel.visit import walk
from graphopt_backends.cuda.emit.ctypes import MEMORY
from graphopt_backends.cuda.targets import ALIGNMENT

_SHARED_ALIGN = 16


def shared_bytes(grid: Grid) -> int:
    """Bytes of shared memory that a block needs."""
    return sum(shared_size(b) for b in grid.shared)


def shared_size(b: Buffer) -> int:
    """Bytes of one buffer, the next one aligned."""
    size = math.prod(b.shape) * b.dtype.size_bytes
    return -(-size // _SHARED_ALIGN) * _SHARED_ALIGN


def parameter(buffer: Buffer, kernel: Kernel, aliased: frozenset[str]) -> str:
    """A parameter of a `__global__` function; `aliased` ones may overlap others."""
    const = "" if _is_written(buffer, kernel) else "const "
    restrict = "" if buffer.name in aliased else "__restrict__ "
    return f"{const}{MEMORY[buffer.dtype]} *{restrict}{buffer.name}"


def _is_written(buffer: Buffer, kernel: Kernel) -> bool:
    return buffer.scope is Scope.SCRATCH or buffer.name in kernel.outputs


def used_parameters(kernel: Kernel, grid: Grid) -> list[Buffer]:
    """The parameters that a grid reads or writes, and the scratch."""
    touched = {e.buffer for e in walk(grid.loop) if isinstance(e, (Load, Store))}
    return [b for b in (*kernel.params, *between_grids(kernel)) if b in touched]


def workspace_bytes(kernel: Kernel) -> int:
    """Bytes that the pointer after a kernel's parameters points to; 0 where it has none."""
    return workspace(kernel.body, ALIGNMENT)


def launch(kernel: Kernel, launches: tuple[Grid, ...]) -> str:
    """The function that launches all grids of a kernel in order."""
    lines = [f'extern "C" int {kernel.name}_launch(go_stream stream, void *const *p)', "{"]
    used = {b for grid in launches for b in used_parameters(kernel, grid)}
    for i, b in enumerate(kernel.params):
        if b not in used:
            continue
        const = "" if b.name in kernel.outputs else "const "
        lines.append(f"    auto *const {b.name} = static_cast<{const}{MEMORY[b.dtype]} *>(p[{i}]);")
    lines += _scratch(kernel)
    calls = []
    for grid, name in zip(launches, grid_names(kernel, launches), strict=True):
        names = ", ".join(b.name for b in used_parameters(kernel, grid))
        sizes = f"{grid.loop.extent}, {grid.threads}, {shared_bytes(grid)}"
        calls.append(f"go::launch({name}, {sizes}, stream, {names})")
    for c, grid in zip(calls[:-1], launches, strict=False):
        copied = _copied(kernel, grid)
        needed = f"{copied[0].name} == {copied[1].name} ? 0 : " if copied else ""
        lines.append(f"    if (const int error = {needed}{c}) return error;")
    return "\n".join([*lines, f"    return {calls[-1]};", "}"])


def _scratch(kernel: Kernel) -> Iterator[str]:
    """Where scratch lies in the workspace, whose pointer comes after those of the parameters."""
    start, place = 0, f"static_cast<char *>(p[{len(kernel.params)}])"
    for b in between_grids(kernel):
        plus = f" + {start}" if start else ""
        yield f"    auto *const {b.name} = ({MEMORY[b.dtype]} *)({place}{plus});"
        start = aligned(start + span_bytes(b), ALIGNMENT)


def grid_names(kernel: Kernel, launches: Sequence[Grid]) -> list[str]:
    """The names of a kernel's `__global__` functions."""
    if len(launches) == 1:
        return [kernel.name]
    return [f"{kernel.name}_{n}" for n in range(len(launches))]


def _copied(kernel: Kernel, grid: Grid) -> tuple[Buffer, Buffer] | None:
    """(from, to) where all that a grid does is to copy one parameter to another: it is left out
    where they are the same memory, as the input and output of a state are."""
    stores = [s for s in walk(grid.loop) if isinstance(s, Store)]
    used = used_parameters(kernel, grid)
    copies = all(
        isinstance(s.value, Load) and s.value.index == s.index and not s.reduce for s in stores
    )
    if not copies or len(used) != 2 or used[0].dtype is not used[1].dtype:
        return None
    return used[0], used[1]

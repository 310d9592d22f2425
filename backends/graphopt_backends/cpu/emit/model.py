"""model.c and model.h: the calls of a program in order, behind a C interface."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from graphopt.artifact.layout import HEADER_BYTES, WeightLayout
from graphopt.kernel.ir import Buffer, Kernel
from graphopt.lower.aliasing import aliased_parameters
from graphopt.lower.interface import (
    PREFIX,
    c_string,
    fill,
    header,
    renamed,
    tensor_tables,
    wrapped,
)
from graphopt.program import Arg, KernelCall, Program, Space
from graphopt.target import Target
from graphopt_backends.cpu.emit import templates
from graphopt_backends.cpu.emit.cpu_check import cpu_check
from graphopt_backends.cpu.emit.ctypes import C_TYPE
from graphopt_backends.cpu.emit.kernel import (
    emit_kernel,
    parallel_extent,
    parallel_run,
    prototype,
    scratch_bytes,
)

_FLOPS_PER_NS_AND_LANE = 4.0
_BYTES_PER_NS = 10.0


def emit(program: Program, target: Target, prefix: str = PREFIX) -> Mapping[str, str]:
    """Every source file of a model by name: model.h, model.c, the runtime, one file per kernel.

    `prefix` begins every exported name, so that several models link into one program.
    Raises: IRError when a kernel cannot be C.
    """
    aliased = {k.name: aliased_parameters(k, program) for k in program.kernels}
    files = {
        "model.h": renamed(header(templates.HEADER, program, target), prefix),
        "model.c": _source(program, target, prefix, aliased),
        **runtime_sources(),
    }
    for kernel in program.kernels:
        locs = [loc for c in program.calls if c.kernel == kernel.name for loc in c.locs]
        text = emit_kernel(kernel, target, locs=locs, aliased=aliased[kernel.name])
        files[f"{kernel.name}.c"] = text
    return files


def runtime_sources() -> dict[str, str]:
    """The fixed files that every model is linked with."""
    folder = resources.files("graphopt_backends.cpu") / "runtime"
    return {n: (folder / n).read_text() for n in ("go_runtime.h", "go_runtime.c")}


def scratch_per_thread(program: Program) -> int:
    """Bytes of workspace each thread gets."""
    return max(map(scratch_bytes, program.kernels), default=0)


# Text ------------------------------------------------------------------------------------------


def _source(
    program: Program, target: Target, prefix: str, aliased: Mapping[str, frozenset[str]]
) -> str:
    layout = WeightLayout(program.weights)
    kernels = {k.name: k for k in program.kernels}
    digest = ", ".join(f"0x{b:02x}" for b in layout.digest)
    text = fill(
        templates.SOURCE,
        PROTOTYPES="\n".join(f"{prototype(k, aliased[k.name])};" for k in program.kernels),
        WEIGHT_BYTES=str(layout.size_bytes),
        WEIGHT_HEADER=str(HEADER_BYTES),
        ARENA_BYTES=str(program.arena_bytes),
        SCRATCH_BYTES=str(scratch_per_thread(program)),
        TENSORS=tensor_tables(program),
        CPU_CHECK=cpu_check(target),
        DIGEST=wrapped(digest, "    "),
        BODIES="\n\n".join(
            _body(n, c, kernels[c.kernel], layout) for n, c in enumerate(program.calls)
        ),
        TABLE="\n".join(_row(n, c, kernels[c.kernel], target) for n, c in enumerate(program.calls)),
        KEEP_STATE=templates.KEEP_STATE if program.states else "",
        STATES="\n".join(_state(program, i, o) for i, o in program.states),
        TARGET=f"{target.name} ({target.isa})",
    )
    return renamed(text, prefix)


def _body(n: int, call: KernelCall, kernel: Kernel, layout: WeightLayout) -> str:
    pointers = [
        _pointer(arg, buffer, buffer.name in kernel.outputs, layout)
        for buffer, arg in zip(kernel.params, call.args, strict=True)
    ]
    arguments = wrapped(", ".join([*pointers, "scratch", "begin", "end"]), "        ")
    head = f"static void call_{n}(const void *frame, char *scratch, int64_t begin, int64_t end) {{"
    return f"{head}\n    const memory *const m = frame;\n    {kernel.name}(\n{arguments});\n}}"


def _pointer(arg: Arg, buffer: Buffer, written: bool, layout: WeightLayout) -> str:
    ctype = C_TYPE[buffer.dtype] if written else f"const {C_TYPE[buffer.dtype]}"
    if arg.space is Space.WEIGHT:
        offset = layout.offsets[arg.index] + arg.offset
        return f"(const {C_TYPE[buffer.dtype]} *)(m->weights + {offset})"
    if arg.space is Space.ARENA:
        return f"({ctype} *)(m->arena + {arg.offset})"
    side = "in" if arg.space is Space.INPUT else "out"
    plus = f" + {arg.offset}" if arg.offset else ""
    if side == "out":
        return f"({ctype} *)((char *)m->out[{arg.index}]{plus})"
    return f"({ctype} *)((const char *)m->in[{arg.index}]{plus})"


def _row(n: int, call: KernelCall, kernel: Kernel, target: Target) -> str:
    cost = max(
        call.flops / (_FLOPS_PER_NS_AND_LANE * target.lanes_f32), call.bytes_moved / _BYTES_PER_NS
    )
    label = ", ".join(dict.fromkeys(loc.module or loc.source for loc in call.locs))
    label = c_string(label or call.kernel)
    extent, run = parallel_extent(kernel), parallel_run(kernel)
    return f'    {{call_{n}, {extent}, {run}, {int(cost)}, {label}, "{call.kernel}"}},'


def _state(program: Program, i: int, o: int) -> str:
    size = program.outputs[o].type.size_bytes
    return f"    keep_state(&m->memory, {i}, {o}, {size});"

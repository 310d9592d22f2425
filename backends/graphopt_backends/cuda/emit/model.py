"""model.cu and model.h: the calls of a program in order, behind a C interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import resources

from graphopt.artifact.layout import HEADER_BYTES, WeightLayout
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
from graphopt.program import KernelCall, Program
from graphopt.target import Target
from graphopt_backends.cuda.emit.calls import (
    call_body,
    compiled_calls,
    opened_calls,
    prototypes,
)
from graphopt_backends.cuda.emit.device import device_sources, template_sources
from graphopt_backends.cuda.emit.kernel import emit_kernel
from graphopt_backends.cuda.emit.launch import workspace_bytes
from graphopt_backends.cuda.emit.libraries import plan_functions, structure
from graphopt_backends.cuda.targets import is_emulated

_SHARED = (
    "go_runtime.h", "go_message.cpp", "go_file.h", "go_file.cpp", "go_matmul.h", "go_conv.h",
    "go_attention.h",
)  # fmt: skip
_LIBRARY = {
    "matmul": ("go_matmul.cpp", "go_cublaslt"),
    "conv": ("go_conv.cpp", "go_cudnn"),
    "attention": ("go_attention.cpp", "go_cudnn_graph"),
}
"""What makes each function's calls, and the library as that knows it: a header, and what opens or
emulates it."""
_EMULATION = ("go_runtime_emulated.h", "go_runtime_emulated.cpp")

_KEEP_STATE = """\
/* State is updated in place: where the caller has it elsewhere afterwards, it is moved first. */
static void keep_state(frame *m, int input, int output) {
    if (m->out[output] == NULL) m->out[output] = (void *)(uintptr_t)m->in[input];
}

static int move_state(const frame *m, int input, int output, size_t bytes, go_stream stream) {
    if (m->out[output] == m->in[input]) return GO_OK;
    return go_copy(m->out[output], m->in[input], bytes, stream);
}
"""


def emit(program: Program, target: Target, prefix: str = PREFIX) -> Mapping[str, str]:
    """Every source file of a model by name: model.h, model.cu, the runtime, one file per kernel.

    `prefix` begins every exported name, so that several models link into one program.
    Raises: IRError when a kernel cannot be CUDA C++.
    """
    files = {
        "model.h": renamed(header(_text("model", "model.h.in"), program, target), prefix),
        "model.cu": renamed(_source(program, target), prefix),
        **device_sources(),
        **runtime_sources(program, target),
    }
    for kernel in program.kernels:
        locs = [loc for c in program.calls if c.kernel == kernel.name for loc in c.locs]
        aliased = aliased_parameters(kernel, program)
        files[f"{kernel.name}.cu"] = emit_kernel(kernel, target, locs=locs, aliased=aliased)
    compiled = compiled_calls(program)
    files.update((f"{name}.cu", library.source) for name, library in compiled.items())
    return {**files, **(template_sources() if compiled else {})}


def runtime_sources(program: Program, target: Target) -> dict[str, str]:
    """The fixed files that a model is linked with: on the CUDA runtime, or in emulation."""
    names, emulated = list(_SHARED), is_emulated(target)
    for function in sorted({call.function for call in opened_calls(program)}):
        calls, library = _LIBRARY[function]
        names += [calls, f"{library}.h"]
        opened = (f"{library}.cpp", "go_library.h", "go_library.cpp")
        names += (f"{library}_emulated.cpp", "go_half.h") if emulated else opened
    return {**plain_runtime(target), **_runtime_files(names)}


def plain_runtime(target: Target) -> dict[str, str]:
    """Of these, what knows the device alone."""
    own = _EMULATION if is_emulated(target) else ("go_runtime.cu",)
    return _runtime_files(("go_runtime.h", "go_message.cpp", *own))


def _runtime_files(names: Iterable[str]) -> dict[str, str]:
    return {name: _text("runtime", name) for name in dict.fromkeys(names)}


def _text(folder: str, name: str) -> str:
    return (resources.files("graphopt_backends.cuda") / folder / name).read_text()


def _source(program: Program, target: Target) -> str:
    layout = WeightLayout(program.weights)
    digest = ", ".join(f"0x{b:02x}" for b in layout.digest)
    structures, compiled = opened_calls(program), compiled_calls(program)
    spacious = {k.name for k in program.kernels if workspace_bytes(k)}
    bodies = (call_body(n, c, layout, structures, spacious) for n, c in enumerate(program.calls))
    return fill(
        _text("model", "model.cu.in"),
        PROTOTYPES=prototypes(program),
        WEIGHT_BYTES=str(layout.size_bytes),
        WEIGHT_HEADER=str(HEADER_BYTES),
        ARENA_BYTES=str(-(-program.arena_bytes // 256) * 256),
        WORKSPACE_BYTES=str(program.scratch_bytes),
        CODE=_code(target, later=not compiled),
        PLANS=str(len(structures)),
        DIGEST=wrapped(digest, "    "),
        TENSORS=tensor_tables(program),
        STRUCTURES="\n".join(structure(n, s) for n, s in enumerate(structures)),
        PLAN_FUNCTIONS=plan_functions(structures, tuple(compiled)),
        BODIES="\n\n".join(bodies),
        TABLE="\n".join(_row(n, c) for n, c in enumerate(program.calls)),
        KEEP_STATE=_KEEP_STATE if program.states else "",
        STATES="\n".join(f"    keep_state(now, {i}, {o});" for i, o in program.states),
        STATE_COPIES="".join(_state_copies(program)),
        TARGET=f"{target.name} ({target.isa})",
    )


def _code(target: Target, later: bool) -> str:
    """What devices the code is for: the fields of `go_code`. What is emulated is sm_90a. `later`:
    there is PTX of everything."""
    number = "90a" if is_emulated(target) else target.isa.removeprefix("sm_")
    exact = number.endswith("a")
    number = number.removesuffix("a")
    return f"{number}, {int(exact)}, {number if later else 0}"


def _row(n: int, call: KernelCall) -> str:
    label = ", ".join(dict.fromkeys(loc.module or loc.source for loc in call.locs))
    return f'    {{call_{n}, {c_string(label or call.kernel)}, "{call.kernel}"}},'


def _state_copies(program: Program) -> Iterator[str]:
    for i, o in program.states:
        size = program.outputs[o].type.size_bytes
        yield f"    if (!error) error = move_state(m, {i}, {o}, {size}, stream);\n"

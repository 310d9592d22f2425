"""The calls of a program as C functions of a `frame`, which has pointers: `in[]`, `out[]`,
`weights`, `arena`, `workspace`, and `plans` of libraries."""

from __future__ import annotations

from collections.abc import Container, Sequence

from graphopt.artifact.layout import WeightLayout
from graphopt.lower.interface import wrapped
from graphopt.program import Arg, KernelCall, LibraryCall, Program, Space
from graphopt_backends.cuda.emit.libraries import call_plan


def compiled_calls(program: Program) -> dict[str, LibraryCall]:
    """The calls whose code is in the model, by the name of it."""
    found = ((c.kernel, c.library) for c in program.calls)
    return {name: library for name, library in found if library and library.source}


def opened_calls(program: Program) -> list[LibraryCall]:
    """The different calls of libraries that are opened at run time: each has a plan."""
    calls = (c.library for c in program.calls)
    return list(dict.fromkeys(c for c in calls if c and not c.source))


def prototype(name: str) -> str:
    return f'extern "C" int {name}_launch(go_stream stream, void *const *p);'


def prototypes(program: Program) -> str:
    """What a program's calls are made of: kernels, and libraries that are compiled with it."""
    compiled = compiled_calls(program)
    return "\n".join(
        [
            *(prototype(k.name) for k in program.kernels),
            *(prototype(name) for name in compiled),
            *(f'extern "C" int {name}_plan(size_t *workspace);' for name in compiled),
        ]
    )


def call_body(
    n: int, call: KernelCall, layout: WeightLayout, plans: Sequence[LibraryCall],
    spacious: Container[str],
) -> str:  # fmt: skip
    """A call as a function; kernels in `spacious` take the workspace, too."""
    head = f"static int call_{n}(const frame *m, go_stream stream) {{"
    pointers = [_pointer(arg, layout) for arg in call.args]
    if call.library is not None and not call.library.source:
        return f"{head}\n    {call_plan(call.library, plans.index(call.library), pointers)}\n}}"
    pointers += ["m->workspace"] if call.library or call.kernel in spacious else []
    listed = wrapped(", ".join(pointers), "        ")
    launch = f'    return go_launched({call.kernel}_launch(stream, p),\n        "{call.kernel}");'
    return f"{head}\n    void *const p[] = {{\n{listed}}};\n{launch}\n}}"


def _pointer(arg: Arg, layout: WeightLayout) -> str:
    if arg.space is Space.WEIGHT:
        return f"(void *)(m->weights + {layout.offsets[arg.index] + arg.offset})"
    if arg.space is Space.ARENA:
        return f"m->arena + {arg.offset}"
    side = f"m->in[{arg.index}]" if arg.space is Space.INPUT else f"m->out[{arg.index}]"
    return f"(char *){side} + {arg.offset}" if arg.offset else f"(void *){side}"

"""The text of model.cu that prepares and makes calls of vendor libraries. Those that are compiled
with the model are launched as kernels are, with the workspace after their results."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.lower.interface import wrapped
from graphopt.program import LibraryCall

_ROLES = {
    "matmul": ("a", "b", "bias", "c", "d"),
    "conv": ("x", "w", "bias", "z", "y"),
    "attention": ("q", "k", "v", "mask", "y"),
}
"""The pointers of each function, in its order; the last is the result, `bias`, `mask` and the one
after `bias` may be left out."""


def structure(n: int, call: LibraryCall) -> str:
    """What plan `n` computes, as the runtime is told."""
    fields = ", ".join(f".{name} = {value}" for name, value in call.fields)
    return f"static const go_{call.function} planned_{n} = {{\n{wrapped(fields, '    ')}}};"


def plan_functions(calls: Sequence[LibraryCall], compiled: Sequence[str] = ()) -> str:
    """`make_plans`, which opens libraries and lets them choose algorithms, and `destroy_plans`.
    `compiled` are the names of calls that are in the model, and need a workspace."""
    opened = sorted({c.function for c in calls})
    unused = [] if calls else ["    (void)plans;"]
    lines = [
        "static int make_plans(void **plans, int device, size_t *workspace) {",
        "    int error = GO_OK;",
        *(unused and ["    (void)plans, (void)device, (void)workspace;"]),
        *(line for name in compiled for line in _planned(name)),
        *(f"    if (!error) error = go_{name}_open(device);" for name in opened),
    ]
    for n, call in enumerate(calls):
        kind = f"go_{call.function}"
        lines += [
            "    if (!error) {",
            "        size_t bytes = MOST_WORKSPACE;",
            f"        error = {kind}_create(({kind}_plan **)&plans[{n}], device, &planned_{n},"
            " &bytes);",
            "        if (!error && bytes > *workspace) *workspace = bytes;",
            "    }",
        ]
    lines += ["    return error;", "}", "", "static void destroy_plans(void **plans) {", *unused]
    for n, call in enumerate(calls):
        kind = f"go_{call.function}"
        lines.append(f"    {kind}_destroy(({kind}_plan *)plans[{n}]);")
    return "\n".join([*lines, "}"])


def _planned(name: str) -> list[str]:
    return [
        "    if (!error) {",
        "        size_t bytes = 0;",
        f'        error = go_launched({name}_plan(&bytes), "{name}");',
        "        if (!error && bytes > *workspace) *workspace = bytes;",
        "    }",
    ]


def call_plan(call: LibraryCall, n: int, pointers: Sequence[str]) -> str:
    """The statement that runs plan `n`."""
    given = {
        role: pointer
        for roles, pointer in zip(call.roles, pointers, strict=True)
        for role in roles.split("+")  # one tensor may be several
    }
    kind = f"go_{call.function}"
    ordered = [given.get(role, "NULL") for role in _ROLES[call.function]]
    listed = ",\n        ".join([f"(const {kind}_plan *)m->plans[{n}]", *ordered])
    return f"return {kind}_run({listed},\n        m->workspace, stream);"

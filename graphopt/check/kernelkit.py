"""The test kit for kernel passes: what goes in and what must come out, as kernel text.

check_kernel_pass("unroll-short-loops", before="..", after="..")
check_kernel_refuses("vectorize-innermost", "..", reason="is not contiguous")
"""

from __future__ import annotations

from graphopt.check.kernel_gate import KernelNumericsGate
from graphopt.errors import PluginError
from graphopt.kernel.ir import Kernel
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.passbase import KernelContext, KernelEvent, KernelPass
from graphopt.kernel.pipeline import KernelPipeline
from graphopt.kernel.text import print_kernel
from graphopt.kernel.verify import verify_kernel
from graphopt.target import Target

Source = str | Kernel


def check_kernel_pass(
    pass_: str | KernelPass,
    before: Source,
    after: Source | None = None,
    *,
    target: Target | None = None,
    idempotent: bool = True,
) -> Kernel:
    """Run a kernel pass on `before` as strictly as possible and return what it made.

    Parses and verifies; runs the pass; verifies the result; compares its text with `after`, if
    given; holds the pass to its numerics in the interpreter; and, with `idempotent`, runs it on its
    own result, which must stay as it is. Without `after` the pass must change something. `pass_` is
    a pass or its text, such as `unroll-short-loops{limit=4}`.

    Raises: AssertionError where the result is not what the test expects; PluginError and GateError
    where the pass breaks its promises.
    """
    pipeline, kernel = _pipeline(pass_), _kernel(before)
    result = _run(pipeline, kernel, KernelContext(target))
    if after is not None:
        _expect(pipeline, "it made", result, _kernel(after))
    else:
        assert print_kernel(result) != print_kernel(kernel), f"{pipeline} changed nothing"
    if idempotent:
        again = _run(pipeline, result, KernelContext(target))
        _expect(pipeline, "run on its own result, it made", again, result)
    return result


def check_kernel_refuses(
    pass_: str | KernelPass, kernel: Source, reason: str, *, target: Target | None = None
) -> KernelEvent:
    """The pass leaves the kernel as it is, for a reason that contains `reason`.

    Returns the refusal.
    Raises: AssertionError otherwise.
    """
    pipeline, before = _pipeline(pass_), _kernel(kernel)
    ctx = KernelContext(target, record=True)
    _expect(pipeline, "it made", _run(pipeline, before, ctx), before)
    refusals = [e for e in ctx.events if e.reason]
    for event in refusals:
        if reason in event.reason:
            return event
    given = "; ".join(dict.fromkeys(e.reason for e in refusals)) or "it looked at no loop"
    raise AssertionError(f"{pipeline} refused, but not because {reason!r}: {given}")


def _pipeline(pass_: str | KernelPass) -> KernelPipeline:
    pipeline = KernelPipeline.parse(pass_) if isinstance(pass_, str) else KernelPipeline.of([pass_])
    if len(pipeline.stages) != 1:
        raise PluginError(f"{pass_!r} is not one kernel pass", hint="check passes one at a time")
    return pipeline


def _kernel(source: Source) -> Kernel:
    kernel = parse_kernel(source) if isinstance(source, str) else source
    verify_kernel(kernel)
    return kernel


def _run(pipeline: KernelPipeline, kernel: Kernel, ctx: KernelContext) -> Kernel:
    return pipeline.run(kernel, ctx, gate=KernelNumericsGate())


def _expect(pipeline: KernelPipeline, what: str, result: Kernel, expected: Kernel) -> None:
    got, wanted = print_kernel(result), print_kernel(expected)
    assert got == wanted, f"{pipeline}: {what}\n{got}\nexpected was\n{wanted}"

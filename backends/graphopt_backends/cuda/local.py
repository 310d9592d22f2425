"""The GPU of this machine, asked through the driver."""

from __future__ import annotations

from functools import cache

from graphopt.errors import GraphoptError
from graphopt.target import Target
from graphopt_backends.cuda.driver import Driver, Gpu
from graphopt_backends.cuda.targets import TARGETS

_DEFAULT = "sm_90a"

_ELSEWHERE = "tune on a machine with such a GPU; cuda:emulated runs here, to see that it goes"


@cache
def local_target() -> Target:
    """The row that fits the first GPU best: of its generation, and not above it. Without a GPU, or
    for one older than all rows, the default row."""
    found = _capability()
    if found is None:
        return TARGETS[_DEFAULT]
    fitting = [row for row in TARGETS.values() if _runs_on(row, found)]
    return max(fitting, key=lambda row: _number(row), default=TARGETS[_DEFAULT])


def _runs_on(row: Target, capability: int) -> bool:
    """`sm_90a` is for 9.0 alone, others for later GPUs of their generation."""
    number = _number(row)
    if row.isa.endswith("a"):
        return number == capability
    return number // 10 == capability // 10 and number <= capability


def _number(row: Target) -> int:
    digits = row.isa.removeprefix("sm_").removesuffix("a")
    return int(digits) if digits.isdecimal() else 0


def _capability() -> int | None:
    """90 is 9.0; None without a driver or a GPU."""
    found = _gpu()
    return found.capability if found else None


def _gpu() -> Gpu | None:
    try:
        return Driver().gpu()
    except GraphoptError:
        return None


def describe_gpu() -> str:
    """What times depend on: the GPU, its multiprocessors, the driver. Without a GPU, which is no
    mistake where code is only compiled: that there is none."""
    found = _gpu()
    return f"{found.name} SMs={found.sms} driver={found.driver}" if found else "no GPU"


def check_gpu(target: Target) -> None:
    """Raises: GraphoptError when there is no GPU here that runs the target's code. One that is
    later than compiled for does: there is PTX."""
    here = f"{target.backend}:{target.name} cannot be timed here"
    try:
        found = Driver().gpu()
    except GraphoptError as error:
        raise GraphoptError(f"{here}: {error.message}", hint=_ELSEWHERE) from error
    if found.capability < _number(target):
        has, needs = (f"{n // 10}.{n % 10}" for n in (found.capability, _number(target)))
        why = f"{found.name} has compute capability {has}, the target needs {needs}"
        raise GraphoptError(f"{here}: {why}", hint="tune for this GPU: --target cuda")

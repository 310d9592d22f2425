"""The GPU of this machine, asked through the driver."""

from __future__ import annotations

import ctypes
from functools import cache

from graphopt.target import Target
from graphopt_backends.cuda.targets import TARGETS

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*."""

_DEFAULT = "sm_90a"


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
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    for value, attribute in ((major, _MAJOR), (minor, _MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return None
    return 10 * major.value + minor.value

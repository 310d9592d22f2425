"""Fixtures for tests of passes: the functions that `graphopt.check` gives plugin authors. Tests
marked by what they need are skipped where it is not there."""

from __future__ import annotations

import ctypes
import gc
import shutil
from collections.abc import Callable

import pytest

from graphopt import check, collector


def _there_is_a_gpu() -> bool:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write what is emitted now as golden files"
    )
    parser.addoption("--gpu-artifacts", metavar="DIR", help="made by tests/gpu/prepare.py")
    parser.addoption(
        "--full-size", action="store_true", help="every model with all its layers: minutes more"
    )
    parser.addoption(
        "--emulate-all", action="store_true", help="every model on the emulated GPU: 20 minutes"
    )


def pytest_configure() -> None:
    gc.set_threshold(*collector.SELDOM)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {}
    if shutil.which("nvcc") is None:
        missing["nvcc"] = "there is no nvcc on the PATH"
    if not _there_is_a_gpu():
        missing["gpu"] = "there is no NVIDIA GPU"
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def check_pass() -> Callable[..., object]:
    return check.check_pass


@pytest.fixture(scope="session")
def check_refuses() -> Callable[..., object]:
    return check.check_refuses
